"""The backend for any JSON REST API: over real HTTP on loopback, against servers that answer well or badly."""

import json
import re
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
import yaml

from connectors.erp import Erp
from connectors.erp.backend import Session
from connectors.erp.records import Record
from connectors.erp.rest.pointer import Astray, checked, value_at
from connectors.erp.rest.settings import Call, LookUp, OrderThing, RestSettings, Step
from hub.config import load_config
from hub.connector import Context, HoldRoute, Rejected, Skip, TryAgain
from hub.errors import ConfigError, Outcome
from hub.litekart import Litekart
from hub.outcome import outcome_of
from hub.testing import Answer, Bench, ConnectorTests, HttpSink, Received, event_of, open_bench, sample
from tests.config_files import STORES
from tests.connectors.erp.erpnext import ErpNext
from tests.connectors.erp.recipes import PAID, RECIPES, an_order, backend_of, recipe

TOKEN = "rest-canary-token"
PLAIN = {"confirm": "never", "notes": False}
ORDER = an_order("1")


def json_answer(document: object, status: int = 200) -> Answer:
    return Answer(status, json.dumps(document).encode(), {"content-type": "application/json"})


def context(bench: Bench) -> Context:
    return bench.context(event_of(sample("order.placed", orderId="ord_1")))


async def outcome(work: Any, bench: Bench) -> Outcome:
    """What the hub makes of it: an outcome, or what flew."""
    with pytest.raises(Exception) as caught:
        await work
    return outcome_of(caught.value, bench.now())


# ---- ERPNext's recipe


@pytest.fixture
async def erpnext() -> AsyncIterator[Bench]:
    async with open_bench(ErpNext()) as bench:
        yield bench


async def erpnext_session(bench: Bench, key: str = "erpnext-canary-key") -> Session:
    environ = {"ERPNEXT_KEY": key, "ERPNEXT_SECRET": "erpnext-canary-secret", "ERPNEXT_SITE": bench.url}
    settings = recipe("erpnext", **environ, ERPNEXT_COMPANY="Kettles", ERPNEXT_WAREHOUSE="Main - K")
    return await backend_of(settings).session(context(bench))


async def test_an_order_lives_in_erpnext(erpnext: Bench) -> None:
    session, held = await erpnext_session(erpnext), erpnext.counterpart.documents
    planned = await session.plan_order(ORDER, await session.find_order(ORDER, None))
    assert [(write.target, write.changes) for write in planned] == [
        ("POST /resource/Customer", ("new",)), *[("POST /resource/Item", ("new",))] * 3,
        ("POST /resource/Sales%20Order", ("new",)),
    ]  # fmt: skip
    assert planned[-1].rows["customer"] == "the customer's id"  # type: ignore[index]
    assert not any(held.values())

    made = await session.write_order(ORDER, None, None)
    number = "SAL-ORD-2026-00001"
    assert made.record == Record(number, number, "draft", "0", f"{erpnext.url}/app/sales-order/{number}")
    assert made.remarks == ()
    (order,) = held["Sales Order"].values()
    assert [(row["item_code"], row["qty"], row["rate"]) for row in order["items"]] == [
        ("KET-1", 2, 29.5), ("SPO-1", 1, 3.5), ("SHIPPING-1", 1, 4),
    ]  # fmt: skip
    assert (order["customer"], order["delivery_date"], order["grand_total"]) == ("Asha Rao", "2026-01-02", 66.5)

    again = await erpnext_session(erpnext)
    found = await again.find_order(ORDER, None)
    assert found == made.record
    same = await again.write_order(ORDER, found, made.fingerprint)
    assert (same.changed, same.fingerprint) == (False, made.fingerprint)
    more = an_order("1", quantity=3)
    changed = await again.write_order(more, found, made.fingerprint)
    assert changed.fingerprint != made.fingerprint
    assert held["Sales Order"][number]["items"][0]["qty"] == 3
    for _ in range(2):
        await again.note(changed.record, PAID)
        confirmed = await again.confirm(changed.record)
    assert (confirmed.state, len(held["Comment"])) == ("confirmed", 1)
    refused = await outcome(again.write_order(ORDER, confirmed, None), erpnext)
    assert refused.reason == (
        f"PUT /resource/Sales%20Order/{number}: HTTP 417: Not allowed to change items after submission"
    )
    assert (await again.cancel(confirmed)).state == "cancelled"
    assert [len(documents) for documents in held.values()] == [1, 3, 1, 1]


