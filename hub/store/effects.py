"""Effects: facts about what was done out there, committed before a connector goes on."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from hub.connector import Effect
from hub.store import EFFECT
from hub.store.wide import insert_rows

COLUMNS = ("scope", "name", "delivery_id", "value", "url", "at")
NEWER = f"ON CONFLICT (scope, name) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in COLUMNS[2:])}"


@dataclass(frozen=True, slots=True)
class NewEffect:
    """`scope`: a delivery's key, or `entity_scope`."""

    scope: str
    name: str
    delivery_id: str
    value: str
    url: str | None


def entity_scope(store: str, route: str, entity: str | None, delivery_id: str) -> str:
    """The scope of an entity's effects on a route; an event without entity has only its own."""
    return f"{store}/{route}/{entity or delivery_id}"


def put_effects(connection: Connection, now: datetime, items: Sequence[NewEffect]) -> list[None]:
    """Keep effects; a name that is there already takes the newer value."""
    rows = {
        (item.scope, item.name): (item.scope, item.name, item.delivery_id, item.value, item.url, now) for item in items
    }
    insert_rows(connection, EFFECT, COLUMNS, [rows[key] for key in sorted(rows)], NEWER)
    return [None] * len(items)


def get_effect(connection: Connection, scope: str, name: str) -> Effect | None:
    """The effect of that name, if there is one."""
    row = connection.execute(select(EFFECT).where(EFFECT.c.scope == scope, EFFECT.c.name == name)).first()
    return None if row is None else Effect(row.value, row.url)
