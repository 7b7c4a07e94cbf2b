"""A hub in the middle of its day: much delivered, some dead for varied reasons, a breaker open, a route paused, some
held, some refused, repeats, effects, a replay half-way, and strings that mean harm.
"""

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from hub import catch_up
from hub.client import Exchange
from hub.connector import Receipt, ReorderLine
from hub.deliver import finish
from hub.errors import Hold, HoldRoute, NotAnEvent, NotAuthenticated, Outcome, Rejected, Skip, TryAgain, UnknownStore
from hub.event import EVENT_TYPES, parse
from hub.hour import RateLimit, Report
from hub.receive import Incoming, Receiving, new_event
from hub.reorders import KeptReorders, make_orders
from hub.replay import pause_route, start_change, start_replay
from hub.store import DELIVERY, EVENT, REFUSED, REPEAT
from hub.store.budgets import settle_budgets
from hub.store.catch_up import not_polled, polled
from hub.store.effects import NewEffect, put_effects
from hub.store.events import keep_events
from hub.store.meant import Filter
from hub.store.records import record
from hub.store.registrations import looked_at
from hub.store.stats import add_counts, hour_of
from hub.testing.samples import sample, sign, to_bytes
from tests.browsers import user
from tests.hubdb import SECRET, Lab, open_lab

CANARY = "canary-7f3a91"
HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "{{ 7 * 7 }}",
    "</pre></details></table><h1>gone</h1>",
    "safe\u202egnp.exe",
    "nul\x00and\x1b[31mred",
    "ab\u200bcd\u2066ef",
    "w" * 2_000,
    "שלום עולם",
    "👩‍👩‍👧 आम का अचार",
)  # fmt: skip
"""What may stand wherever text comes from outside."""

PURCHASING = "purchasing"
SECOND = timedelta(seconds=1)
QUICK = {"retry": {"schedule": ["10s", "1m", "10m"]}}
ROUTES: dict[str, Any] = {
    "erp": {
        "connector": "webhook",
        "events": ["order.*", "payment.*"],
        "ordered": True,
        "settings": {
            "url": f"https://erp.example/hook/{CANARY}-path",
            "headers": {"Authorization": f"Bearer {CANARY}-token"},
            "signing_secrets": [f"{CANARY}-signing-secret-of-some-length"],
        },
        **QUICK,
    },
    "team-slack": {
        "connector": "slack",
        "events": ["order.placed", "inventory.low"],
        "when": 'data.total | default(0) >= 100 or event.type == "inventory.low"',
        "settings": {"webhook_url": f"https://hooks.slack.com/services/T000/B000/{CANARY}"},
        "rate": "1/s",
        **QUICK,
    },
    "receipts": {
        "connector": "email",
        "events": ["order.placed", "payment.completed"],
        "settings": {
            "host": "mail.example",
            "username": "hub",
            "password": f"{CANARY}-password",
            "from": "shop@shop.example",
            "to": ["orders@shop.example"],
        },
        **QUICK,
    },
    "reorder": {"connector": "tests.hubdb:Still", "events": ["inventory.low"], **QUICK},
    PURCHASING: {"connector": "tests.buyer:Buyer", "events": ["none"], "settings": {"approval": True}, **QUICK},
    "crm": {"connector": "tests.hubdb:Still", "events": ["customer.*"], **QUICK},
    "warehouse": {"connector": "tests.hubdb:Still", "events": ["order.placed", "order.cancelled"], **QUICK},
    "catalogue": {"connector": "tests.hubdb:Still", "events": ["product.*"], "stores": ["outlet"], **QUICK},
}
GONE = {"old-erp": {"connector": "tests.hubdb:Still", "events": ["order.cancelled"], **QUICK}}
STORES = {
    "main": {"url": "https://shop.example", "webhook_secrets": [SECRET, f"{CANARY}-webhook-secret"], "api_key": CANARY},
    "outlet": {"url": "https://outlet.example", "webhook_secrets": [f"{CANARY}-outlet-secret"]},
    # Each in a state of its own: sound, a key that is refused, an hour that is spent, away for long.
    **{
        name: {"url": f"https://{name}.example", "webhook_secrets": [f"{CANARY}-{name}-secret"], "api_key": CANARY}
        for name in ("books", "wholesale", "spare-parts", "archive")
    },
}
PEOPLE = {"asha": "operator", "ravi": "viewer"}
CONFIG: dict[str, Any] = {
    "stores": STORES,
    "server": {"port": 8600, "public_url": "https://hooks.shop.example"},
    "dashboard": {"port": 0, "users": [user(name, role) for name, role in PEOPLE.items()]},
}
HOURS = 20
ROUNDS = 5
WEIGHTS = (8, 10, 2, 2, 4, 3, 8, 4)


