"""`hub status`, the overview and /metrics say the same: SHOWN is the table of what stands where.

Every metric has its row there: how `hub status --json` and the overview tell its samples, or why one of them does not.
"""

import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, update

from hub.connector import ReorderLine
from hub.errors import HoldRoute
from hub.event import EVENT_TYPES
from hub.reorders import KeptReorders, make_orders
from hub.replay import pause_route
from hub.store import DELIVERY, WORKER
from hub.store.refusals import count_refusals
from hub.store.stats import add_counts, hour_of
from hub.web.metrics import MEASURES, OPEN_STATUSES, STATES
from hub.web.pages.charts import OUTCOMES
from hub.web.status import status
from tests import hubdb
from tests.dashboard.served import looking
from tests.hubdb import Lab, document, open_lab, route
from tests.test_metrics import KEYED, numbers, polled_before, scraped

shared_url, database_url = hubdb.shared_url, hubdb.database_url
ROUTES = {name: route() for name in ("fine", "late", "paused", "broken")}
OLD = {"old": route()}
ORDERS = 72
# What stands on each route: pending and due, under way, held and dead. All that is shown of it is another number.
STANDING = {
    "fine": (20, 1, 2, 3), "late": (22, 0, 4, 5), "paused": (7, 6, 8, 9), "broken": (1, 10, 10, 12),
    "old": (1, 13, 16, 40),
}  # fmt: skip
DUE_SECONDS = {"fine": 30, "late": 90, "paused": 300, "broken": 400, "old": 500}
STATE_WORDS = {"ok": "ok", "paused": "paused", "breaker open": "broken", "not in the config": "gone"}
REFUSED = Counter({("main", "VALIDATION_ERROR"): 101, ("main", "AUTHENTICATION_ERROR"): 102, ("?", "NOT_FOUND"): 103})
Said = dict[str, Any]
Samples = list[tuple[str, dict[str, str], float]]
Groups = dict[tuple[str, ...], Any]


@pytest.fixture
async def lab(tmp_path: Path, database_url: str) -> AsyncIterator[Lab]:
    """Every number is another, and none is zero."""
    async with open_lab(tmp_path, database_url, ROUTES | OLD, dashboard={"port": 0}, stores=KEYED) as made:
        made.stand_still()
        await made.orders(ORDERS + 1)
        await made.finish((await made.claim("broken", limit=1)).claims[0], HoldRoute("HTTP 401: wrong key"))
        await pause_route(made.hub, "asha", "paused", "stocktaking")
        await stand_as_said(made)
        await an_order_waits(made)
        await made.write(lambda connection: count_refusals(connection, made.hub.now(), [REFUSED]))
        await made.write(lambda connection: add_counts(connection, hours(hour_of(made.hub.now()))))
        await polled_before(made, 45)
        for number in range(17):
            await made.keep(document(orderId=f"ord_waiting_{number}"))
        # Beside the hub itself, which has just claimed.
        for worker in ("one", "two", "silent"):
            await made.alive(worker)
        long_ago = {"seen_at": made.hub.now() - timedelta(minutes=1)}
        await made.write(lambda c: c.execute(update(WORKER).where(WORKER.c.id == "silent").values(**long_ago)))
        del made.hub.config.routes["old"]
        yield made


async def stand_as_said(lab: Lab) -> None:
    now = lab.hub.now()
    rows = await lab.rows(DELIVERY)

    def stand(connection: Connection) -> None:
        for name, (due, under_way, held, dead) in STANDING.items():
            since, later = now - timedelta(seconds=DUE_SECONDS[name]), now + timedelta(minutes=1)
            values: list[dict[str, Any]] = [{"status": "pending", "next_attempt_at": since, "lease_until": None}] * due
            values += [{"status": "pending", "next_attempt_at": later, "lease_until": later}] * under_way
            values += [{"status": "held", "next_attempt_at": None}] * held
            # More reasons than one list shows.
            values += [{"status": "dead", "next_attempt_at": None, "error_key": f"{name} {n}"} for n in range(dead)]
            ids = [row.id for row in rows if row.route == name]
            values += [{"status": "delivered", "next_attempt_at": None}] * (len(ids) - len(values))
            for row_id, standing in zip(ids, values, strict=True):
                connection.execute(update(DELIVERY).where(DELIVERY.c.id == row_id).values(**standing))

    await lab.write(stand)


