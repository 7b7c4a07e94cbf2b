"""How a migration gets the tables it changes while the version before goes on using them."""

import time

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from hub.database import Conflict, translated
from hub.errors import Unavailable

# Less than PostgreSQL's deadlock_timeout: where two would wait for each other it is the migration that lets go.
TRY = "500ms"
PAUSE = 0.1
WITHIN = 60.0


def take(connection: Connection, *names: str, within: float = WITHIN) -> None:
    """Lock these tables against everybody until the transaction ends: all of them, or none while it waits.

    A claim locks its route and then wants its deliveries, a repeat begins with deliveries: no order suits all. And
    whoever waits for such a lock holds up all who come after, so each try is short. The limit of a try stays: a
    migration that alters what it did not name gives up too, rather than wait. SQLite has one writer anyway.
    Raises Unavailable after `within` seconds.
    """
    if connection.dialect.name != "postgresql":
        return
    deadline = time.monotonic() + within
    while not _taken(connection, names):
        if time.monotonic() > deadline:
            raise Unavailable(f"{', '.join(names)}: in use by others for {within:.0f} s; end the dump, or what it is")
        time.sleep(PAUSE)


def _taken(connection: Connection, names: tuple[str, ...]) -> bool:
    try:
        with connection.begin_nested():
            connection.execute(text("SELECT set_config('lock_timeout', :within, true)"), {"within": TRY})
            connection.execute(text(f"LOCK TABLE {', '.join(names)}"))
    except DBAPIError as error:
        if not isinstance(translated(error), Conflict):
            raise
        return False
    return True