@dataclass
class Scene:
    """What stands there: the ids of the pages worth a look."""

    delivered: str = ""
    dead: str = ""
    held: str = ""
    repeated: str = ""
    replay: str = ""
    release: str = ""
    cancel: str = ""
    refused: str = ""
    signed: str = ""
    reorder: str = ""
    reorder_sent: str = ""
    hostile: list[str] = field(default_factory=list)


Play = Callable[[Any, int], tuple[Receipt | Outcome, Exchange]]


def answered(status: int, text: str) -> Exchange:
    request = 'POST https://erp.example/****\ncontent-type: application/json\nauthorization: ****\n\n{"orderNo": 1042}'
    return Exchange(request, f"HTTP {status}\ncontent-type: text/plain\n\n{text}", status)


def erp(row: Any, tries: int) -> tuple[Receipt | Outcome, Exchange]:
    """Takes most; some are refused for good, some after a few tries."""
    match row.event_seq % 9:
        case 3:
            return Rejected("HTTP 422: unknown tax rate IN-GST-18", status=422), answered(422, "unknown tax rate")
        case 5:
            text = "HTTP 500: deadlock detected while waiting for ShareLock"
            return TryAgain(text, status=500), answered(500, "deadlock detected")
        case 7 if tries < 2:
            return TryAgain("no answer in time; it may have arrived"), Exchange("POST https://erp.example/****", None)
    return Receipt(f"sales order S{row.event_seq:05}", f"https://erp.example/so/{row.event_seq}"), answered(201, "made")


def slack(row: Any, tries: int) -> tuple[Receipt | Outcome, Exchange]:
    if row.event_seq % 6 == 0:
        return Rejected("HTTP 404: channel_not_found", status=404), answered(404, "channel_not_found")
    return Receipt("posted to #orders", "https://shop.slack.com/archives/C01/p1700"), answered(200, "ok")


def mail(row: Any, tries: int) -> tuple[Receipt | Outcome, Exchange]:
    return Receipt("sent to orders@shop.example"), Exchange()


def approve(row: Any, tries: int) -> tuple[Receipt | Outcome, Exchange]:
    if row.event_seq % 2:
        return Hold("120 × KET-1 for EUR 4,212.00 is over the limit of EUR 1,000.00"), Exchange()
    return Skip("stock is on its way: purchase order P0031"), Exchange()


def wrong_key(row: Any, tries: int) -> tuple[Receipt | Outcome, Exchange]:
    return HoldRoute("HTTP 401: the API key was revoked", status=401), answered(401, "the API key was revoked")


def fine(row: Any, tries: int) -> tuple[Receipt | Outcome, Exchange]:
    return Receipt("done"), answered(200, "ok")


PLAYS: dict[str, Play] = {"erp": erp, "team-slack": slack, "receipts": mail, "reorder": approve, "crm": wrong_key}


