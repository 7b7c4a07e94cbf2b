"""Reorders, their orders, and the stock that was seen. Three new tables, of which the version before knows nothing."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None
CHANGES = ()
OPEN = "closed_at IS NULL"


def upgrade() -> None:
    # As in 0005: left where a dump from before went over them.
    for name in ("reorder", "reorder_order", "stock_seen"):
        op.drop_table(name, if_exists=True)
    _reorder()
    _order()
    op.create_table(
        "stock_seen",
        sa.Column("store", sa.String(), nullable=False),
        sa.Column("sku", sa.Text(), nullable=False),
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("stock", sa.BigInteger(), nullable=True),
        sa.Column("threshold", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("store", "sku", "location", "at"),
    )
    op.create_index("stock_seen_at", "stock_seen", ["at"])


def _reorder() -> None:
    op.create_table(
        "reorder",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("store", sa.String(), nullable=False),
        sa.Column("sku", sa.Text(), nullable=False),
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("supplier", sa.Text(), nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("stock", sa.BigInteger(), nullable=True),
        sa.Column("threshold", sa.BigInteger(), nullable=True),
        sa.Column("unit_price", sa.Text(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("product_id", sa.Text(), nullable=True),
        sa.Column("variant_id", sa.Text(), nullable=True),
        sa.Column("more", sa.Text(), nullable=True),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("closes_at", sa.BigInteger(), nullable=False),
        sa.Column("order_id", sa.String(), nullable=True),
        sa.Column("sent_at", sa.BigInteger(), nullable=True),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.Column("closed_by", sa.Text(), nullable=True),
        sa.Column("why", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    _some("reorder_once", "reorder", ["store", "sku", "location"], OPEN, unique=True)
    _some("reorder_waiting", "reorder", ["due_at"], f"order_id IS NULL AND {OPEN}")
    _some("reorder_closing", "reorder", ["closes_at"], OPEN)
    op.create_index("reorder_of_order", "reorder", ["order_id"])


def _order() -> None:
    op.create_table(
        "reorder_order",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("store", sa.String(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("supplier", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("delivery_id", sa.String(), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.Text(), nullable=True),
        sa.Column("counted_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("number", sa.Text(), nullable=True),
        sa.Column("url", sa.Text(), nullable=True),
        sa.Column("told_at", sa.BigInteger(), nullable=True),
        sa.Column("reminded_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("event_id"),
        sa.UniqueConstraint("delivery_id"),
    )
    _some("reorder_order_open", "reorder_order", ["delivery_id"], "ended_at IS NULL")
    _some("reorder_order_spent", "reorder_order", ["route", "counted_at"], "counted_at IS NOT NULL")


def _some(name: str, table: str, columns: list[str], where: str, *, unique: bool = False) -> None:
    """An index over the rows of that condition alone."""
    rows = sa.text(where)
    op.create_index(name, table, columns, unique=unique, sqlite_where=rows, postgresql_where=rows)
