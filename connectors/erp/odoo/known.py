"""What is looked up in Odoo once and kept for a while: columns, the company, currencies, price lists, countries."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from connectors.erp.odoo.answers import Denied, Refused
from connectors.erp.odoo.transport import Line
from connectors.erp.records import Address
from hub.connector import HoldRoute

Columns = Mapping[str, Mapping[str, Any]]
MODELS = {
    "order": "sale.order",
    "line": "sale.order.line",
    "customer": "res.partner",
    "address": "res.partner",
    "product": "product.product",
}
"""What each of the settings' `fields` adds columns to."""
USED = {
    "sale.order": ["state", "locked", "pricelist_id"],
    "sale.order.line": ["tax_ids", "tax_id", "discount"],
    "res.partner": ["customer_rank"],
    "product.product": ["type", "is_storable"],
    "purchase.order": ["state"],
}
APPS = {"purchase.order": "Purchase"}
"""What has a model that is not of the app Sales."""
ASKED = ["type", "required", "selection", "digits"]


@dataclass(frozen=True)
class Company:
    """Whose orders these are. `currency` is its code."""

    id: int
    name: str
    currency: str


@dataclass(frozen=True)
class Place:
    """An address's country and state as Odoo's ids, None where Odoo has none by that name."""

    country: int | None = None
    state: int | None = None


async def _kept(line: Line, key: tuple[str, ...], ask: Callable[[], Awaitable[Any]]) -> Any:
    if key not in line.server.kept:
        line.server.kept[key] = await ask()
    return line.server.kept[key]


async def columns(line: Line, model: str) -> Columns:
    """Those columns of a model that are of use here, with their type: versions differ in them, and apps add to them."""

    async def ask() -> Columns:
        wanted = [*USED[model], *_added(line, model)]
        try:
            # All of them would be more than an answer may hold: that of time zones alone is a list of hundreds.
            found: Columns = await line.call(model, "fields_get", allfields=wanted, attributes=ASKED)
        except Denied:
            raise
        except Refused:
            raise HoldRoute(f"this Odoo has no {model}: install the app {APPS.get(model, 'Sales')}") from None
        return found

    found: Columns = await _kept(line, ("columns", model), ask)
    return found


async def has_column(line: Line, model: str, column: str) -> bool:
    """Whether an app, or a version, has it."""

    async def ask() -> bool:
        return column in await line.call(model, "fields_get", allfields=[column], attributes=["type"])

    found: bool = await _kept(line, ("column", model, column), ask)
    return found


def _added(line: Line, model: str) -> Iterator[str]:
    for kind in (kind for kind, of in MODELS.items() if of == model):
        yield from map(base, getattr(line.server.settings.fields, kind))


def base(column: str) -> str:
    """The column that `partner_id/.id` writes: `partner_id`."""
    return column.partition("/")[0]


async def company(line: Line) -> Company:
    """The one that the settings name, else the user's own. Raises HoldRoute where there is no such."""
    name = line.server.settings.company

    async def ask() -> Company:
        if name is None:
            user = await line.call("res.users", "read", ids=[await line.user()], fields=["company_id"])
            domain: list[Any] = [["id", "=", user[0]["company_id"][0]]]
        else:
            domain = [["name", "=", name]]
        found = await line.call("res.company", "search_read", domain=domain, fields=["name", "currency_id"], limit=1)
        if not found:
            raise HoldRoute(f"the key's user sees no company “{name}” in Odoo: look at `company` and at the user's own")
        return Company(found[0]["id"], found[0]["name"], found[0]["currency_id"][1])

    found: Company = await _kept(line, ("company",), ask)
    return found


async def pricelist(line: Line, currency: str) -> int | None:
    """The price list that puts an order into that currency; None: none is needed, it is the company's own.

    Raises HoldRoute, with the remedy, for a currency that Odoo does not have, or has without a price list.
    """
    home = await company(line)
    named = line.server.settings.pricelists.get(currency)
    needed = (await columns(line, "sale.order")).get("pricelist_id", {}).get("required", False)
    if currency in ("", home.currency) and named is None and not needed:
        return None

    async def ask() -> int:
        return await _asked_pricelist(line, currency or home.currency, named, home)

    found: int = await _kept(line, ("pricelist", currency), ask)
    return found


async def _asked_pricelist(line: Line, currency: str, named: str | None, home: Company) -> int:
    known = await asked_currency(line, currency)
    remedy = f"add a price list in {currency} (Sales, Configuration, Pricelists)"
    if known is None:
        raise HoldRoute(f"Odoo knows no currency {currency}: add it there, then {remedy}")
    if not known["active"]:
        raise HoldRoute(f"the currency {currency} is not active in Odoo: activate it (Currencies) and {remedy}")
    domain: list[Any] = [["currency_id", "=", known["id"]], ["company_id", "in", [False, home.id]]]
    if named is not None:
        domain.append(["name", "=", named])
    found = await line.call("product.pricelist", "search_read", domain=domain, fields=["name"], limit=1)
    if not found and named is not None:
        raise HoldRoute(f"Odoo has no price list “{named}” in {currency}: {remedy}, or mend `pricelists`")
    if not found:
        raise HoldRoute(f"Odoo has no price list in {currency}: {remedy}")
    return int(found[0]["id"])


async def asked_currency(line: Line, code: str) -> Mapping[str, Any] | None:
    """Its `id`, and whether it is `active`; None where Odoo does not know it."""
    found = await line.call(
        "res.currency", "search_read", domain=[["name", "=", code]], fields=["active"], limit=1,
        more={"active_test": False},
    )  # fmt: skip
    return found[0] if found else None


async def place(line: Line, address: Address) -> Place:
    """Where it is, by code and else by name."""
    key = ("place", address.country_code, address.country, address.state)

    async def ask() -> Place:
        country = await _country(line, address)
        return Place(country, await _state(line, country, address.state) if country and address.state else None)

    found: Place = await _kept(line, key, ask)
    return found


async def _country(line: Line, address: Address) -> int | None:
    for column, value in (("code", address.country_code.upper()), ("name", address.country)):
        if value:
            found = await line.call("res.country", "search", domain=[[column, "=ilike", escaped(value)]], limit=1)
            if found:
                return int(found[0])
    return None


async def _state(line: Line, country: int, name: str) -> int | None:
    same = ["|", ["code", "=ilike", escaped(name)], ["name", "=ilike", escaped(name)]]
    found = await line.call("res.country.state", "search", domain=[["country_id", "=", country], *same], limit=1)
    return int(found[0]) if found else None


def escaped(text: str) -> str:
    """For `=ilike` and `ilike`: letter for letter."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
