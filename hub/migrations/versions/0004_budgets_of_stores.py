"""The hour of requests that each store allows. The version before does not know it, and asks no store anything."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None
CHANGES = ()


def upgrade() -> None:
    # As in 0002: left where a dump from before went over it.
    op.drop_table("store_budget", if_exists=True)
    op.create_table(
        "store_budget",
        sa.Column("store", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("allowed", sa.Integer(), nullable=True),
        sa.Column("ends_at", sa.BigInteger(), nullable=True),
        sa.Column("told", sa.Boolean(), nullable=False),
        sa.Column("refused", sa.Boolean(), nullable=False),
        sa.Column("given", sa.Integer(), nullable=False),
        sa.Column("remaining", sa.Integer(), nullable=True),
        sa.Column("held", sa.Text(), nullable=True),
        sa.Column("spent", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("store"),
    )
