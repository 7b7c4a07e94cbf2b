"""F16-F18: a destination that hangs, breaks off, is down for long, asks for time, or refuses for good."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial

from sqlalchemy import Connection, func, select

from hub.store import ALERT, ATTEMPT, DELIVERY, ROUTE_STATE
from hub.testing import Answer, Received
from tests.e2e.ledger import marker_of
from tests.faults.cases import Case
from tests.faults.ledger import Channel, Mailbox, Plain
from tests.faults.stage import IN_FLIGHT, PATIENCE, Setting, Stage
from tests.servers import eventually

TIMEOUT = 1
# Until the hub has opened its connections and lines; what is slower then is not what "before" means.
WARM = 2.0
# Below this a doubling is a flush or two, or the other lane's start, not the hub's: a percentile of two hundred values
# is made by two of them.
NOISE = 0.25
OPENS_AFTER = 10
SWEEP = 5.0
JITTER = 1.2
BAD = {"retry": {"schedule": []}, "when": "data.bad | default(false)", "timeout": f"{TIMEOUT}s"}


def end_to_end(stage: Stage, began: float, ended: float) -> list[float]:
    """Seconds from post to arrival at each of the three other counterparts, of what was posted in that time."""
    posted = [(one.marker, one.at) for one in stage.store.answered if one.result == "acked" and began <= one.at < ended]
    arrivals = [other.arrivals for other in (stage.plain, stage.slack, stage.mail)]
    return sorted(arrived[marker] - at for marker, at in posted for arrived in arrivals if marker in arrived)


def p99(values: list[float]) -> float:
    return values[min(int(len(values) * 0.99), len(values) - 1)] if values else 0.0


async def hostile(mode: str, stage: Stage) -> None:
    """The ERP's wire goes bad in the midst of the load; nobody else notices, and all arrives once it is whole."""
    wire = stage.wire
    assert wire is not None
    await stage.start_all()
    stage.begin_load()
    await stage.under_load(WARM)
    began = time.time()
    await stage.under_load(stage.scale.load / 2)
    turned = time.time()
    await wire.become(mode)
    await stage.under_load(stage.scale.load / 2)
    healed = time.time()
    await stage.end_load()
    if mode != "closed":
        await stage.degraded("breaker of route erp")
    await wire.become("pass")
    await others_have_all(stage)
    isolated(stage, p99(end_to_end(stage, began, turned)), p99(end_to_end(stage, turned, healed)))
    longest = await stage.read(partial(longest_attempt, "erp"))
    stage.at_most("longest attempt", longest, TIMEOUT + 1)
    await stage.drained()
    await stage.sound_again()


async def others_have_all(stage: Stage) -> None:
    """Returns once whatever was acknowledged has come to the three that nothing was done to."""
    for other in (stage.plain, stage.slack, stage.mail):
        await eventually(partial(has_all, other, set(stage.store.acked)), PATIENCE)


def has_all(other: Plain | Channel | Mailbox, markers: set[str]) -> bool:
    return markers <= other.receipts.keys()


def isolated(stage: Stage, alone: float, beside: float) -> None:
    """The three other routes are not twice as slow as before the fault."""
    bound = max(2 * alone, NOISE)
    told = f"others' end-to-end p99 {beside * 1000:.0f} ms beside it, {alone * 1000:.0f} before"
    # Where "before" was slow already, the machine's slowness is in the bound.
    times = stage.slowness.times(stage.scale.load / 2) if bound == NOISE else 1.0
    stage.timely(beside, bound, told, f"{bound * 1000:.0f}", times)


def longest_attempt(route: str, connection: Connection) -> float:
    """Seconds that the longest attempt of a route took."""
    query = select(func.max(ATTEMPT.c.duration_ms)).join(DELIVERY, DELIVERY.c.id == ATTEMPT.c.delivery_id)
    return (connection.execute(query.where(DELIVERY.c.route == route)).scalar() or 0) / 1000


async def unreachable(stage: Stage) -> None:
    """An address without a name, and one that does not speak TLS: dead or held with a reason, nobody else notices."""
    await stage.start_all()
    stage.begin_load()
    await stage.under_load(WARM)
    began = time.time()
    await stage.under_load(stage.scale.load / 2)
    turned = time.time()
    for _ in range(3):
        await stage.store.send(bad=True)
    await stage.under_load(stage.scale.load / 2)
    healed = time.time()
    await stage.end_load()
    await stage.drained()
    isolated(stage, p99(end_to_end(stage, began, turned)), p99(end_to_end(stage, turned, healed)))
    stage.dead = None
    shown = await stage.dead_visible()
    stage.require(
        {name: len(shown.get(name, ())) for name in ("nameless", "plaintext")} == {"nameless": 3, "plaintext": 3},
        "no name, no TLS: 3 of 3 dead and shown, each",
    )
    for name in ("nameless", "plaintext"):
        stage.at_most(f"longest attempt ({name})", await stage.read(partial(longest_attempt, name)), TIMEOUT + 1)


