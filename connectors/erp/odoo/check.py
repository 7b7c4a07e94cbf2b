"""Can it work? All that is missing in one message, in plain words, each with its remedy."""

from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from connectors.erp.odoo.answers import Refused
from connectors.erp.odoo.known import MODELS, company, pricelist
from connectors.erp.odoo.products import find_products, refuse_missing
from connectors.erp.odoo.talk import Talk
from connectors.erp.odoo.transport import DOING
from connectors.erp.records import Address, Product
from connectors.erp.sample import PRODUCT, SAMPLE
from connectors.messages import clean
from hub.connector import HoldRoute, Rejected, TemplateError

SOON = timedelta(days=14)
CHANGED, WRITTEN = ("read", "create", "write"), ("read", "create", "write", "unlink")
# What each is called, what is done with it, and the group of Odoo 19 that lets a user do it.
NEEDED: Sequence[tuple[str, str, Sequence[str], str]] = (
    ("sale.order", "sales orders", CHANGED, "Sales: User: All Documents"),
    ("sale.order.line", "lines of sales orders", WRITTEN, "Sales: User: All Documents"),
    ("res.partner", "contacts", CHANGED, "Contact Creation"),
    ("product.product", "products", CHANGED, "Product Creation"),
)


async def check(talk: Talk, now: datetime, skus: Sequence[str]) -> str:
    """Who and where, and what works. `skus` are those that shipping, discounts and taxes are sold as.

    Raises HoldRoute with all that is missing; what keeps it from asking at all flies as it is.
    """
    version = await talk.line.version()
    [user] = await talk.line.call("res.users", "read", ids=[await talk.line.user()], fields=["login"])
    home = await company(talk.line)
    problems = [one async for one in _problems(talk, user["login"], skus)]
    if problems:
        raise HoldRoute("; ".join(problems))
    server = talk.line.server.settings
    database = f", database {server.database}" if server.database else ""
    by = "JSON-2" if await talk.line.by_json2() else "JSON-RPC"
    told = f"Odoo {version} by {by}{database}, company {clean(home.name)} ({home.currency}), as {user['login']}"
    return f"{told}: orders, contacts and products can be written{await _expiry(talk, now)}{await _tried(talk)}"


async def _problems(talk: Talk, login: str, skus: Sequence[str]) -> AsyncIterator[str]:
    for model, called, operations, group in NEEDED:
        if missing := await _not_allowed(talk, model, called, _wanted(talk, model, operations)):
            yield missing if missing.startswith("this Odoo") else f"{login} {missing}: give that user “{group}”"
    asked: list[Awaitable[Any]] = [
        *(pricelist(talk.line, currency) for currency in talk.line.server.settings.pricelists),
        *(talk.added(kind) for kind in MODELS),
        *(_sold_as(talk, sku) for sku in dict.fromkeys(skus)),
    ]
    for question in asked:
        try:
            await question
        except (HoldRoute, Rejected) as missing:
            yield missing.reason


def _wanted(talk: Talk, model: str, operations: Sequence[str]) -> Sequence[str]:
    makes = talk.line.server.settings.missing_products == "create"
    return operations if makes or model != "product.product" else ("read",)


async def _not_allowed(talk: Talk, model: str, called: str, operations: Sequence[str]) -> str:
    """`may not make or change products`; empty where all is allowed."""
    try:
        lacking = [DOING[one] for one in operations if not await talk.line.may(model, one)]
    except Refused:
        return f"this Odoo has no {called}: install the app Sales"
    return f"may not {' or '.join(lacking)} {called}" if lacking else ""


async def _sold_as(talk: Talk, sku: str) -> None:
    refuse_missing(talk, await find_products(talk, [Product(sku, sku, sku, service=True)]))


async def _tried(talk: Talk) -> str:
    """What fails where the settings' columns are filled in with an order that is made up: a wrong name is seen now.

    It is told and no more: a template may know the store's own currencies alone.
    """
    order = {"order": asdict(SAMPLE)}
    known: dict[str, dict[str, Any]] = {
        "order": order,
        "line": {**order, "line": asdict(SAMPLE.lines[0])},
        "customer": {"customer": asdict(SAMPLE.customer)},
        "address": {"address": asdict(SAMPLE.shipping_address or Address())},
        "product": {"product": asdict(PRODUCT)},
    }
    for kind, names in known.items():
        try:
            (await talk.added(kind)).over({}, **names)
        except TemplateError as error:
            return f"; with a made-up order in {SAMPLE.currency}: {error}"
    return ""


async def _expiry(talk: Talk, now: datetime) -> str:
    """When the first of the user's keys ends: which of them this one is, Odoo does not tell."""
    mine = [["user_id", "=", await talk.line.user()], ["expiration_date", "!=", False]]
    try:
        found = await talk.line.call(
            "res.users.apikeys", "search_read", domain=mine, fields=["expiration_date"], order="expiration_date"
        )
    except (Refused, HoldRoute):
        return ""
    if not found:
        return ""
    ends = datetime.fromisoformat(found[0]["expiration_date"]).replace(tzinfo=UTC)
    soon = ": soon, so make a new one and put it into `api_key`" if ends - now < SOON else ""
    several = "a key of that user" if len(found) > 1 else "the key"
    return f"; {several} expires on {ends:%Y-%m-%d}{soon}"
