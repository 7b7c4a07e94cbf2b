"""What a route's `with` fetches: in the config, in conditions, templates and connectors, against the store's double."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Row

from hub.config import load_config
from hub.connector import Context, Event, Receipt
from hub.deliver import attempt
from hub.errors import ConfigError, Rejected
from hub.litekart import Litekart
from hub.replay import start_replay
from hub.store import DELIVERY
from hub.store.meant import Filter
from hub.testing import HttpSink, event_of, open_bench
from hub.testing.store import API_KEY, STORE_ID, StoreApi
from tests import hubdb
from tests.hubdb import SECRET, Lab, Puppet, document, open_lab, route
from tests.operations import ask, explained

shared_url, database_url = hubdb.shared_url, hubdb.database_url
ADMIN = "https://shop.test/admin/{kind}/{id}"


@pytest.fixture(autouse=True)
def no_acts() -> Iterator[None]:
    yield
    Puppet.acts.clear()


async def reading(event: Event, ctx: Context) -> Receipt:
    """Asks the store for the event's order."""
    await ctx.litekart.orders.get(event.data["orderId"])
    return Receipt("read")


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """For what no database has a part in."""
    return f"sqlite:///{tmp_path}/hub.db"


@pytest.fixture
async def store() -> AsyncIterator[StoreApi]:
    async with StoreApi(orders=6, products=6, customers=4) as double:
        yield double


def shop(store: StoreApi, **more: Any) -> dict[str, Any]:
    return {"url": store.url, "api_key": API_KEY, "webhook_secrets": [SECRET], "admin_url": ADMIN} | more


@asynccontextmanager
async def open_shop(folder: Path, url: str, store: StoreApi, routes: dict[str, Any], **more: Any) -> AsyncIterator[Lab]:
    """A lab whose store `main` is the double."""
    network = {"allow": ["127.0.0.1:*"]}
    async with open_lab(folder, url, routes, stores={"main": shop(store, **more)}, network=network) as lab:
        yield lab


def puppet(*names: str, **more: Any) -> dict[str, Any]:
    return route("Puppet", **{"with": list(names)} | more)


async def tried(lab: Lab, name: str = "one") -> Row[Any]:
    """The oldest due delivery of that route, tried once; its row then."""
    claimed = await lab.claim_one(name, limit=1)
    await attempt(lab.hub, lab.line(name), claimed)
    return await lab.delivery(claimed.delivery.id)


async def note(lab: Lab, row: Row[Any]) -> str:
    return str((await lab.attempts(row.id))[-1].note)


def rendering(template: str) -> Any:
    async def act(event: Event, ctx: Context) -> Receipt:
        return Receipt(ctx.render(template))

    return act


# ---- the config


SHOP = (
    "stores: {main: {url: 'https://shop.test', webhook_secrets: ['a secret of the test shop'], api_key: lk_canary}}\n"
)
BIG = "when: order.total >= 100"


def loaded(folder: Path, *lines: str, stores: str = SHOP) -> Any:
    head = ["routes:", "  one:", "    connector: tests.hubdb:Still"]
    path = folder / "config.yaml"
    path.write_text(stores + "\n".join([*head, *(f"    {line}" for line in lines)]) + "\n")
    return load_config(path, {})


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([BIG], "config.yaml:5: routes.one.when: names order, which is not fetched: add `with: [order]`"),
        (
            [BIG, "with: [product]"],
            "config.yaml:5: routes.one.when: names order, which is not fetched: add `with: [product, order]`",
        ),
        (["with: [ordr]"], "config.yaml:5: routes.one.with[0]: must be 'order', 'customer' or 'product'"),
    ],
)
def test_what_is_not_fetched_cannot_be_judged(tmp_path: Path, lines: list[str], problem: str) -> None:
    with pytest.raises(ConfigError) as refused:
        loaded(tmp_path, *lines)
    assert refused.value.problems == [problem]