async def test_what_erpnext_has_already_is_taken(erpnext: Bench) -> None:
    """Its customer by e-mail; an item and an order that another attempt made between the look-up and ours."""
    held = erpnext.counterpart.documents
    held["Customer"]["Rao & Co"] = {"name": "Rao & Co", "email_id": ORDER.customer.email, "docstatus": 0}
    session = await erpnext_session(erpnext)
    made = await session.write_order(ORDER, None, None)
    empty = json_answer({"data": []})
    for what in ("/Item?", "/Sales%20Order?"):
        erpnext.counterpart.answer(empty, to=lambda request, what=what: what in request.path)
    assert await session.find_order(ORDER, None) is None
    assert (await session.write_order(an_order("1", quantity=4), None, None)).record == made.record
    assert held["Sales Order"][made.record.id]["items"][0]["qty"] == 4
    assert [len(documents) for documents in held.values()] == [1, 3, 1, 0]
    cancelled = await session.cancel(made.record)
    assert (cancelled.state, cancelled.number) == ("cancelled", made.record.number)


async def test_the_answer_that_was_lost_is_found(erpnext: Bench) -> None:
    class Losing(ErpNext):
        async def respond(self, request: Received) -> Answer:
            answer = await super().respond(request)
            return Answer(drop=True) if request.method == "POST" and "Sales%20Order" in request.path else answer

    async with open_bench(Losing()) as bench:
        lost = await outcome((await erpnext_session(bench)).write_order(ORDER, None, None), bench)
        assert isinstance(lost, TryAgain)
        found = await (await erpnext_session(bench)).find_order(ORDER, None)
        assert found is not None
        assert len(bench.counterpart.documents["Sales Order"]) == 1


async def test_erpnexts_errors_mean_what_they_say(erpnext: Bench) -> None:
    wrong = await outcome((await erpnext_session(erpnext, "other")).find_order(ORDER, None), erpnext)
    assert isinstance(wrong, HoldRoute)
    session = await erpnext_session(erpnext)
    busy = json_answer({"exc_type": "TimestampMismatchError", "exception": "Document has been modified"}, 417)
    erpnext.counterpart.answer(busy)
    assert isinstance(await outcome(session.find_order(ORDER, None), erpnext), TryAgain)
    nowhere = an_order("1")
    erpnext.counterpart.answer(json_answer({"data": {"name": "Gone"}}), to=lambda request: request.method == "POST")
    missing = await outcome(session.write_order(nowhere, None, None), erpnext)
    assert isinstance(missing, Rejected)
    assert missing.reason == "POST /resource/Sales%20Order: HTTP 417: Could not find Customer: Gone"


# ---- settings of a made-up ERP

PUT = {
    "method": "PUT",
    "path": "/orders/{{ order.id }}",
    "body": {
        "no": "{{ order.number }}",
        "total": "{{ order.total }}",
        "total_text": "{{ order.total | string }}",
        "title": "Order {{ order.number }}",
        "paid": "{{ order.paid }}",
        "at": "{{ order.placed_at }}",
        "comment": "{{ order.comment or omit }}",
        "nothing": None,
        "rows": [["create", {"each": "order.lines", "item": {"n": "{{ position }}", "price": "{{ line.price }}"}}]],
        "tags": ["{{ omit }}", "litekart", 7, 1.5, True],
    },
}
FIND = {"path": "/orders", "query": {"ref": "{{ order.id }}"}, "hits": "/data/items"}


def rest(**more: Any) -> dict[str, Any]:
    given = {"url": "http://127.0.0.1:1", "auth": {"bearer": TOKEN}, **more}
    return {**PLAIN, "rest": {name: value for name, value in given.items() if value is not None}}


async def session_of(bench: Bench, **more: Any) -> Session:
    return await backend_of(rest(url=f"{bench.url}/api/", **more)).session(context(bench))