async def an_order_waits(lab: Lab) -> None:
    """One to a supplier is held for approval, in the place of another held delivery of that route."""
    line = ReorderLine("KET-1", "", "Kettle", "Acme", 60, "stock 4 ≤ 12; ordered 60")
    await KeptReorders(lab.hub, "main", "fine", "").open(line, window=timedelta(0))
    assert await make_orders(lab.hub) == 1
    [ours] = [row for row in await lab.rows(DELIVERY) if row.entity and row.entity.startswith("reorder:")]
    other = (await lab.rows(DELIVERY, DELIVERY.c.route == "fine", DELIVERY.c.status == "held"))[0]

    def change_places(connection: Connection) -> None:
        for row, standing in ((ours, "held"), (other, "delivered")):
            values = {"status": standing, "next_attempt_at": None}
            connection.execute(update(DELIVERY).where(DELIVERY.c.id == row.id).values(**values))

    await lab.write(change_places)


def hours(last: datetime) -> dict[tuple[datetime, str, str, str], int]:
    """Counts of the last day: each type, each outcome on two routes, and the times that attempts took."""
    # The chart names eight. Two are none of the platform's: this one, and that of an order; one comes from both stores.
    types = [*sorted(EVENT_TYPES)[:6], "made.up"]
    counted = [("event", "main", kind) for kind in types] + [("event", "outlet", types[0])]
    counted += [("delivery", name, outcome) for name in ("fine", "late") for outcome in OUTCOMES]
    counted += [("caught_up", "main", kind) for kind in ("order.placed", "order.updated")]
    counted += [("attempt_ms", name, label) for name in ROUTES for label in ("sum", "count")]
    return {(last - timedelta(hours=n % 24), *key): 1_000 + 7 * n for n, key in enumerate(counted)}


@dataclass(frozen=True)
class Overview:
    """What the page says: its figures, its tables of routes and stores, the legends of its charts, and its text."""

    now: datetime
    figures: dict[str, int]
    routes: dict[str, Said]
    stores: dict[str, Said]
    events: dict[str, int]
    outcomes: dict[str, int]
    text: str


Reader = Callable[[Any], Groups]
Place = tuple[tuple[str, ...], Reader]


@dataclass(frozen=True)
class Shown:
    """Where the samples of one name stand: added up by these labels they are what the reader finds.

    `status` reads the JSON, `overview` the page; `why` says why it stands in one of them only, or in none.
    """

    status: tuple[Place, ...] = ()
    overview: tuple[Place, ...] = ()
    why: str = ""


def open_ones(routes: Mapping[str, Said]) -> Groups:
    return {(name, kind): one[kind] for name, one in routes.items() for kind in OPEN_STATUSES}


def states_of(routes: Mapping[str, Said]) -> Groups:
    return {(name, state): float(state == one["state"]) for name, one in routes.items() for state in STATES}


def seconds_waited(routes: Mapping[str, Said], now: datetime) -> Groups:
    return {(name,): (now - datetime.fromisoformat(one["oldest_due"])).total_seconds() for name, one in routes.items()}


def requests_left(stores: Mapping[str, Said]) -> Groups:
    return {(name,): read_number(one["Left"].partition(" of ")[0]) for name, one in stores.items()}


def missing_at(stores: Mapping[str, Said]) -> Groups:
    return {(name,): read_number(one["Catching up"].partition(" missing in 24 h")[0]) for name, one in stores.items()}


def seconds_since_poll(polled: Mapping[str, Said], now: datetime) -> Groups:
    return {(name,): (now - datetime.fromisoformat(one["polled_at"])).total_seconds() for name, one in polled.items()}


def known_types(legend: Mapping[str, int]) -> Groups:
    counts: Counter[tuple[str, ...]] = Counter()
    for name, count in legend.items():
        counts[name if name in EVENT_TYPES else "other",] += count
    return dict(counts)


def orders_waiting(text: str) -> float:
    found = re.search(r"(\S+) orders? waits? for approval", text)
    return read_number(found[1]) if found else 0


def no_trouble(words: str) -> Reader:
    return lambda page: {(): float(words not in page.text)}