def test_a_condition_on_the_stores_objects_needs_the_key(tmp_path: Path) -> None:
    keyless = SHOP.replace(", api_key: lk_canary", "")
    with pytest.raises(ConfigError) as refused:
        loaded(tmp_path, "with: [order]", BIG, stores=keyless)
    assert refused.value.problems == [
        "config.yaml:6: routes.one.when: names order, so the store is asked: set stores.main.api_key, or limit `stores`"
    ]
    assert loaded(tmp_path, "with: [order]", "when: data.total > 1", stores=keyless).warnings == [
        "config.yaml:5: routes.one.with: nothing is fetched from main: api_key is not set there"
    ]
    config = loaded(tmp_path, "with: [order]", BIG)
    assert (config.warnings, config.routes["one"].judged_later) == ([], True)
    assert "lk_canary" in config.secrets()


def test_a_key_that_no_header_can_hold_is_told_at_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="api_key: must be letters, digits and signs without spaces") as refused:
        loaded(tmp_path, stores=SHOP.replace("lk_canary", "'lk canaré'"))
    assert "canar" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["https://shop.test/admin", "shop/{id}", "https://x.test/{id}/{name}", "https://a b/{id}"]
)
def test_an_address_of_the_admin_has_an_id_in_it(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="admin_url: must be an address with"):
        loaded(tmp_path, stores=SHOP.replace("api_key: lk_canary", f"admin_url: '{url}'"))


def test_without_kinds_the_admin_shows_orders_alone(tmp_path: Path) -> None:
    links = {}
    for pattern in ("https://shop.test/o/{id}", ADMIN):
        config = loaded(tmp_path, stores=SHOP.replace("api_key: lk_canary", f"admin_url: '{pattern}'"))
        links[pattern] = [config.stores["main"].admin_link(kind, "a/?#b") for kind in ("order", "product")]
    assert links == {
        "https://shop.test/o/{id}": ["https://shop.test/o/a%2F%3F%23b", None],
        ADMIN: ["https://shop.test/admin/orders/a%2F%3F%23b", "https://shop.test/admin/products/a%2F%3F%23b"],
    }


# ---- what is fetched


async def test_templates_and_connectors_get_the_objects(tmp_path: Path, database_url: str, store: StoreApi) -> None:
    (order, *_), (product, *_) = await store.rows("orders"), await store.rows("products")
    customer = await store.row("customers", order["customer_id"])
    seen: list[Context] = []

    async def act(event: Event, ctx: Context) -> Receipt:
        seen.append(ctx)
        asked = "{{ order.items[0].name }}, {{ order.total | money(order.currency) }}, {{ customer.email }}"
        return Receipt(ctx.render(asked if event.type == "payment.completed" else "{{ product.name }}"))

    Puppet.acts["one"] = act
    async with open_shop(tmp_path, database_url, store, {"one": puppet("order", "customer", "product")}) as lab:
        await lab.deliver_events(
            document("payment.completed", orderId=order["id"]), document("inventory.low", productId=product["id"])
        )
        rows = [await tried(lab), await tried(lab)]
        assert [row.status for row in rows] == ["delivered", "delivered"]
        notes = [await note(lab, row) for row in rows]
    line = order["line_items"][0]
    assert notes == [f"{line['name']}, EUR {order['total']:,.2f}, {customer['email']}", product["name"]]
    paid, low = seen
    assert set(paid.fetched) == {"order", "customer"}
    assert set(low.fetched) == {"product"}
    assert paid.admin_url == f"https://shop.test/admin/orders/{order['id']}"
    assert low.admin_url == f"https://shop.test/admin/products/{product['id']}"


async def test_one_event_asks_once_for_all_its_routes_and_anew_for_a_repeat(
    tmp_path: Path, sqlite_url: str, store: StoreApi
) -> None:
    (order, *_) = await store.rows("orders")
    path = f"*/orders/{order['id']}"
    Puppet.acts |= {"one": rendering("{{ order.status }}"), "two": rendering("{{ order.status }}")}
    async with open_shop(
        tmp_path, sqlite_url, store, {"one": puppet("order"), "two": puppet("order", "customer")}
    ) as lab:
        await lab.deliver_events(document("order.updated", orderId=order["id"]))
        first, second = await asyncio.gather(tried(lab), tried(lab, "two"))
        assert await note(lab, first) == await note(lab, second) == order["status"]
        assert len(await store.calls_to("GET", path)) == 1
        # Cached a moment ago, and yet from before the next event came in.
        await lab.deliver_events(document("order.updated", "2026-11-23T12:00:01Z", orderId=order["id"]))
        await tried(lab)
        assert len(await store.calls_to("GET", path)) == 2