async def test_values_keep_their_types_and_paths_their_parts() -> None:
    async with open_bench(HttpSink(default=Answer(204, b""))) as bench:
        for tag in ("1", "a/../b?c#d é%20"):
            session = await session_of(bench, order={"create": PUT}, idempotency_header="Idempotency-Key")
            made = await session.write_order(an_order(tag), None, None)
            assert (made.record.id, made.record.state) == (f"ord_{tag}", "draft")
        await session.write_order(an_order(tag), None, None)
        first, hard, repeated = bench.counterpart.received
    assert first.body.decode() == (
        '{"no": "101", "total": 66.50, "total_text": "66.50", "title": "Order 101", "paid": false, '
        '"at": "2026-01-02T03:04:05+00:00", "nothing": null, "rows": [["create", [{"n": 1, "price": 29.50}, '
        '{"n": 2, "price": 4.00}, {"n": 3, "price": 4.00}]]], "tags": ["litekart", 7, 1.5, true]}'
    )
    assert (first.method, first.path) == ("PUT", "/api/orders/ord_1")
    assert first.headers["authorization"] == f"Bearer {TOKEN}"
    assert hard.path == "/api/orders/ord_a%2F..%2Fb%3Fc%23d%20%C3%A9%2520"
    assert hard.key == repeated.key
    assert hard.key.isascii()
    assert first.key != hard.key
    assert first.key.startswith(bench.key)


async def test_a_path_that_comes_to_nothing_is_not_asked() -> None:
    async with open_bench(HttpSink()) as bench:
        for path, said in (("/orders/{{ order.comment }}", "''"), ("/x/{{ order.status }}", "'..'")):
            session = await session_of(bench, order={"create": {**PUT, "path": path}})
            refused = await outcome(session.write_order(an_order("1", status=".."), None, None), bench)
            assert isinstance(refused, Rejected)
            assert f"rest.order.create.path: {path.split('/')[-1]} comes to {said}" in refused.reason
        session = await session_of(bench, order={"create": {**PUT, "body": {"a": [{"b": "{{ order.totl }}"}]}}})
        wrong = await outcome(session.write_order(ORDER, None, None), bench)
        assert wrong.reason == "rest.order.create.body.a[0].b: no field totl; there is total"
        assert len(bench.counterpart.received) == 0


async def test_the_key_goes_where_the_erp_wants_it() -> None:
    async with open_bench(HttpSink(default=json_answer({"who": {"name": "Hub <b>1</b>"}}))) as bench:
        check = {"path": "/me", "who": "/who/name"}
        for auth in (
            {"basic": {"username": "hub", "password": TOKEN}},
            {"header": {"name": "X-Key", "value": TOKEN}},
            {"query": {"name": "key", "value": f"{TOKEN}&"}},
        ):
            order = {"create": {**PUT, "body": {"a": "{{ order.totl }}"}}}
            settings = rest(url=bench.url, auth=auth, headers={"X-Company": "1"}, check=check, order=order)
            told = await backend_of(settings).check(context(bench))
        host = bench.url.removeprefix("http://")
        assert told == (
            f"{host} answers GET /me: Hub 1; not set, so not done: customer, product, confirm, cancel, note; "
            "with a made-up order in INR: rest.order.create.body.a: no field totl; there is total"
        )
        basic, header, query = bench.counterpart.received
        assert basic.headers["authorization"] == "Basic aHViOnJlc3QtY2FuYXJ5LXRva2Vu"
        assert (header.headers["x-key"], header.headers["x-company"]) == (TOKEN, "1")
        assert query.path == f"/me?key={TOKEN}%26"
        bench.counterpart.answer(Answer(401, b"<html>no</html>"))
        assert isinstance(await outcome(backend_of(settings).check(context(bench)), bench), HoldRoute)
        lost = rest(url=bench.url, check={"path": "/me", "who": "/user"}, order={"create": PUT})
        said = (await outcome(backend_of(lost).check(context(bench)), bench)).reason
        assert said == "GET /me names nobody where rest.check.who says: nothing at /user: the answer holds who"
        told = await backend_of(rest(url=bench.url, order={"create": PUT})).check(context(bench))
        assert told.startswith(f"{host} can be reached; rest.check names no request")


