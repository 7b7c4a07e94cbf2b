"""The history of the schema, for Alembic."""

# Any number does, as long as it is the same in all processes: only one of them makes or changes the schema.
LOCK = 7_265_012