async def play(lab: Lab, route: str) -> None:
    """Try everything that is due on this route, as its part says."""
    while claims := (await lab.claim(route)).claims:
        for claimed in claims:
            result, exchange = PLAYS.get(route, fine)(claimed.delivery, claimed.attempt)
            if isinstance(result, Receipt) and route == "erp":
                effect = NewEffect(
                    claimed.delivery.id, "sales order", claimed.delivery.id, result.text.split()[-1], result.url
                )
                await lab.hub.writer.put(put_effects, effect)
            took = timedelta(milliseconds=random.Random(claimed.delivery.event_seq).randint(20, 2_400))
            finished = finish(lab.hub, lab.line(route), claimed, result, exchange, took)
            await lab.hub.writer.put(record, finished)
    await lab.alive()


async def keep(lab: Lab, document: dict[str, Any], store: str = "main") -> str:
    """Keep an event as receiving does, with headers."""
    headers = [
        (b"content-type", b"application/json"),
        (b"user-agent", b"Litekart-Webhooks/2.4"),
        (b"x-litekart-delivery", b"whd_5f2c"),
    ]
    body = to_bytes(document)
    incoming = Incoming(store, body, headers, "203.0.113.7")
    event = new_event(lab.hub, incoming, parse(body), lab.hub.keys[store][0].fingerprint)
    return (await lab.hub.writer.put(keep_events, event)).id


async def filled(folder: Path) -> Scene:
    """Fill the database in that folder."""
    async with open_lab(folder, url_in(folder), ROUTES | GONE, **CONFIG) as lab:
        return await fill(lab)


@asynccontextmanager
async def open_scene(folder: Path) -> AsyncIterator[Lab]:
    """A hub over the filled database in that folder, one of whose routes is gone from the config meanwhile."""
    async with open_lab(folder, url_in(folder), ROUTES, **CONFIG) as lab:
        await lab.alive()
        yield lab


def url_in(folder: Path) -> str:
    return f"sqlite:///{folder}/hub.db"


async def fill(lab: Lab) -> Scene:
    scene = Scene()
    chance = random.Random(7)
    lab.hub.clock.offset = timedelta(hours=-HOURS)
    await pause_route(lab.hub, "asha", "warehouse", "stocktaking until Thursday")
    for hour in range(HOURS):
        for _ in range(chance.randint(1, 7)):
            kind = chance.choices(EVENT_TYPES, WEIGHTS)[0]
            store = "outlet" if chance.random() < 0.15 else "main"
            await keep(lab, sample(kind, timestamp=f"{lab.hub.now():%Y-%m-%dT%H:%M:%SZ}"), store)
            lab.later(chance.randint(20, 400))
        if hour % ROUNDS == ROUNDS - 1:
            await round_of(lab)
        lab.hub.clock.offset = timedelta(hours=hour + 1 - HOURS)
    await repeats(lab, scene)
    await harm(lab, scene)
    await round_of(lab)
    await refusals(lab)
    await counts(lab)
    await requests(lab)
    await purchases(lab, scene)
    await polls(lab)
    scene.replay = await start_replay(
        lab.hub, "asha", Filter(status="dead", route="team-slack"), pace=0.01
    )  # fmt: skip
    scene.cancel = await start_change(
        lab.hub, "cancel", "asha", Filter(route="crm", until=lab.hub.now() - timedelta(hours=HOURS / 2))
    )
    scene.release = await start_change(lab.hub, "release", "asha", Filter(status="held", route="reorder"), pace=0.01)
    await lab.write(lambda connection: name_them(connection, scene))
    await keep(lab, sample("order.placed"))
    return scene


async def round_of(lab: Lab) -> None:
    """Fan out and try what is due, again as the schedule says."""
    await lab.fan_out()
    for wait in (0, 20, 100, 900):
        lab.later(wait)
        for route in ROUTES:
            await play(lab, route)


async def repeats(lab: Lab, scene: Scene) -> None:
    order = sample("order.placed", orderId="ord_twice", orderNo=1042, total=240)
    scene.repeated = await keep(lab, order)
    await keep(lab, order)
    await keep(lab, order | {"data": order["data"] | {"total": 260}})


