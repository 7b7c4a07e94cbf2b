"""From kept events to deliveries: which routes each takes, decided by hub.routing, written by hub.store."""

from typing import Any

import orjson
import structlog
from sqlalchemy import Row

from hub.config import RESERVED_STORE
from hub.database import Conflict
from hub.deliver import event_of
from hub.errors import Unavailable
from hub.event import search_keys
from hub.routing import route_alert, route_event
from hub.runtime import Hub
from hub.store.fan_out import Plan, Planner, fan_out, give_up, one_event, waiting_ids

MOST = 100
log = structlog.get_logger()


def planner(hub: Hub) -> Planner:
    """Decides where an event's row goes, under the present config."""
    routes = hub.config.routes

    def plan(row: Row[Any]) -> Plan:
        document = orjson.loads(bytes(row.body))
        data = document["data"]
        own = row.store == RESERVED_STORE
        routing = route_alert(hub.config, data) if own else route_event(routes, event_of(row), data)
        keys = search_keys(row.type, row.entity, data)
        return Plan(routing.taken, routing.not_taken, routing.broken, keys)

    return plan


async def fan_out_waiting(hub: Hub) -> int:
    """Fan out the oldest events; how many there were. A batch that fails is done event by event."""
    plan, terms = planner(hub), hub.terms()
    try:
        count, routes = await hub.database.write(lambda c: fan_out(c, hub.now(), MOST, plan, terms))
    except (Unavailable, Conflict):
        raise
    except Exception as error:
        log.warning("fan_out.one_by_one", error=type(error).__name__)
        return await _one_by_one(hub)
    hub.bells.ring(*(f"deliver:{route}" for route in routes))
    return count


async def _one_by_one(hub: Hub) -> int:
    waiting = await hub.database.read(lambda connection: waiting_ids(connection, MOST))
    for event_id in waiting:
        try:
            await _fan_out_one(hub, event_id)
        except (Unavailable, Conflict):
            raise
        except Exception as error:
            await _bury(hub, event_id, error)
    return len(waiting)


async def _fan_out_one(hub: Hub, event_id: str) -> None:
    plan, terms = planner(hub), hub.terms()
    routes = await hub.database.write(lambda connection: one_event(connection, hub.now(), event_id, plan, terms))
    hub.bells.ring(*(f"deliver:{route}" for route in routes))


async def _bury(hub: Hub, event_id: str, error: Exception) -> None:
    """Dead deliveries on every route it may be meant for, with the reason, for an event that cannot be fanned out."""
    reason = f"fan-out failed: {type(error).__name__}"
    log.error("fan_out.failed", event_id=event_id, error=type(error).__name__)

    def buried(row: Row[Any]) -> Plan:
        meant = hub.config.alerts if row.store == RESERVED_STORE else hub.config.routes
        return Plan([], {}, dict.fromkeys(meant, reason))

    await hub.database.write(lambda connection: give_up(connection, hub.now(), event_id, buried, hub.terms()))