FOUND = {"data": {"items": [{"id": 7, "ref": "ORD_1", "state": "open"}]}}
ANSWERS: list[tuple[Answer, dict[str, Any], type[Outcome], str]] = [
    (Answer(200, b"<html><title>Sign in</title></html>", {"content-type": "text/html"}), {}, TryAgain,
     "GET /orders: HTTP 200 with what is no JSON (text/html)"),
    (Answer(200, b'{"data": "' + b"x" * 10_000_000 + b'"}'), {}, TryAgain, "GET /orders: the answer is longer than"),
    (Answer(200, b"[" * 100_000), {}, TryAgain, "with what is no JSON"),
    (Answer(302, b"", {"location": "https://elsewhere.example/"}), {}, TryAgain, "it sends elsewhere"),
    (Answer(503, b"later", {"retry-after": "7"}), {}, TryAgain, "HTTP 503: later"),
    (Answer(404, b"{}"), {}, Rejected, "GET /orders: HTTP 404"),
    (json_answer({"error": {"message": "no such field"}}, 400), {}, Rejected, "GET /orders: HTTP 400: no such field"),
    (json_answer({"detail": f"bad {TOKEN} <i>&amp;</i>\x00"}, 422), {}, Rejected, "HTTP 422: bad **** &"),
    (Answer(200, b""), {}, Rejected, "nothing at /data/items: the answer is null"),
    (json_answer({"data": {"rows": []}}), {}, Rejected,
     "GET /orders has nothing where rest.order.look_up.hits says: nothing at /data/items: /data holds rows"),
    (json_answer({"data": {"items": "none"}}), {}, Rejected, "has no list where rest.order.look_up.hits says"),
    (json_answer({"data": {"items": [{"id": None}]}}), {}, Rejected, "neither a text nor a whole number"),
    (json_answer({"data": {"items": [{"id": 7}, {"id": 8}, {"id": 9}]}}), {}, Rejected,
     "the order 101 is in the ERP twice: 7 and 8, and 1 more; make them one there"),
    (json_answer({"data": {"items": [{"id": 7, "state": "odd"}]}}), {"state": {"at": "/state", "draft": ["open"]}},
     Rejected, "7 is odd in the ERP: rest.order.state does not say what that means"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "more", "kind", "said"), ANSWERS, ids=[f"{number}" for number in range(len(ANSWERS))]
)
async def test_bad_answers_have_an_outcome_and_a_reason(
    answer: Answer, more: dict[str, Any], kind: type[Outcome], said: str
) -> None:
    async with open_bench(HttpSink(answer), max_answer=Erp.max_answer) as bench:
        session = await session_of(bench, order={"look_up": FIND, "create": {"path": "/orders"}, **more})
        found = await outcome(session.find_order(ORDER, None), bench)
        assert (type(found), said in found.reason) == (kind, True), found.reason
        assert TOKEN not in found.reason
        if answer.status == 503:
            assert isinstance(found, TryAgain)
            assert found.after == 7