async def harm(lab: Lab, scene: Scene) -> None:
    """Hostile strings in all that a store can write."""
    for number, text in enumerate(HOSTILE):
        # A store's names and ids hold no controls: those are refused, and stand there.
        clean = "".join(one for one in text if one >= " ")
        document = sample("order.placed", orderId=clean[:250], orderNo=text, email=text, note=text)
        document["event"] = f"{clean[:150]} {number}"
        scene.hostile.append(await keep(lab, document))


async def purchases(lab: Lab, scene: Scene) -> None:
    """Orders: sent and closed ones, two that wait for a person, lines still open; stock that went down for a month."""
    of_store = KeptReorders(lab.hub, "main", PURCHASING, "")
    for day in range(30, 0, -1):
        lab.later(-86_400 * day)
        await of_store.seen("KET-1", "", max(day, 3) if day % 11 else 26, 12)
        lab.later(86_400 * day)
    opened: list[str] = []
    for number, supplier in enumerate(("Acme Kitchen GmbH", "Verma & Sons", HOSTILE[0], "Nordlicht")):
        for sku in ("KET-1", f"POT-{number}", HOSTILE[number + 4][:40]):
            line = ReorderLine(
                sku, f"wh_{number}" if number else "", f"{sku}, steel", supplier, 60,
                "stock 4 ≤ 12; target 60; pack of 12; ordered 60", 4, 12, Decimal("11.90"), "EUR",
            )  # fmt: skip
            opened.append((await of_store.open(line, window=timedelta(hours=number // 3))).id)
    scene.reorder_sent, scene.reorder = opened[0], opened[3]
    while await make_orders(lab.hub):
        pass
    for claimed in (await lab.claim(PURCHASING)).claims:
        result = await purchased(KeptReorders(lab.hub, "main", PURCHASING, claimed.delivery.event_id))
        await lab.hub.writer.put(record, finish(lab.hub, lab.line(PURCHASING), claimed, result, Exchange(), SECOND))
    await of_store.close("POT-0", "", "stock 60 > 12")


async def purchased(reorders: KeptReorders) -> Receipt | Outcome:
    """One order is sent; the others are too dear."""
    if not (await reorders.order()).supplier.startswith("Acme"):
        return Hold("an order of EUR 2,142.00 is over the limit of EUR 1,000.00")
    await reorders.sent("PO-00017", "https://erp.example/po/17")
    return Receipt("purchase order PO-00017", "https://erp.example/po/17")


async def refusals(lab: Lab) -> None:
    receiving = Receiving(lab.hub)
    order = to_bytes(sample("order.placed"))
    for number in range(14):
        wrong = [(b"x-litekart-signature", b"0" * 64), (b"user-agent", b"curl/8.5")]
        receiving.remember(
            NotAuthenticated("the signature is missing or wrong"), Incoming("main", order, wrong, "203.0.113.9")
        )
        if number % 5 == 0:
            receiving.remember(
                UnknownStore("there is no store of that name"), Incoming("mian", order, [], "198.51.100.4")
            )
    receiving.remember(
        NotAnEvent("the body did not arrive within 10 s", status=408), Incoming("main", b"", [], "198.51.100.7")
    )
    await receiving.flush()
    body = to_bytes({"event": "order.placed", "data": HOSTILE[0], "timestamp": HOSTILE[1]})
    key = lab.hub.keys["main"][0]
    for text in (body, HOSTILE[0].encode(), HOSTILE[6].encode(), b"\x00\xff" + HOSTILE[1].encode()):
        signed = [(b"x-litekart-signature", sign(text, key.secret.decode()).encode()), (b"user-agent", text[:200])]
        try:
            await receiving.receive(Incoming("main", text, signed, "203.0.113.7"))
        except NotAnEvent:
            continue
    for harm in HOSTILE:
        stranger = Incoming(harm, harm.encode(), [(b"x-litekart-note", harm.encode())], harm[:40])
        receiving.remember(UnknownStore(harm), stranger)
    await receiving.flush()


async def counts(lab: Lab) -> None:
    """The hours' counts, as far as the charts need them."""
    chance = random.Random(3)
    hour = lab.hub.now().replace(minute=0, second=0, microsecond=0)
    rows: list[tuple[datetime, str, str, str, int]] = []
    for back in range(24):
        at = hour - timedelta(hours=back)
        busy = 1 + 6 * max(0.1, 1 - abs(back - 9) / 9)
        for kind, weight in zip(EVENT_TYPES, WEIGHTS, strict=True):
            rows.append((at, "event", "main", kind, round(weight * busy * chance.uniform(0.5, 1.5))))
        for outcome, weight in (("delivered", 50), ("skipped", 3), ("held", 1), ("try_again", 5), ("dead", 2)):
            rows.append((at, "delivery", "erp", outcome, round(weight * busy * chance.uniform(0.3, 1.5))))
        rows.append((at, "event", "outlet", HOSTILE[0], 2))
    await lab.write(lambda connection: add_counts(connection, {row[:4]: row[4] for row in rows}))


async def requests(lab: Lab) -> None:
    """The stores' hours of requests: nearly spent, one name of who spent it hostile; spent; and hardly begun."""
    reset = lab.hub.now() + timedelta(minutes=24)
    for store, left, spent in (
        ("main", 95, {"erp": 640, "catch-up": 210, HOSTILE[0]: 45}),
        ("spare-parts", 0, {"route:erp": 412, "route:reorder": 309, "command": 204, "catch-up": 75}),
        ("books", 957, {"route:erp": 28, "catch-up": 15}),
    ):
        answer = RateLimit(1000, left, reset)
        report = Report(store, lab.hub.worker_id, 1000, 10, 0, spent=spent, answer=answer)
        await lab.hub.writer.put(settle_budgets, report)


async def polls(lab: Lab) -> None:
    """How catching up stands at each store, and registrations that do not lead here any more."""
    # The pages are looked at by a clock that is not ahead.
    now = lab.hub.now() - lab.hub.clock.offset
    spent = "the store's requests for this hour are used up"
    failing = {
        "wholesale": (20, "HTTP 401: Invalid API key; see whether stores.wholesale.api_key is the right one"),
        "spare-parts": (8, spent),
        "archive": (200, f"HTTP 502: {HOSTILE[0]} {HOSTILE[6]} {'w' * 300}"),
    }

    def stand(connection: Connection) -> None:
        for store in ("main", "books", *failing):
            ago, why = failing.get(store, (4, None))
            for resource in catch_up.RESOURCES:
                last = now - timedelta(minutes=ago + 10 if why else ago)
                polled(connection, last, store, resource, last)
                if why:
                    not_polled(connection, now - timedelta(minutes=ago), store, resource, why)
        found = {("main", "order.placed"): 11, ("main", "product.updated"): 40, ("archive", "customer.registered"): 1}
        add_counts(connection, {(hour_of(now), "caught_up", *one): count for one, count in found.items()})
        looked_at(connection, now, "archive", {}, "order.placed: gone, product.updated: switched off")

    await catch_up.begin(lab.hub)
    await lab.write(stand)


def name_them(connection: Connection, scene: Scene) -> None:
    """Find the pages worth a look; put hostile strings where destinations and people write."""
    for status, route in (("delivered", "erp"), ("dead", "erp"), ("held", "reorder")):
        query = select(DELIVERY.c.event_id).where(DELIVERY.c.status == status, DELIVERY.c.route == route)
        setattr(scene, status, connection.execute(query.order_by(DELIVERY.c.id.desc()).limit(1)).scalar_one())
    for name, signed in (("refused", False), ("signed", True)):
        first = select(REFUSED.c.id).where(REFUSED.c.signed.is_(signed)).order_by(REFUSED.c.id).limit(1)
        setattr(scene, name, connection.execute(first).scalar_one())
    assert connection.execute(select(EVENT.c.id).where(EVENT.c.repeats > 0)).scalars().all()
    assert connection.execute(select(REPEAT.c.id)).scalars().all()
