"""What is written to Odoo, what its misleading answers mean, and an order's life as a real Odoo 19 answered it."""

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from connectors.erp.odoo.known import Place
from connectors.erp.odoo.rows import (
    Added,
    References,
    address_key,
    customer_row,
    differences,
    external,
    line_rows,
    order_row,
    percent,
    table,
    type_columns,
)
from connectors.erp.records import Line
from hub.errors import HoldRoute, Outcome, Rejected, TryAgain
from hub.language import compile_template
from hub.outcome import outcome_of
from tests.erp.odoo_scenes import CUP, GIFT, HOME, ORDER, SHIPPING, Reached, life_of_an_order, older, reached
from tests.erp.recording import listening_at, replaying

NOTHING_ADDED = Added({}, lambda *_, **__: "")
DIGITS: dict[str, Any] = {"discount": {"digits": [16, 2]}, "tax_ids": {}}
KEY = "odoo-canary-key"
TRACEBACK = "Traceback (most recent call last): canary"


# ---- rows


def test_external_ids_take_any_key_and_keep_them_apart() -> None:
    assert external("main", "order", "ord_1") == "__litekart_main__.order_ord_1"
    assert external("my.shop", "customer", "a b") == "__litekart_my%2Eshop__.customer_a%20b"
    assert " " not in external("a\u00a0b", "order", "x\ty\u2003é")
    assert len({external("s", "order", key) for key in ("a b", "a%20b", "a_b")}) == 3


def test_an_order_is_one_table_of_a_head_and_its_lines() -> None:
    references = References("7", "7", "8", {"v_1": "1", "v_2": "2", "SHIPPING": "3"})
    head = order_row("main", ORDER, references, {"pricelist_id": {}}, NOTHING_ADDED)
    lines = line_rows("main", ORDER, references, DIGITS, NOTHING_ADDED)
    fields, data = table(head, "order_line", lines)
    assert fields[:2] == ["id", "partner_id/.id"]
    first, *others = (dict(zip(fields, row, strict=True)) for row in data)
    assert (first["date_order"], first["pricelist_id/.id"]) == ("2026-11-22 01:02:03", "")
    assert (first["order_line/discount"], first["order_line/tax_ids/.id"]) == ("10.00", "")
    assert [one["id"] for one in others] == ["", ""]
    assert others[1]["order_line/id"] == "__litekart_main__.order_ord_1_line_shipping"


def test_columns_of_the_settings_stand_in_place_of_ours() -> None:
    def render(text: str, **names: Any) -> str:
        return compile_template(text).render(names)

    added = Added({"name": "{{ line.name }} of {{ order.number }}", "product_id/id": "shop.{{ line.key }}"}, render)
    row = line_rows("main", ORDER, References(""), DIGITS, added)[0]
    assert (row["name"], row["product_id/id"]) == ("Kettle of #1001", "shop.1")
    assert "product_id/.id" not in row


@pytest.mark.parametrize(
    ("quantity", "price", "discount", "expected"),
    [
        (2, "29.50", "5.90", "10.00"),
        (3, "29.50", "5.90", "6.67"),
        (1, "0", "1", "0"),
        (0, "5", "1", "0"),
        (1, "-4", "1", "-25.00"),
    ],
)
def test_a_discount_is_told_in_percent(quantity: int, price: str, discount: str, expected: str) -> None:
    assert percent(Line("1", CUP, "", quantity, Decimal(price), Decimal(discount)), DIGITS) == Decimal(expected)


def test_what_a_row_would_change_is_told_in_words() -> None:
    standing = {"name": "Asha", "phone": False, "country_id": [104, "India"], "list_price": 30.0, "is_storable": True}
    row = {"name": "Asha", "phone": "1", "country_id/.id": "104", "list_price": "30.00", "is_storable": "1"}
    assert list(differences(standing, row)) == ["phone: empty becomes 1"]
    assert list(differences(standing, {**row, "country_id/.id": "", "list_price": "31"}))[1:] == [
        "country_id: 104 becomes empty",
        "list_price: 30.0 becomes 31",
    ]