SHOWN = {
    "litekart_hub_events_total": Shown(
        overview=((("type",), lambda page: known_types(page.events)),),
        why="`hub status` says what is wrong, and no number of events is",
    ),
    "litekart_hub_refused_total": Shown(
        ((("store", "code"), lambda said: {(r["store"], r["reason"]): r["count"] for r in said["refused_24h"]}),),
        (((), lambda page: {(): page.figures["refused in 24 h"]}),),
    ),
    "litekart_hub_attempts_total": Shown(
        overview=((("outcome",), lambda page: {(name.replace(" ", "_"),): n for name, n in page.outcomes.items()}),),
        why="`hub status` says how deliveries stand, not how they came there",
    ),
    "litekart_hub_attempt_seconds_count": Shown(why="how long one took stands at each attempt; rates are for Grafana"),
    "litekart_hub_attempt_seconds_sum": Shown(why="as its count"),
    "litekart_hub_deliveries": Shown(
        ((("route", "status"), lambda said: open_ones(said["routes"])),),
        (
            (("route", "status"), lambda page: open_ones(page.routes)),
            (("status",), lambda page: {(kind,): page.figures[kind] for kind in OPEN_STATUSES}),
        ),
    ),
    "litekart_hub_oldest_due_seconds": Shown(
        ((("route",), lambda said: seconds_waited(said["routes"], said["now"])),),
        ((("route",), lambda page: seconds_waited(page.routes, page.now)),),
    ),
    "litekart_hub_waiting_for_fan_out": Shown(
        (((), lambda said: {(): said["waiting_for_fan_out"]}),), (((), lambda page: {(): page.figures["to fan out"]}),)
    ),
    "litekart_hub_route_state": Shown(
        ((("route", "state"), lambda said: states_of(said["routes"])),),
        ((("route", "state"), lambda page: states_of(page.routes)),),
    ),
    "litekart_hub_caught_up_total": Shown(
        (
            (
                ("store", "type"),
                lambda said: {(s, t): n for s, one in said["catch_up"].items() for t, n in one["found_24h"].items()},
            ),
        ),
        (
            (("store",), lambda page: missing_at(page.stores)),
            ((), lambda page: {(): page.figures["missing in 24 h and found by polling"]}),
        ),
    ),
    "litekart_hub_store_polled_seconds": Shown(
        ((("store",), lambda said: seconds_since_poll(said["catch_up"], said["now"])),),
        ((("store",), lambda page: seconds_since_poll(page.stores, page.now)),),
    ),
    "litekart_hub_store_requests_remaining": Shown(
        ((("store",), lambda said: {(name,): one["left"] for name, one in said["stores"].items()}),),
        ((("store",), lambda page: requests_left(page.stores)),),
    ),
    "litekart_hub_reorders_waiting": Shown(
        (((), lambda said: {(): said["reorders_waiting"]}),), (((), lambda page: {(): orders_waiting(page.text)}),)
    ),
    "litekart_hub_workers": Shown(
        (((), lambda said: {(): sum(one["alive"] for one in said["workers"])}),),
        why="the overview says it where there is none: then somebody is needed",
    ),
    "litekart_hub_redis_up": Shown(
        (((), lambda said: {(): float(said["redis"]["answers"])}),), (((), no_trouble("Redis does not answer")),)
    ),
    "litekart_hub_storage_ok": Shown(
        (((), lambda said: {(): float(said["storage"]["ok"])}),), (((), no_trouble("webhooks are answered 503")),)
    ),
    "litekart_hub_build_info": Shown(why="`hub --version` says it to who runs the hub; this is for who sees many hubs"),
    "litekart_hub_database_bytes": Shown(why="what needs somebody is a disk that gets full, and that both say"),
}


def read_number(text: str) -> int:
    return int(text.replace(",", ""))


