"""Alerts and sessions. The version before goes on working beside it: what is new has defaults or may be empty."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None
CHANGES = ("delivery", "route_state", "stat")


def upgrade() -> None:
    # pg_restore removes what is in its dump and nothing else: these are left where one from before went over them.
    op.drop_table("alert", if_exists=True)
    op.drop_table("session", if_exists=True)
    op.create_table(
        "alert",
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.Column("summary_at", sa.BigInteger(), nullable=True),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("seen", sa.Integer(), nullable=False),
        sa.Column("entities", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("kind", "name", "label"),
    )
    op.create_table(
        "session",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("mark", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("remote", sa.Text(), nullable=True),
        sa.Column("agent", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.add_column("delivery", sa.Column("alerted", sa.Integer(), nullable=False, server_default="-1"))
    op.add_column("route_state", sa.Column("alerted_at", sa.BigInteger(), nullable=True))
    # Milliseconds summed over an hour, and over all hours, outgrow four bytes.
    with op.batch_alter_table("stat") as stat:
        stat.alter_column("count", type_=sa.BigInteger(), existing_type=sa.Integer(), existing_nullable=False)
    untold = sa.text("status = 'dead' AND alerted <> attempts")
    op.create_index("delivery_untold", "delivery", ["route"], sqlite_where=untold, postgresql_where=untold)