async def storm(stage: Stage) -> None:
    """The plain sink answers 503 for long: it is left alone meanwhile, and gets all afterwards."""
    ill = Answer(503, b"not now")
    await stage.start_all()
    stage.begin_load()
    await stage.under_load(1)
    stage.plain.decide = lambda request: ill
    before, began = len(stage.plain.received), time.time()
    await stage.under_load(stage.scale.storm / 2)
    await stage.degraded("breaker of route plain")
    await stage.end_load()
    await asyncio.sleep(max(began + stage.scale.storm - time.time(), 0))
    tried = len(stage.plain.received) - before
    probes = probes_within(time.time() - began)
    bound = OPENS_AFTER + 2 * IN_FLIGHT + probes
    stage.require(
        tried <= bound,
        f"{tried} requests in {stage.scale.storm:g} s of 503 (allowed ≤ {bound}: 10 open the breaker, {2 * IN_FLIGHT}"
        f" in flight, {probes} probes)",
    )
    stage.plain.decide = None
    healed = time.monotonic()
    probe = await stage.read(partial(next_probe, "plain"))
    await stage.plain.took(set(stage.store.acked), max(probe, 0) + PATIENCE)
    stage.at_most("all delivered after it was well", time.monotonic() - healed, max(probe, 0) + 2 * SWEEP + 15)
    await stage.sound_again()


def probes_within(seconds: float) -> int:
    """How many probes an open breaker sends in that time: after 30 s, then twice as long each time, at most 15 min."""
    count, at, wait = 0, 30.0, 30.0
    while at <= seconds:
        count, wait = count + 1, min(wait * 2, 900)
        at += wait
    return count


def next_probe(route: str, connection: Connection) -> float:
    """Seconds until the open breaker is probed next."""
    row = connection.execute(select(ROUTE_STATE).where(ROUTE_STATE.c.route == route)).one()
    return (row.probe_at - datetime.now(UTC)).total_seconds() if row.opened_at else 0.0


async def flapping(stage: Stage) -> None:
    """Every other request is answered 503."""
    turn = iter(range(10**9))
    stage.plain.decide = lambda request: Answer(503) if next(turn) % 2 else Answer()
    await stage.start_all()
    stage.begin_load()
    await stage.under_load(stage.scale.load / 2)
    await stage.end_load()
    await stage.drained()
    refused = len(stage.plain.received) - len(stage.plain.taken)
    stage.require(refused > 0, f"{refused} answered 503, all delivered in the end")


async def asks_for_time(stage: Stage) -> None:
    """429 with Retry-After in seconds, as a date, far too long, and not to be read."""
    asked = 4
    values: dict[str, Callable[[], str]] = {
        "seconds": lambda: str(asked),
        "date": lambda: format_datetime(datetime.now(UTC) + timedelta(seconds=asked), usegmt=True),
        "garbage": lambda: "soon, I hope",
    }
    await stage.start_all()
    for name, value in values.items():
        await waits_as_asked(stage, name, value, 0.5 if name == "garbage" else asked)
    stage.plain.answer(Answer(429, headers={"Retry-After": "1000000000"}))
    far = await stage.store.send()
    state = await eventually(partial(stage.read, partial(stopped_for, "plain")), 30)
    stage.require(7190 < state <= 7200, f"Retry-After 10^9: the route stops for {state / 3600:.1f} h, not longer")
    # Nobody waits for two hours here: the route is resumed, and what was put off so far is called off.
    stage.meant = set(stage.store.acked) - {far}
    await stage.ask("resume", route="plain", who="case")
    waiting = await stage.ask("deliveries", status="pending", route="plain")
    await stage.ask("cancel", ids=[one["id"] for one in waiting["deliveries"]], who="case")
    await stage.sound_again(10)


