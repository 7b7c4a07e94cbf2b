"""Releases and cancels of many are rows beside the replays. The version before goes on with replays alone."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None
CHANGES = ("replay",)


def upgrade() -> None:
    op.add_column("replay", sa.Column("action", sa.String(), nullable=False, server_default="replay"))
    op.add_column("replay", sa.Column("next_at", sa.BigInteger(), nullable=True))