async def test_a_search_that_finds_more_and_what_was_kept() -> None:
    """`match` picks; a record that is gone is looked up; an id that is not in the answer is looked up too."""
    other = {"id": 8, "ref": "ord_10"}
    both = {"data": {"items": [other, *FOUND["data"]["items"]]}}
    order = {
        "look_up": {**FIND, "match": {"/ref": "{{ order.id }}"}, "nothing": [404]},
        "read": {"path": "/orders/{{ ids.order }}", "record": "/data"},
        "create": {"path": "/orders", "body": {"rows": "{{ order.lines }}"}},
        "number": ["/no", "/ref"],
        "total": "/total",
        "state": {"at": "/state", "draft": ["OPEN"]},
    }
    async with open_bench(
        HttpSink(json_answer(both), Answer(404, b"{}"), Answer(404, b"no"), Answer(404, b""))
    ) as bench:
        session = await session_of(bench, order=order)
        assert await session.find_order(ORDER, None) == Record("7", "ORD_1", "draft", "open")
        assert await session.find_order(ORDER, "7") is None
        bench.counterpart.answer(json_answer({"data": {"id": 7, "no": "S7", "state": "open"}}))
        assert await session.find_order(ORDER, None) is None
        assert await session.find_order(ORDER, "7") == Record("7", "S7", "draft", "open")
        bench.counterpart.answer(Answer(201, b""), json_answer(both))
        assert (await session.write_order(ORDER, None, None)).record.id == "7"
        bench.counterpart.answer(json_answer({"id": 9, "no": "S9", "total": 12.5}, 201))
        made = await session.write_order(ORDER, None, None)
        assert made.remarks == ("its total is 12.5 in the ERP and 66.50 in the store",)
        kept = await session.write_order(an_order("1", quantity=9), made.record, made.fingerprint)
        assert (kept.changed, kept.remarks[0]) == (
            False, "what changed in the store was not written: rest.order.update is not set",
        )  # fmt: skip
        with pytest.raises(Rejected, match=r"rest\.cancel is not set"):
            await session.cancel(made.record)


async def test_only_what_is_needed_is_sent() -> None:
    """An order changes its customer and no product; a product's own event does; what is so already is left so."""
    look_up, update = {"path": "/found"}, {"method": "PATCH", "path": "/{{ ids.customer | default(ids.product) }}"}
    thing = {"look_up": look_up, "update": {**update, "body": {}}}
    async with open_bench(HttpSink(default=json_answer({"id": 5}))) as bench:
        steps = [{"path": "/never", "when": 'record.number == ""'}, {"path": "/{{ ids.order }}/ok", "body": {}}]
        order = {"create": PUT, "state": {"at": "/state", "confirmed": ["ok"]}}
        session = await session_of(bench, customer=thing, product=thing, order=order, confirm=steps)

        def sent() -> list[str]:
            return [f"{request.method} {request.path.removeprefix('/api')}" for request in bench.counterpart.received]

        made = await session.write_order(ORDER, None, None)
        assert sent() == ["GET /found", "PATCH /5", *["GET /found"] * 3, "PUT /orders/ord_1"]
        confirmed = await session.confirm(made.record)
        assert await session.confirm(confirmed) == confirmed
        assert sent()[6:] == ["POST /5/ok"]
        first = await session.write_products([ORDER.lines[0].product], None)
        again = await session.write_products([ORDER.lines[0].product], first.fingerprint)
        assert (first.changed, again.changed) == (True, False)
        assert sent()[7:] == ["GET /found", "PATCH /5", "GET /found"]


async def test_ids_learned_later_do_not_change_the_fingerprint() -> None:
    row = ["{{ ids.products[line.product.key] }}", "{{ line.quantity }}"]
    rows = {"each": "order.lines", "item": row}
    create = {"path": "/orders", "body": {"customer": "{{ ids.customer }}", "at": "{{ ids.place }}", "rows": rows}}
    look_up = {"path": "/found", "nothing": [404]}
    prints = []
    for number in (1, 2):
        async with open_bench(HttpSink(default=json_answer({"id": number, "place": {"id": 5}}))) as bench:
            session = await session_of(
                bench,
                customer={"look_up": look_up, "also": {"place": "/place/id"}},
                product={"look_up": look_up},
                order={"look_up": look_up, "create": create},
            )
            prints.append((await session.write_order(ORDER, None, None)).fingerprint)
            sent = bench.counterpart.received[-1].json()
            assert sent == {"customer": str(number), "at": 5, "rows": [[str(number), q] for q in (2, 1, 1)]}
            prints.append((await session.write_order(an_order("1", quantity=7), None, None)).fingerprint)
            bench.counterpart.default = Answer(404, b"{}")
            missing = await outcome(session.write_order(ORDER, None, None), bench)
            assert "the customer asha_1@example.com is not in the ERP, and rest.customer.create" in missing.reason
    assert prints[:2] == prints[2:]
    assert prints[0] != prints[1]