async def test_the_live_profile_gives_the_same_names(tmp_path: Path, sqlite_url: str) -> None:
    Puppet.acts["one"] = rendering("{{ order.items[0].name }}, {{ order.order_no }}, {{ customer.last_name }}")
    async with StoreApi(profile="v2", orders=2, products=6, customers=2) as store:
        (order, *_) = await store.rows("orders")
        customer = await store.row("customers", order["customer_id"])
        routes = {"one": puppet("order", "customer")}
        async with open_shop(tmp_path, sqlite_url, store, routes, profile="v2", store_id=STORE_ID) as lab:
            await lab.deliver_events(document("order.placed", orderId=order["id"]))
            row = await tried(lab)
            name, number = order["line_items"][0]["name"], order["order_no"]
            assert await note(lab, row) == f"{name}, {number}, {customer['last_name']}"


async def test_what_is_not_there_is_undefined_and_says_why(tmp_path: Path, sqlite_url: str, store: StoreApi) -> None:
    Puppet.acts |= {
        "one": rendering(
            "{{ order.total | default('none') }} {{ order is defined }} {{ customer.a.b | default('-') }}"
        ),
        "two": rendering("{{ order.total }}"),
        "three": rendering("{{ order.total }}"),
    }
    routes = {"one": puppet("order", "customer"), "two": puppet("order"), "three": puppet()}
    async with open_shop(tmp_path, sqlite_url, store, routes) as lab:
        await lab.deliver_events(document("order.placed", orderId="ord_none"))
        row = await tried(lab)
        assert row.status == "delivered"
        assert await note(lab, row) == (
            "none False -; without the order: the store has none of that id; "
            "without the customer: the store has none of that id"
        )
        missing = [await tried(lab, name) for name in ("two", "three")]
        assert [row.status for row in missing] == ["dead", "dead"]
        assert [row.last_error for row in missing] == [
            "order was not fetched: the store has none of that id",
            "order was not fetched: the route has no `with: [order]`",
        ]
        await lab.deliver_events(document("order.placed", orderId="../../admin/users"))
        row = await tried(lab)
        assert row.status == "delivered"
        assert "without the order: " in await note(lab, row)
    assert await store.calls_to("*", "*users*") == []


# ---- conditions


WHEN = {"when": "order.total >= data.least and order.status != 'lost'"}


async def test_a_condition_is_judged_on_what_was_fetched(tmp_path: Path, database_url: str, store: StoreApi) -> None:
    (order, *_) = await store.rows("orders")
    Puppet.acts["one"] = rendering("sent")
    async with open_shop(tmp_path, database_url, store, {"one": puppet("order", **WHEN)}) as lab:
        events = [document("order.updated", orderId=order["id"], least=least) for least in (0.5, 1_000_000)]
        kept = [(await lab.keep(event)).id for event in events]
        await lab.fan_out()
        assert (await explained(lab, kept[0])).endswith(
            "; its condition names the store's order, so it is judged at delivery: " + WHEN["when"]
        )
        met, unmet = await tried(lab), await tried(lab)
        assert (met.status, unmet.status) == ("delivered", "skipped")
        values = f'order.total is {order["total"]}, data.least is 1000000, order.status is "{order["status"]}"'
        assert await explained(lab, kept[1]) == f"skipped: when: {values} ({WHEN['when']})"
        # A person who sends it is not asked for the condition.
        await start_replay(lab.hub, "asha", Filter(ids=(unmet.id,)))
        assert "judged at delivery" not in await explained(lab, kept[1])
        assert (await tried(lab)).status == "delivered"


