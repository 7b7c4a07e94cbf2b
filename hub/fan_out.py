"""From kept events to deliveries: which routes each takes, decided by hub.routing, written by hub.store."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import structlog
from sqlalchemy import Row

from hub.config import RESERVED_STORE
from hub.database import Conflict
from hub.deliver import event_of
from hub.errors import Unavailable
from hub.event import STATE_EVENTS, search_keys
from hub.routing import route_alert, route_change, route_event
from hub.runtime import Hub
from hub.store.events import POLLED
from hub.store.fan_out import Plan, Planned, waiting_events, write_plans

MOST = 100
# Seconds of the processor after which what is planned is written: the rest of a batch may hold slow conditions.
PLANNING = 0.25
Planner = Callable[[Row[Any]], Plan]
log = structlog.get_logger()


def planner(hub: Hub) -> Planner:
    """Decides where an event's row goes, under the present config."""
    routes = hub.config.routes

    def plan(row: Row[Any]) -> Plan:
        document = orjson.loads(bytes(row.body))
        data = document["data"]
        if row.store == RESERVED_STORE:
            routing = route_alert(hub.config, data)
        elif row.origin == POLLED and row.type in STATE_EVENTS:
            routing = route_change(routes, event_of(row), data)
        else:
            routing = route_event(routes, event_of(row), data)
        keys = search_keys(row.type, row.entity, data)
        return Plan(routing.taken, routing.not_taken, routing.broken, keys)

    return plan


def plan_events(rows: Sequence[Row[Any]], plan: Planner) -> Planned:
    """The plans of the first of these events, at least of one: of as many as can be worked out in PLANNING."""
    planned, ends = [], time.thread_time() + PLANNING
    for row in rows:
        planned.append((row, plan(row)))
        if time.thread_time() > ends:
            break
    return planned


async def fan_out_waiting(hub: Hub) -> int:
    """Fan out the oldest events; how many were looked at. A batch that fails is done event by event."""
    rows = await hub.database.read(lambda connection: waiting_events(connection, MOST))
    if not rows:
        return 0
    try:
        return await _fan_out(hub, rows)
    except (Unavailable, Conflict):
        raise
    except Exception as error:
        log.warning("fan_out.one_by_one", error=type(error).__name__)
    for row in rows:
        try:
            await _fan_out(hub, [row])
        except (Unavailable, Conflict):
            raise
        except Exception as error:
            await _bury(hub, row, error)
    return len(rows)


async def _fan_out(hub: Hub, rows: Sequence[Row[Any]]) -> int:
    # On a thread of its own: conditions may be slow, and this one answers webhooks.
    planned = await asyncio.to_thread(plan_events, rows, planner(hub))
    terms = hub.terms()
    routes = await hub.database.write(
        lambda connection: write_plans(connection, hub.now(), planned, terms, hub.worker_id)
    )
    hub.bells.ring(*(f"deliver:{route}" for route in routes))
    return len(planned)


async def _bury(hub: Hub, row: Row[Any], error: Exception) -> None:
    """Dead deliveries on every route it may be meant for, with the reason, for an event that cannot be fanned out."""
    reason = f"fan-out failed: {type(error).__name__}"
    log.error("fan_out.failed", event_id=row.id, error=type(error).__name__)
    meant = hub.config.alerts if row.store == RESERVED_STORE else hub.config.routes
    buried = [(row, Plan([], {}, dict.fromkeys(meant, reason)))]
    await hub.database.write(lambda c: write_plans(c, hub.now(), buried, hub.terms(), hub.worker_id))