async def test_a_thousand_rows_are_one_request() -> None:
    many = an_order("1").lines[:1] * 2000
    async with open_bench(HttpSink(default=Answer(204, b"")), timeout=60) as bench:
        session = await session_of(bench, order={"create": PUT})
        await session.write_order(an_order("1", lines=many), None, None)
        (request,) = bench.counterpart.received
    assert len(request.json()["rows"][0][1]) == 2000


BAD: list[tuple[dict[str, Any], str]] = [
    ({"url": "ftp://erp"}, "rest.url: must be a whole address"),
    ({"url": "https://erp.example/?key=1"}, "rest.url: ends with the path"),
    ({"auth": {"bearer": TOKEN, "basic": {"username": "a", "password": TOKEN}}}, "rest.auth: name one way"),
    ({"headers": {"Content-Type": "a"}}, "rest.headers: Content-Type is set by the connector itself"),
    ({"order": {"create": {**PUT, "path": "orders"}}}, "rest.order.create.path: starts with /"),
    ({"order": {"create": {**PUT, "path": "/orders?x=1"}}}, "rest.order.create.path: holds {{ expressions }}"),
    ({"order": {"create": {**PUT, "path": "/{{ order.id"}}}, "rest.order.create.path: holds {{ expressions }}"),
    ({"order": {"create": {**PUT, "body": {"a": {"each": "{{ x }}", "item": 1}}}}}, "a.each: is an expression without"),
    ({"order": {"create": {**PUT, "body": [{"each": "order.lines"}]}}}, "[0]: beside `each` stand `item`"),
    ({"order": {"create": {**PUT, "body": {"a": "{{ order.x | nope }}"}}}}, "body.a: no filter named nope"),
    ({"order": {"create": {**PUT, "body": {"each": "order.lines |", "item": 1}}}}, "body.each: "),
    ({"order": {"create": {"path": "/orders"}}}, "rest: order: needs a look_up, or a create by PUT"),
    ({"order": {}}, "rest.order: needs a look_up, a create or both"),
    ({"order": {"create": {"method": "PUT", "path": "/o", "already_there": [409]}}}, "rest.order: already_there needs"),
    ({"order": {"look_up": {**FIND, "hits": "data"}}}, "rest.order.look_up.hits: is a JSON pointer"),
    ({"order": {"create": PUT, "total": "/a~2"}}, "rest.order.total: is a JSON pointer"),
    ({"order": {"create": PUT, "stat": 1}}, "rest.order.stat: unknown; did you mean state?"),
    ({"order": {"create": PUT, "state": {"at": "/s", "draft": [0], "confirmed": ["0"]}}}, "0 stands in more than one"),
    ({"order": {"create": {**PUT, "done": [20]}}}, "rest.order.create.done: are statuses of HTTP"),
    ({"order": {"create": {**PUT, "body": "{{ ids.customer }}"}}}, "a template names ids.customer, and `customer`"),
    ({"confirm": {"path": "/x"}}, "rest: confirm: needs `order`"),
    ({"order": {"create": PUT}, "cancel": [{"path": "/x", "when": "{{ a }}"}]}, "when: is an expression without"),
]