def test_contacts_addresses_and_kinds_of_product() -> None:
    row = customer_row(replace(ORDER.customer, phone="", address=GIFT), Place(104, 597), NOTHING_ADDED)
    assert "phone" not in row
    assert (row["street2"], row["country_id/.id"], row["state_id/.id"]) == ("", "104", "597")
    assert address_key(HOME) == address_key(replace(HOME, city="BENGALURU")) != address_key(GIFT)
    stock: dict[str, Any] = {"type": {"selection": [["consu", "Consumable"], ["product", "Storable"]]}}
    assert type_columns(CUP, stock) == {"type": "product"}
    assert type_columns(CUP, {"is_storable": {}}) == {"type": "consu", "is_storable": "1"}
    assert type_columns(SHIPPING, stock) == {"type": "service"}


# ---- answers


def failed(name: str, message: str = "no", status: int = 500) -> Response:
    return JSONResponse({"name": name, "message": message, "debug": TRACEBACK, "arguments": []}, status)


def page(status: int) -> Response:
    return Response("<h1>a page</h1>", status, media_type="text/html")


LOAD_LOST = {"ids": False, "messages": [{"type": "error", "message": "could not serialize access due to …"}]}
LOAD_WRONG = {"ids": False, "messages": [{"type": "error", "message": "Missing required value for Customer"}]}
RIGHTS = failed("odoo.exceptions.AccessError", "You may not. Allowed for: Sales", 403)
# What is answered, whether anything worked before, and what it means: its class, its words, the breaker's business.
ANSWERS: dict[str, tuple[Response, bool, type[Outcome], str, bool]] = {
    "the key": (failed("werkzeug.exceptions.Unauthorized", "Invalid apikey", 401), True, HoldRoute, "expired", False),
    "no database yet": (page(404), False, HoldRoute, "no Odoo database answers", False),
    "no database now": (page(404), True, TryAgain, "no Odoo database answers", True),
    "moved": (Response("", 301, {"Location": "/x"}), False, HoldRoute, "leads elsewhere", False),
    "a login page": (page(200), True, TryAgain, "a web page came", True),
    "a proxy": (page(502), True, TryAgain, "HTTP 502", True),
    "too many": (Response("", 429, {"Retry-After": "7"}), True, TryAgain, "HTTP 429", True),
    "deleted": (failed("odoo.exceptions.MissingError", "gone", 404), True, TryAgain, "gone", False),
    "a rule": (failed("odoo.exceptions.UserError", "not so", 422), True, Rejected, "not so", False),
    "a lock": (failed("odoo.exceptions.LockError", "locked", 409), True, TryAgain, "locked", False),
    "our mistake": (failed("builtins.KeyError", "nofield"), True, Rejected, "nofield", False),
    "a bad date": (failed("psycopg2.errors.InvalidTextRepresentation", "date"), True, Rejected, "date", False),
    "the database": (failed("psycopg2.OperationalError", "away"), True, TryAgain, "away", True),
    "overtaken": (failed("psycopg2.errors.SerializationFailure", "late"), True, TryAgain, "late", False),
    "unheard of": (failed("odoo.addons.x.Boom", "boom"), True, TryAgain, "boom", True),
    "a lost load": (JSONResponse(LOAD_LOST), True, TryAgain, "could not serialize", False),
    "a wrong load": (JSONResponse(LOAD_WRONG), True, Rejected, "Missing required value for Customer", False),
}


@contextlib.asynccontextmanager
async def odoo_that_says(answer: Response, *, rights: bool = True) -> AsyncIterator[tuple[Reached, list[str]]]:
    """One that gives `answer` to each `load` once it is set out; and what it was asked, but for versions."""
    asked: list[str] = []

    async def said(request: Request) -> Response:
        path = request.url.path
        if path == "/web/version":
            return JSONResponse({"version_info": [19, 0], "version": "19.0"})
        assert request.headers["authorization"] == f"bearer {KEY}"
        asked.append(path)
        if path.endswith("/has_access"):
            return JSONResponse(rights)
        return JSONResponse({"uid": 5}) if path.endswith("/context_get") else answer

    async with listening_at(said) as url, reached(url, KEY) as odoo:
        yield odoo, asked


@pytest.mark.parametrize("case", ANSWERS)
async def test_what_an_answer_means(case: str) -> None:
    answer, worked, expected, words, breaker = ANSWERS[case]
    async with odoo_that_says(answer) as (odoo, asked):
        talk = await odoo.backend.talk(odoo.context)
        if worked:
            assert await talk.line.user() == 5
        with pytest.raises(Exception) as raised:
            await talk.load("res.partner", {"id": "a.b"})
        outcome = outcome_of(raised.value, datetime.now(UTC))
        assert isinstance(outcome, expected), outcome
        assert words in outcome.reason
        assert not any(word in outcome.reason for word in ("canary", "Traceback"))
        assert getattr(outcome, "destination", False) is breaker
        assert sum(path.endswith("/load") for path in asked) == 1


