"""Effects: facts about what was done out there, committed before a connector goes on."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from hub.connector import Effect
from hub.store import EFFECT, is_postgres


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
    insert = postgresql.insert(EFFECT) if is_postgres(connection) else sqlite.insert(EFFECT)
    for item in sorted(items, key=lambda effect: (effect.scope, effect.name)):
        row = insert.values(
            scope=item.scope, name=item.name, delivery_id=item.delivery_id, value=item.value, url=item.url, at=now
        )
        fresh = {name: row.excluded[name] for name in ("delivery_id", "value", "url", "at")}
        connection.execute(row.on_conflict_do_update(index_elements=["scope", "name"], set_=fresh))
    return [None] * len(items)


def get_effect(connection: Connection, scope: str, name: str) -> Effect | None:
    """The effect of that name, if there is one."""
    row = connection.execute(select(EFFECT).where(EFFECT.c.scope == scope, EFFECT.c.name == name)).first()
    return None if row is None else Effect(row.value, row.url)


def has_effect(connection: Connection, scope: str) -> bool:
    """Whether anything was done under that key."""
    return connection.execute(select(EFFECT.c.name).where(EFFECT.c.scope == scope).limit(1)).first() is not None