@pytest.mark.parametrize(("wrong", "said"), BAD, ids=[said[:40] for _, said in BAD])
def test_a_wrong_setting_is_named_with_its_place(wrong: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    route = {"connector": "connectors.erp:Erp", "settings": rest(**wrong)}
    path.write_text(f"{STORES}routes: {json.dumps({'books': route})}")
    with pytest.raises(ConfigError) as caught:
        load_config(path, {})
    assert f"routes.books.settings.{said}" in str(caught.value) or said in str(caught.value)
    assert str(caught.value).count("\n") == 0
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("more", "said"), [({"confirm": "on order.placed"}, "rest.confirm"), ({"notes": True}, "rest.note")]
)
def test_what_is_asked_for_must_be_described(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        backend_of({**rest(order={"create": PUT}), **more})


@pytest.mark.parametrize(
    ("pointer", "value"),
    [("", ...), ("/a~1b", 1), ("/m~0n", 8), ("/foo/0", "bar"), ("/", 0), ("/foo/2", None), ("/foo/01", None),
     ("/foo/-", None), ("/foo/x", None), ("/a", None), ("/foo/0/0", None)],
)  # fmt: skip
def test_pointers_as_rfc_6901_has_them(pointer: str, value: Any) -> None:
    document = {"foo": ["bar", "baz"], "": 0, "a/b": 1, "m~n": 8}
    find: Callable[[], Any] = lambda: value_at(document, checked(pointer))  # noqa: E731
    if value is None:
        with pytest.raises(Astray, match=f"nothing at {pointer}: "):
            find()
    else:
        assert find() == (document if value is ... else value)


async def test_the_guides_first_settings_write_an_order() -> None:
    page = (RECIPES.parent / "erp.md").read_text().partition("## Any REST ERP")[2]
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    settings = yaml.safe_load(block)
    async with open_bench(HttpSink(default=json_answer({"data": {"id": "C-1"}}))) as bench:
        settings["rest"]["url"] = bench.url
        session = await backend_of(settings).session(context(bench))
        assert (await session.write_order(ORDER, None, None)).record.id == "C-1"
        asked, made, sent = bench.counterpart.received
    # What an answer holds without being that customer is not taken for him.
    assert (made.method, made.path) == ("POST", "/customers")
    assert asked.path == "/customers?email=asha_1%40example.com"
    assert sent.path == "/orders/ord_1"
    assert sent.json()["lines"][0] == {"sku": "KET-1", "quantity": 2, "price": 29.5}
    assert sent.json()["customer"] == "C-1"
    assert "comment" not in sent.json()


def test_the_guide_names_every_setting() -> None:
    page = (RECIPES.parent / "erp.md").read_text()
    names = {name for model in (RestSettings, OrderThing, LookUp, Call, Step) for name in model.model_fields}
    assert {name for name in names if f"`{name}" not in page} == set()


def test_the_recipes_order_makes_its_total() -> None:
    assert ORDER.amount == Decimal("66.50")


STORED = {
    "id": "ord_1", "orderNo": "1042", "currency": "USD", "total": 59, "email": "asha@example.com", "firstName": "Asha",
    "sku": "KET-1", "name": "Kettle",
    "items": [{"id": "itm_1", "productId": "prd_1", "sku": "KET-1", "name": "Kettle", "quantity": 2, "price": 29.5}],
}  # fmt: skip


class StoreAndErp(HttpSink):
    """A store that has whatever it is asked for, and an ERP that takes it."""

    async def respond(self, request: Received) -> Answer:
        return json_answer({**STORED, "id": request.path.partition("?")[0].rsplit("/", 1)[-1]})


class TestErpOverRest(ConnectorTests):
    """The kit, with a counterpart that is the store and the ERP at once."""

    connector_class = Erp
    outcomes: ClassVar[dict[str, type[Outcome]]] = {"404": Rejected}

    def settings(self, url: str) -> dict[str, Any]:
        create = {"method": "PUT", "body": {}}
        customer = {"create": {**create, "path": "/erp/customers/{{ customer.key }}"}}
        product = {"create": {**create, "path": "/erp/products/{{ product.key }}"}}
        order = {"create": {**PUT, "path": "/erp/{{ order.id }}"}}
        headers = {"X-Second": "rest-canary-header"}
        check = {"path": "/erp/check"}
        things = {"customer": customer, "product": product, "order": order}
        return rest(url=url, headers=headers, check=check, idempotency_header="Idempotency-Key", **things)

    def counterpart(self) -> HttpSink:
        return StoreAndErp()

    def litekart(self, url: str, http: httpx.AsyncClient) -> Litekart:
        return Litekart("store-canary-key", url, profile="v2", http=http, retries=0)

    def is_message(self, request: Received) -> bool:
        return request.path.startswith("/erp/ord_")

    async def test_a_replay_finds_the_effect_and_sends_nothing(self) -> None:
        """What is done is kept with the order, not with one delivery of an event about it."""
        async with self._bench() as bench:
            event = self.event()
            await self._receipt(bench, event)
            assert set(bench.entity_effects.kept) == {"id", "number", "rows"}
            again = await self._outcome(bench, event, attempt=2)
            assert isinstance(again, Skip)
            assert len(self.sent(bench.counterpart)) == 1