@pytest.mark.parametrize("answer", [RIGHTS, JSONResponse(LOAD_WRONG)])
@pytest.mark.parametrize(("rights", "expected"), [(False, HoldRoute), (True, Rejected)])
async def test_a_missing_right_holds_the_route_and_a_rule_one_record(
    answer: Response, rights: bool, expected: type[Outcome]
) -> None:
    async with odoo_that_says(answer, rights=rights) as (odoo, _):
        with pytest.raises(expected):
            await (await odoo.backend.talk(odoo.context)).load("res.partner", {"id": "a.b"})


async def test_check_says_where_the_app_is_missing_that_has_orders() -> None:
    """A server without sales: its models are not there, and Odoo says so as of any other address."""
    absent = failed("werkzeug.exceptions.NotFound", "the model 'sale.order' does not exist", 404)
    there = {
        "res.users/context_get": {"uid": 5},
        "res.users/read": [{"id": 5, "login": "hub", "company_id": [1, "Acme"]}],
        "res.company/search_read": [{"id": 1, "name": "Acme", "currency_id": [1, "USD"]}],
        "product.product/search_read": [],
    }

    async def said(request: Request) -> Response:
        called = request.url.path.removeprefix("/json/2/")
        if called == "/web/version":
            return JSONResponse({"version_info": [19, 0], "version": "19.0"})
        if called.startswith("sale."):
            return absent
        return JSONResponse(there.get(called, True))

    async with listening_at(said) as url, reached(url, KEY) as odoo:
        with pytest.raises(HoldRoute) as missing:
            await odoo.backend.check(odoo.context)
    assert missing.value.reason.startswith("this Odoo has no sales orders: install the app Sales; ")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("odoo.exceptions.AccessDenied", HoldRoute),
        ("odoo.exceptions.UserError", Rejected),
        ("psycopg2.OperationalError", TryAgain),
        ("builtins.TypeError", Rejected),
    ],
)
async def test_over_json_rpc_all_is_told_by_name(name: str, expected: type[Outcome]) -> None:
    async def said(request: Request) -> Response:
        params = (await request.json())["params"]
        if params["method"] == "version":
            return JSONResponse({"result": {"server_version_info": ["saas~16", 4]}})
        if params["method"] == "authenticate":
            return JSONResponse({"result": 5})
        assert params["args"][:5] == ["hub", 5, KEY, "res.partner", "load"]
        assert params["args"][5] == [["id"], [["a.b"]]]
        error = {
            "code": 200,
            "message": "Odoo Server Error",
            "data": {"name": name, "message": "so", "debug": TRACEBACK},
        }
        return JSONResponse({"jsonrpc": "2.0", "error": error})

    async with listening_at(said) as url, older(url) as hidden, reached(hidden, KEY) as odoo:
        with pytest.raises(expected) as raised:
            await (await odoo.backend.talk(odoo.context)).load("res.partner", {"id": "a.b"})
    assert "canary" not in str(raised.value)


async def test_long_lists_are_asked_for_in_parts_that_an_answer_holds() -> None:
    sizes: list[int] = []

    async def said(request: Request) -> Response:
        if request.method == "GET":
            return JSONResponse({"version_info": [19]})
        asked = json.loads(await request.body())
        sizes.append(asked["limit"])
        records = range(asked["offset"], min(asked["offset"] + asked["limit"], 120))
        return JSONResponse([{"id": one, "name": "x" * 1000} for one in records])

    async with listening_at(said) as url, reached(url, KEY) as odoo:
        found = await (await odoo.backend.talk(odoo.context)).every("sale.order.line", [], ["name"])
    assert [one["id"] for one in found] == list(range(120))
    assert sizes[:2] == [200, 50]


# ---- as a real one answered


async def test_an_orders_life_by_json_2() -> None:
    async with replaying("odoo_life") as replay:
        await life_of_an_order(replay.url, "recorded-key")


async def test_an_orders_life_by_json_rpc() -> None:
    async with replaying("odoo_life_rpc") as replay, older(replay.url) as url:
        await life_of_an_order(url, "recorded-key")