def words_of(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", "", html)).split())


def row_of(html: str) -> Said:
    """A route's row of the table, in the names of the status JSON."""
    cells = dict(re.findall(r'data-label="([^"]*)"[^>]*>(.*?)</t[hd]>', html, re.DOTALL))
    found = re.search(r'title="([^"]+)"', cells["Oldest due"])
    numbers_of = {kind: read_number(words_of(cells[kind.capitalize()])) for kind in OPEN_STATUSES}
    said = {"name": words_of(cells["Route"]), "state": STATE_WORDS[words_of(cells["State"])]}
    return said | numbers_of | {"oldest_due": found and found[1]}


def store_of(html: str) -> tuple[str, Said]:
    """A store's row: its name, its cells as they stand there, and when it was last polled."""
    cells = dict(re.findall(r'data-label="([^"]*)"[^>]*>(.*?)</t[hd]>', html, re.DOTALL))
    found = re.search(r'title="([^"]+)"', cells["Catching up"])
    return words_of(cells["Store"]), {name: words_of(cell) for name, cell in cells.items()} | {
        "polled_at": found and found[1]
    }


async def overview_of(lab: Lab) -> Overview:
    async with looking(lab.hub) as asha:
        page = await asha.get("/")
    figures = re.findall(r'<a href="[^"]*"><strong[^>]*>([\d,]+)</strong> ([^<]+)</a>', page.source)
    rows = [row_of(row) for row in page.source.split("<tr>") if 'data-label="Route"' in row]
    events, outcomes = (
        re.findall(r'<span class="swatch [^"]*"></span>(.*?) <span class="muted">([\d,]+)<', chart)
        for chart in page.source.split("<figure")[1:]
    )
    return Overview(
        lab.hub.now(),
        {name: read_number(count) for count, name in figures},
        {row["name"]: row for row in rows},
        dict(map(store_of, [row for row in page.source.split("<tr>") if 'data-label="Store"' in row])),
        {words_of(name): read_number(count) for name, count in events},
        {words_of(name): read_number(count) for name, count in outcomes},
        page.text,
    )


async def samples_that_all_say(lab: Lab) -> Samples:
    """All samples of /metrics, after what the table says of each was compared."""
    said = await status(lab.hub, {}) | {"now": lab.hub.now()}
    page, samples = await overview_of(lab), await scraped(lab)
    labels = {name: measure.labels for measure in MEASURES for name in measure.samples}
    for name in {name for name, _, _ in samples}:
        for what, places in ((said, SHOWN[name].status), (page, SHOWN[name].overview)):
            for kept, reader in places:
                added: dict[tuple[str, ...], float] = defaultdict(float)
                for values, number in numbers(samples, name).items():
                    given = dict(zip(labels[name], values, strict=True))
                    added[tuple(given[label] for label in kept)] += number
                assert reader(what) == dict(added), f"{name} on {type(what).__name__}"
    return samples


def test_every_metric_has_its_row_in_the_table() -> None:
    assert SHOWN.keys() == {name for measure in MEASURES for name in measure.samples}
    assert [name for name, one in SHOWN.items() if bool(one.status and one.overview) == bool(one.why)] == []


async def test_status_overview_and_metrics_say_the_same_in_every_number(lab: Lab) -> None:
    samples = await samples_that_all_say(lab)
    for name in SHOWN.keys() - {"litekart_hub_route_state"}:
        # Or one could stand in the place of another, and nobody would see it.
        found = list(numbers(samples, name).values())
        assert 0 not in found, name
        assert len(set(found)) == len(found), name
    assert numbers(samples, "litekart_hub_workers") == {(): 3}
    assert {state for (_, state), number in numbers(samples, "litekart_hub_route_state").items() if number} == {*STATES}
    await what_waits_is_the_same(lab)
    lab.hub.writer.trouble, lab.hub.bells.away_since = "the disk is full", lab.hub.now()
    ill = await samples_that_all_say(lab)
    assert numbers(ill, "litekart_hub_storage_ok") == numbers(ill, "litekart_hub_redis_up") == {(): 0}


async def what_waits_is_the_same(lab: Lab) -> None:
    """Also where it stands in a sentence."""
    said, page = await status(lab.hub, {}), await overview_of(lab)
    assert [name for name, one in said["routes"].items() if one["behind"]] == ["late"]
    assert re.findall(r"(\w+) is behind", page.text) == ["late"]
    assert [reason for reason in said["reasons"] if reason.startswith("the oldest due delivery of route late waits 90")]
    waiting = {name: due + under_way + held for name, (due, under_way, held, _) in STANDING.items()}
    assert f"{waiting['paused']} wait;" in next(note for note in said["notes"] if note.startswith("route paused"))
    assert f"stocktaking {waiting['paused']} wait." in page.text
    assert [one for one in said["reasons"] if one.startswith(f"{waiting['old']} deliveries wait on route old")]
    assert f"{waiting['old']} wait for old" in page.text