async def test_a_condition_that_cannot_be_answered_is_a_dead_delivery(
    tmp_path: Path, sqlite_url: str, store: StoreApi
) -> None:
    (order, *_) = await store.rows("orders")
    routes = {"one": puppet("order", when="order.totl > 1"), "two": puppet("customer", when="customer.email == 'x'")}
    async with open_shop(tmp_path, sqlite_url, store, routes) as lab:
        kept = await lab.keep(document("order.placed", orderId=order["id"]))
        lone = await lab.keep(document("product.created", productId="prd_1"))
        await lab.fan_out()
        broken, _, nameless = await tried(lab), await tried(lab, "two"), await tried(lab, "two")
        assert [broken.status, broken.error_key, nameless.status] == ["dead", "when", "dead"]
        assert str(broken.last_error).startswith("when: no field totl; there are total")
        assert "sends it without asking the condition" in await explained(lab, kept.id)
        assert nameless.event_id == lone.id
        assert nameless.last_error == "when: customer was not fetched: the event names none"


FAILURES: dict[str, tuple[dict[str, Any], tuple[str, str, str]]] = {
    "down": ({"status": 503}, ("pending", "try_again", "HTTP 503")),
    "refused": ({"status": 401}, ("pending", "hold_route", "HTTP 401")),
    "limited": ({"status": 429, "headers": {"Retry-After": "77"}}, ("pending", "not_now", "limit of requests")),
    "limited for years": (
        {"status": 429, "headers": {"Retry-After": "999999999"}},
        ("pending", "not_now", "limit of requests"),
    ),
    "cut": ({"kind": "drop"}, ("pending", "try_again", "the connection broke")),
    "html": ({"kind": "html", "status": 200}, ("pending", "try_again", "HTTP 200")),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_without_the_stores_answer_a_condition_waits_and_a_message_goes(
    tmp_path: Path, sqlite_url: str, store: StoreApi, name: str
) -> None:
    fault, (status, outcome, reason) = FAILURES[name]
    Puppet.acts |= {"one": rendering("sent"), "two": rendering("sent")}
    routes = {"one": puppet("order", when="order.total > 1"), "two": puppet("order")}
    async with open_shop(tmp_path, sqlite_url, store, routes) as lab:
        lab.stand_still()
        await lab.deliver_events(document("order.placed", orderId="ord_1"))
        await store.fail("GET", "*/orders/*", times=None, **fault)
        waiting, sent = await tried(lab), await tried(lab, "two")
        (ended,) = await lab.attempts(waiting.id)
        assert (waiting.status, ended.outcome) == (status, outcome)
        assert reason in ended.note
        assert ("see whether stores.main.api_key is the right one" in ended.note) == (name == "refused")
        assert waiting.budget - waiting.attempts == (len(hubdb.SCHEDULE) if outcome == "try_again" else 4)
        if outcome == "not_now":
            wait = (waiting.next_attempt_at - lab.hub.now()).total_seconds()
            assert wait == {"limited": 77, "limited for years": 3600}[name]
        # The route's breaker stands for its destination, and of that nothing is known.
        assert (await lab.state()).failures == (1 if name == "refused" else 0)
        assert sent.status == "delivered"
        assert (await note(lab, sent)).startswith("sent; without the order: ")
        await store.heal()
        assert API_KEY not in ended.note + await note(lab, sent)


async def test_with_the_hours_budget_spent_a_condition_waits_without_an_attempt_and_a_message_goes(
    tmp_path: Path, database_url: str, store: StoreApi
) -> None:
    (order, other, *_) = await store.rows("orders")
    Puppet.acts |= {"one": rendering("sent"), "two": rendering("sent")}
    routes = {"one": puppet("order", when="order.total > 0"), "two": puppet("order")}
    # It says nothing of its hour, so that the hub's own count decides.
    await store.configure(rate_headers=False)
    async with open_shop(tmp_path, database_url, store, routes, rate={"limit": 1}) as lab:
        await lab.deliver_events(*(document("order.placed", orderId=one["id"]) for one in (order, other)))
        assert (await tried(lab)).status == "delivered"
        waiting, _, sent = await tried(lab), await tried(lab, "two"), await tried(lab, "two")
        (ended,) = await lab.attempts(waiting.id)
        assert (waiting.status, ended.outcome) == ("pending", "not_now")
        assert waiting.budget - waiting.attempts == len(hubdb.SCHEDULE) + 1
        assert waiting.next_attempt_at > lab.hub.now()
        unasked = "sent; without the order: the store's requests for this hour are used up"
        assert (sent.status, await note(lab, sent)) == ("delivered", unasked)
    # Never one by our own fault.
    assert [call.status for call in await store.calls()] == [200]


async def test_a_store_that_hangs_leaves_time_for_the_message(tmp_path: Path, sqlite_url: str, store: StoreApi) -> None:
    Puppet.acts["one"] = rendering("sent")
    async with open_shop(tmp_path, sqlite_url, store, {"one": puppet("order", timeout="2s")}) as lab:
        await store.fail("GET", "*/orders/*", kind="hang", times=None)
        await lab.deliver_events(document("order.placed", orderId="ord_1"))
        row = await tried(lab)
        assert await note(lab, row) == "sent; without the order: the store did not answer in time"


# ---- ctx.litekart


async def test_a_connector_calls_its_events_store(tmp_path: Path, sqlite_url: str, store: StoreApi) -> None:
    (order, *_) = await store.rows("orders")

    async def act(event: Event, ctx: Context) -> Receipt:
        found = await ctx.litekart.orders.get(event.data["orderId"])
        return Receipt(f"order {found.order_no}")

    Puppet.acts["one"] = act
    async with open_shop(tmp_path, sqlite_url, store, {"one": puppet()}) as lab:
        await lab.deliver_events(*(document("order.placed", orderId=id) for id in (order["id"], "ord_none")))
        done, missing = await tried(lab), await tried(lab)
        assert await note(lab, done) == f"order {order['order_no']}"
        assert (missing.status, missing.error_key) == ("pending", "status_404")
        assert lab.hub.redact(f"Bearer {API_KEY}") == "Bearer ****"
        assert API_KEY not in repr(lab.hub.clients)
    # Sent once: whether it is tried again is the hub's to say.
    assert len(await store.calls_to("GET", "*/orders/ord_none")) == 1


async def test_an_answer_to_a_connectors_own_call_says_which_setting_to_look_at(
    tmp_path: Path, sqlite_url: str, store: StoreApi
) -> None:
    remedies = {
        401: ("hold_route", ["see whether stores.main.api_key is the right one"]),
        403: ("try_again", ["see whether the store's admin lets stores.main.api_key do this"]),
        # That it has no such order is no matter of the config.
        404: ("try_again", []),
    }
    routes = {f"r{status}": puppet() for status in remedies}
    Puppet.acts |= dict.fromkeys(routes, reading)
    async with open_shop(tmp_path, sqlite_url, store, routes) as lab:
        await lab.deliver_events(document("order.placed", orderId="ord_1"))
        for status, (outcome, remedy) in remedies.items():
            await store.fail("GET", "*/orders/*", status=status)
            row = await tried(lab, f"r{status}")
            (ended,) = await lab.attempts(row.id)
            assert (row.status, ended.outcome) == ("pending", outcome)
            said, *remedies_told = str(row.last_error).split("; ")
            assert said.startswith(f"HTTP {status}: GET /api/orders/{{id}}: ")
            assert remedies_told == remedy


async def test_a_store_id_that_is_missing_or_wrong_holds_what_needs_the_store(tmp_path: Path, sqlite_url: str) -> None:
    """A host of several stores answers so to every call: no delivery is dead of it, and none goes on asking."""
    Puppet.acts |= {"two": reading, "three": rendering("sent")}
    judged = puppet("order", when="order.total > 1")
    routes = {"one": judged, "two": puppet(), "three": puppet("order"), "four": judged}
    async with (
        StoreApi(profile="v2", orders=1) as store,
        open_shop(tmp_path, sqlite_url, store, routes, profile="v2") as lab,
    ):
        await lab.orders(2)
        for name in ("one", "two"):
            row = await tried(lab, name)
            assert (row.status, (await lab.attempts(row.id))[-1].outcome) == ("pending", "hold_route")
            assert "HTTP 400: GET /api/admin/orders/{id}: Store ID is required" in str(row.last_error)
            assert str(row.last_error).endswith("; see whether stores.main.profile and stores.main.store_id are right")
            await lab.claim_none(name)
        assert "without the order: HTTP 400" in await note(lab, await tried(lab, "three"))
        # The same about what was sent is no fault of the config.
        issue = {"code": "custom", "path": ["id"], "message": "no order of this store"}
        body = {"error": {"message": "store id and order do not fit", "issues": [issue]}}
        await store.fail("GET", "*/orders/*", status=400, body=body, times=None)
        assert (await tried(lab, "four")).status == "dead"


async def test_without_a_key_its_use_says_what_to_set(tmp_path: Path, sqlite_url: str, store: StoreApi) -> None:
    async def act(event: Event, ctx: Context) -> Receipt:
        await ctx.litekart.orders.get("ord_1")
        raise AssertionError

    Puppet.acts |= {"one": act, "two": rendering("sent")}
    routes = {"one": puppet(), "two": puppet("order")}
    async with open_shop(tmp_path, sqlite_url, store, routes, api_key=None) as lab:
        await lab.deliver_events(document("order.placed", orderId="ord_1"))
        row, sent = await tried(lab), await tried(lab, "two")
        remedy = "stores.main.api_key is not set, and without it the store cannot be asked"
        assert (row.status, row.last_error) == ("dead", remedy)
        assert await note(lab, sent) == f"sent; without the order: {remedy}"


async def test_the_test_of_a_route_asks_the_store_and_says_when_its_condition_is_judged(
    tmp_path: Path, sqlite_url: str, store: StoreApi
) -> None:
    routes = {"one": puppet("order", when="order.total > 1"), "two": puppet("order"), "three": puppet()}
    async with open_shop(tmp_path, sqlite_url, store, routes) as lab:
        well = {name: (await ask(lab, "test", route=name))["text"] for name in routes}
        await store.fail("GET", "*/orders*", status=401, times=None)
        ill = {name: await ask(lab, "test", route=name) for name in routes}
    assert well == {
        "one": "nothing to check; the store main answers; its condition names the store's order, so it is judged at "
        "delivery",
        "two": "nothing to check; the store main answers",
        "three": "nothing to check",
    }
    assert [ill[name]["passed"] for name in routes] == [False, True, True]
    asked, remedy = "the store main cannot be asked, and", "; see whether stores.main.api_key is the right one"
    assert ill["one"]["text"].startswith(f"{asked} the route's condition needs it: HTTP 401")
    assert f"{asked} messages go out without what it knows: HTTP 401" in ill["two"]["text"]
    assert remedy in ill["one"]["text"]
    assert remedy in ill["two"]["text"]


async def test_what_was_fetched_is_no_part_of_the_attempts_record(
    tmp_path: Path, sqlite_url: str, store: StoreApi
) -> None:
    (order, *_) = await store.rows("orders")
    Puppet.acts["one"] = rendering("sent")
    async with open_shop(tmp_path, sqlite_url, store, {"one": puppet("order")}) as lab:
        await lab.deliver_events(document("order.placed", orderId=order["id"]))
        row = await tried(lab)
        (ended,) = await lab.attempts(row.id)
        assert (ended.request, ended.response, ended.status_code) == (None, None, None)
        assert (await lab.row(DELIVERY)).status == "delivered"


async def test_a_bench_gives_a_connector_the_store_that_it_is_given(store: StoreApi) -> None:
    (order, *_) = await store.rows("orders")
    event = event_of(document("order.placed", orderId=order["id"]))
    async with open_bench(HttpSink()) as bench:
        with pytest.raises(Rejected, match="api_key is not set"):
            await bench.context(event).litekart.orders.get("ord_1")
    client = Litekart(API_KEY, store.url, allow=["127.0.0.1:*"])
    async with client, open_bench(HttpSink(), litekart=client) as bench:
        bench.fetched = {"order": {"total": 5}}
        ctx = bench.context(event)
        found = await ctx.litekart.orders.get(order["id"])
        assert (found.order_no, ctx.render("{{ order.total }}")) == (str(order["order_no"]), "5")