async def waits_as_asked(stage: Stage, name: str, value: Callable[[], str], asked: float) -> None:
    """One is told to wait; it and the next come when that is over. What cannot be read counts as not said."""
    before = len(stage.plain.received)
    stage.plain.answer(Answer(429, headers={"Retry-After": value()}))
    markers = {await stage.store.send()}
    (refused,) = (await stage.plain.received.wait(before + 1, PATIENCE))[before:]
    if name != "garbage":
        await eventually(partial(stage.read, partial(stopped_for, "plain")), 30)
        markers.add(await stage.store.send())
    await stage.plain.took(markers, PATIENCE)
    waited = (stage.plain.received[before + 1].at - refused.at).total_seconds()
    # A date has no fractions of a second, and a wait by the schedule has its jitter.
    stage.require(
        0.8 * asked - 1 <= waited <= asked * JITTER + SWEEP,
        f"Retry-After ({name}): {asked:g} s, came again after {waited:.1f} s",
    )


def stopped_for(route: str, connection: Connection) -> float:
    """Seconds that the route is stopped for, 0 while it is not."""
    until = connection.execute(select(ROUTE_STATE.c.stopped_until).where(ROUTE_STATE.c.route == route)).scalar()
    return max((until - datetime.now(UTC)).total_seconds(), 0.0) if until else 0.0


async def for_good(stage: Stage) -> None:
    """400 and 410 are final at once, shown, told once, and brought back by a replay; 301 is tried again."""
    gone = {400: "b", 410: "g"}
    moved: set[str] = set()

    def decide(request: Received) -> Answer:
        data = request.json()["data"]
        if data.get("status") == "moved" and marker_of(request) not in moved:
            moved.add(marker_of(request))
            return Answer(301, headers={"Location": stage.erp.url})
        return Answer(data["gone"]) if "gone" in data and not healed else Answer()

    healed = False
    stage.plain.decide = decide
    await stage.start_all()
    stage.begin_load()
    await stage.under_load(1)
    markers = {await stage.store.send(gone=status) for status in gone for _ in range(2)}
    redirected = await stage.store.send("order.updated", status="moved")
    await stage.plain.took({redirected}, PATIENCE)
    await stage.end_load()
    await stage.drained()
    shown = (await stage.dead_visible()).get("plain", set())
    stage.require(shown == markers & set(stage.store.acked), f"{len(shown)} dead, shown")
    once = [request for request in stage.plain.received if marker_of(request) in markers]
    stage.require(len(once) == len(markers), f"tried {len(once)} times in all")
    told = await eventually(partial(stage.read, alerts_of_dead), 30)
    stage.require(told == len(gone), f"told once for each of {len(gone)} reasons")
    healed = True
    await stage.ask("replay.start", who="case", status="dead", route="plain")
    await stage.plain.took(markers & set(stage.store.acked), PATIENCE)
    stage.require(True, "replayed and delivered")


def alerts_of_dead(connection: Connection) -> int:
    """How many matters of dead deliveries were told."""
    return connection.execute(
        select(func.count()).select_from(ALERT).where(ALERT.c.name == "plain", ALERT.c.kind.like("%dead%"))
    ).scalar_one()


QUICK_ERP = Setting(routes={"erp": {"timeout": f"{TIMEOUT}s"}}, wired="erp")
UNREACHABLE = Setting(
    extra={
        "nameless": {"connector": "webhook", "settings": {"url": "http://no-such-host.invalid/"}, **BAD},
        "plaintext": {"connector": "webhook", "settings": {"url": "{tls}/"}, **BAD},
    },
    config={"network": {"allow": ["127.0.0.1:*", "localhost:*", "no-such-host.invalid:*"]}},
)
TELLING = Setting(
    extra={"telling": {"connector": "webhook", "settings": {"url": "{desk}"}, "events": ["none"]}},
    config={"alerts": ["telling"]},
)
DESTINATIONS = [
    Case(
        "F16", "hang", "a destination takes requests and does not answer", partial(hostile, "hang"), setting=QUICK_ERP
    ),
    Case("F16", "drip", "a destination answers 1 byte in 2 s", partial(hostile, "drip"), setting=QUICK_ERP),
    Case("F16", "cut", "a destination closes in the midst of its headers", partial(hostile, "cut"), setting=QUICK_ERP),
    Case("F16", "reset", "a destination resets connections", partial(hostile, "reset"), setting=QUICK_ERP),
    Case("F16", "unreachable", "no name, no TLS", unreachable, setting=UNREACHABLE),
    Case("F17", "storm", "a destination answers 503 for long", storm),
    Case("F17", "flapping", "a destination answers every other request with 503", flapping),
    Case("F17", "429", "a destination asks for time", asks_for_time),
    Case("F18", "", "a destination refuses for good (400, 410), or has moved (301)", for_good, setting=TELLING),
]
