"""Catching up, and the webhooks' registrations. Two new tables, of which the version before knows nothing."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None
CHANGES = ()


def upgrade() -> None:
    # pg_restore removes what is in its dump and nothing else: these are left where one from before went over them.
    op.drop_table("catch_up", if_exists=True)
    op.drop_table("registrations", if_exists=True)
    op.create_table(
        "catch_up",
        sa.Column("store", sa.String(), nullable=False),
        sa.Column("resource", sa.String(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("seen_to", sa.BigInteger(), nullable=False),
        sa.Column("polled_at", sa.BigInteger(), nullable=True),
        sa.Column("failing_since", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("lease_by", sa.String(), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.Column("alerted_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("store", "resource"),
    )
    op.create_table(
        "registrations",
        sa.Column("store", sa.String(), nullable=False),
        sa.Column("ours", sa.Text(), nullable=True),
        sa.Column("looked_at", sa.BigInteger(), nullable=True),
        sa.Column("wrong", sa.Text(), nullable=True),
        sa.Column("wrong_since", sa.BigInteger(), nullable=True),
        sa.Column("alerted_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("store"),
    )
