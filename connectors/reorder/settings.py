"""What a route with `connector: reorder` may hold under `settings`: suppliers, SKUs, how much, and what guards it.

The table of SKUs may stand in a CSV file beside the config: it is read with it, and its mistakes are told with it.
"""

import csv
import io
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PrivateAttr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from connectors.email import Email
from connectors.erp.odoo.settings import OdooSettings
from connectors.erp.rest.settings import RestSettings
from connectors.mail_message import is_address
from connectors.webhook import Webhook
from hub.connector import REORDER_CLOSES_AFTER, REORDER_WINDOW, Connector, Duration, Template

MOST = 1_000_000
MOST_ROWS = 100_000
DEFAULT_SALES = timedelta(days=30)
CODE = r"^[A-Z]{3}$"
HOW_MUCH = ("lot", "target", "rule", "cover")
Whole = Annotated[int, Field(ge=1, le=MOST)]
Money = Annotated[Decimal, Field(ge=0, le=10**9, max_digits=18)]
Currency = Annotated[str, Field(pattern=CODE, description="Three letters, such as EUR.")]

SUBJECT = "Purchase order {{ order.number }}"

TEXT = """Purchase order {{ order.number }}

To: {{ order.supplier }}

{% for line in order.lines %}
{{ line.quantity }} × {{ line.supplier_sku or line.sku }}  {{ line.name }}
{%- if line.price_text %}, {{ order.currency }} {{ line.price_text }} each{% endif %}
{%- if line.location_name %}, for {{ line.location_name }}{% endif %}

{% endfor %}
{% if order.total is not none %}

Total: {{ order.total | money(order.currency) }}
{% endif %}

The same lines are attached as {{ order.number }}.csv.
This order has been sent once. Should it reach you again with the number {{ order.number }}, it is the same order.
"""

HTML = """<!DOCTYPE html>
<html lang="en"><body style="margin:0;padding:24px;font-family:Arial,sans-serif;color:#18181b">
<h1 style="margin:0 0 8px;font-size:20px">Purchase order {{ order.number }}</h1>
<p style="margin:0 0 16px;font-size:15px">To: {{ order.supplier }}</p>
<table style="border-collapse:collapse;font-size:14px">
<tr>
{%- for title in ("SKU", "Our SKU", "Name", "Quantity", "Price", "For") %}
<th style="padding:6px 12px 6px 0;text-align:left">{{ title }}</th>
{%- endfor %}
</tr>
{%- for line in order.lines %}
<tr>
<td style="padding:6px 12px 6px 0">{{ line.supplier_sku or line.sku }}</td>
<td style="padding:6px 12px 6px 0">{{ line.sku }}</td>
<td dir="auto" style="padding:6px 12px 6px 0">{{ line.name }}</td>
<td style="padding:6px 12px 6px 0;text-align:right">{{ line.quantity }}</td>
<td style="padding:6px 12px 6px 0">{{ order.currency if line.price_text else "" }} {{ line.price_text }}</td>
<td dir="auto" style="padding:6px 12px 6px 0">{{ line.location_name }}</td>
</tr>
{%- endfor %}
</table>
{%- if order.total is not none %}
<p style="margin:16px 0 0;font-size:14px">Total: {{ order.total | money(order.currency) }}</p>
{%- endif %}
<p style="margin:24px 0 0;font-size:12px;color:#71717a">This order has been sent once. Should it reach you again with
the number {{ order.number }}, it is the same order.</p>
</body></html>
"""


class HowMuch(Connector.Settings):
    """How much is ordered: one of `lot`, `target`, `rule` and `cover`; minimum and pack are added to it."""

    lot: Annotated[
        Whole | None, Field(description="Always so many; as many lots as lift stock above the threshold.")
    ] = None
    target: Annotated[Whole | None, Field(description="So many that stock comes up to this.")] = None
    rule: Annotated[
        Template | None,
        Field(
            description="A template that gives the number, such as {{ threshold * 3 - stock }}. It knows stock, "
            "threshold, sku, name, minimum, pack, lead_time (days) and, with `sales`, sold. 0 orders nothing."
        ),
    ] = None
    cover: Annotated[
        Duration | None,
        Field(description="So many as sell in this time and until the goods come, by the store's latest orders."),
    ] = None
    sales: Annotated[
        Duration | None, Field(description="How far back sales are counted, for cover and rule; cover: 30d.")
    ] = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [name for name in HOW_MUCH if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"name one of {', '.join(HOW_MUCH)}" + (f", not {' and '.join(given)}" if given else ""))
        if self.sales is not None and given[0] not in {"rule", "cover"}:
            raise ValueError(f"sales are counted for `cover` and `rule`; {given[0]} needs none")
        for name in ("cover", "sales"):
            value: timedelta | None = getattr(self, name)
            if value is not None and not timedelta(days=1) <= value <= timedelta(days=366):
                raise ValueError(f"{name} must be from 1d to 366d")
        return self

    @property
    def sales_of(self) -> timedelta | None:
        """How far back sales are to be counted; None where they are not needed."""
        return self.sales or (DEFAULT_SALES if self.cover is not None else None)


class Terms(Connector.Settings):
    """What may be set for one SKU, and for all of a supplier's where it is not set there."""

    quantity: Annotated[HowMuch | None, Field(description="How much; left out, as the route's `quantity` says.")] = None
    minimum: Annotated[Whole | None, Field(description="The least of a SKU that the supplier sells.")] = None
    pack: Annotated[Whole | None, Field(description="Sold in packs of so many: ordered in whole ones.")] = None
    lead_time: Annotated[Duration | None, Field(description="From the order to the goods.")] = None


class Sku(Terms):
    """One SKU's row of the table."""

    supplier: Annotated[str | None, Field(description="A name under `suppliers`.")] = None
    supplier_sku: Annotated[str, Field(description="What the supplier calls it.", max_length=200)] = ""
    threshold: Annotated[
        int | None, Field(description="Ordered at or below it; left out, as the store has it.", ge=0, le=MOST)
    ] = None
    price: Annotated[Money | None, Field(description="What one costs, in the supplier's currency.")] = None
    order: Annotated[bool, Field(description="false: never ordered.")] = True


class MailSettings(Email.Settings):
    """The mail server that orders go out by; to whom stands with each supplier."""

    to: Annotated[
        tuple[str, ...], Field(description="Nobody: suppliers have an `email` of their own.", max_length=0)
    ] = ()
    from_name: Annotated[str, Field(description="The name beside the address.")] = "Purchasing"
    subject: Annotated[Template, Field(description="The subject.")] = Template(SUBJECT)
    text: Annotated[Template, Field(description="The text part.")] = Template(TEXT)
    html: Annotated[Template, Field(description="The HTML part; values are escaped.")] = Template(HTML)
    copy_to: Annotated[
        tuple[str, ...], Field(description="Who gets each order too, such as your own purchasing.", max_length=10)
    ] = ()

    @field_validator("copy_to")
    @classmethod
    def _copies(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        return _plain_addresses(addresses)

    @field_validator("ca_file")
    @classmethod
    def _beside_the_config(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        return path and _folder(info) / path


class PostSettings(Webhook.Settings):
    """Where a supplier takes orders as JSON."""


class Supplier(Terms):
    """Who delivers, and how an order gets there: one of `email`, `post` and `erp`."""

    email: Annotated[tuple[str, ...], Field(description="By mail, to these addresses.", max_length=20)] = ()
    post: Annotated[PostSettings | None, Field(description="As JSON, to a URL.")] = None
    erp: Annotated[
        str | None, Field(description="As a purchase order in the ERP, to the vendor of this name there.", min_length=1)
    ] = None
    vendor: Annotated[str | None, Field(description="The store's id for it: products of that vendor are its.")] = None
    currency: Annotated[Currency | None, Field(description="Of its prices; left out, the route's.")] = None

    @field_validator("email", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("email")
    @classmethod
    def _addresses(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        return _plain_addresses(addresses)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        given = [name for name in ("email", "post", "erp") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError("name one way for its orders: email, post or erp")
        return self


class Limits(Connector.Settings):
    """What an order may cost before a person must approve it, in the route's `currency`."""

    order: Annotated[Money | None, Field(description="Each order at most.")] = None
    day: Annotated[Money | None, Field(description="All orders of a day (UTC) at most.")] = None

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.order is None and self.day is None:
            raise ValueError("name a limit: order, day or both")
        return self


class Settings(Connector.Settings):
    """Who is ordered from, what, how much, how, and what a person must approve."""

    suppliers: Annotated[dict[str, Supplier], Field(description="By their names, as orders call them.")] = Field(
        default_factory=dict
    )
    supplier: Annotated[str | None, Field(description="Whose a SKU is that nothing else says.")] = None
    skus: Annotated[dict[str, Sku], Field(description="What is special about a SKU.")] = Field(default_factory=dict)
    sku_file: Annotated[
        Path | None,
        Field(
            description="The same as a CSV file beside the config, with a first row of names: sku, supplier, "
            "supplier_sku, threshold, lot, target, cover, minimum, pack, price, lead_time, order."
        ),
    ] = None
    quantity: Annotated[HowMuch, Field(description="How much is ordered where nothing else says.")]
    threshold: Annotated[
        int | None, Field(description="Ordered at or below it, where neither SKU nor store says.", ge=0, le=MOST)
    ] = None
    stock_from: Annotated[
        Literal["auto", "inventory", "products"],
        Field(
            description="Where the store keeps stock: its inventory, each warehouse by itself, or its products. auto: "
            "its inventory where it has one."
        ),
    ] = "auto"
    locations: Annotated[dict[str, str], Field(description="Names of warehouses, by the store's ids for them.")] = (
        Field(default_factory=dict)
    )
    backorders: Annotated[
        Literal["order", "skip"], Field(description="What is sold although there is none: ordered too, or not.")
    ] = "order"
    lead_time: Annotated[Duration, Field(description="From the order to the goods, where nothing else says.")] = (
        timedelta(days=7)
    )
    currency: Annotated[Currency | None, Field(description="Of prices and limits; left out, the store's.")] = None
    limits: Annotated[Limits | None, Field(description="Above them a person must approve.")] = None
    approval: Annotated[Literal["never", "always"], Field(description="always: a person approves each order.")] = (
        "never"
    )
    window: Annotated[Duration, Field(description="How long an order waits for further lines of its supplier.")] = (
        REORDER_WINDOW
    )
    close_after: Annotated[
        Duration, Field(description="After so long a reorder counts as over, whatever came of it.")
    ] = REORDER_CLOSES_AFTER
    prefix: Annotated[
        str, Field(description="Orders' numbers start with it.", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,19}$")
    ] = "PO-"
    mail: Annotated[MailSettings | None, Field(description="The mail server that orders go out by.")] = None
    odoo: Annotated[OdooSettings | None, Field(description="The ERP that keeps purchase orders: an Odoo server.")] = (
        None
    )
    rest: Annotated[
        RestSettings | None, Field(description="The same in an ERP with a JSON REST API, by its action `purchase`.")
    ] = None
    confirm: Annotated[bool, Field(description="Confirm purchase orders in Odoo; false leaves drafts.")] = False

    _rows: dict[str, Sku] = PrivateAttr(default_factory=dict)

    @field_validator("supplier")
    @classmethod
    def _known(cls, name: str | None, info: ValidationInfo) -> str | None:
        if name is not None:
            _check_supplier(name, info.data.get("suppliers"))
        return name

    @field_validator("suppliers")
    @classmethod
    def _one_each(cls, suppliers: dict[str, Supplier]) -> dict[str, Supplier]:
        vendors = [one.vendor for one in suppliers.values() if one.vendor is not None]
        if twice := next((vendor for vendor in vendors if vendors.count(vendor) > 1), None):
            raise wrong(f"vendor {twice} stands with two suppliers")
        if blank := next((name for name in suppliers if not name.strip() or not name.isprintable()), None):
            raise ValueError(f"{blank!r} is no name for a supplier")
        return suppliers

    @field_validator("skus")
    @classmethod
    def _of_known(cls, skus: dict[str, Sku], info: ValidationInfo) -> dict[str, Sku]:
        for sku, row in skus.items():
            _check_supplier(row.supplier, info.data.get("suppliers"), f"{sku}.")
        return skus

    @field_validator("sku_file")
    @classmethod
    def _readable(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        if path is None:
            return None
        rows = read_skus(_folder(info) / path)
        for sku, row in rows.items():
            _check_supplier(row.supplier, info.data.get("suppliers"), f"{path.name}, {sku}: ")
        if both := next((sku for sku in rows if sku in info.data.get("skus", {})), None):
            raise wrong(f"{both} stands in `skus` too: keep it in one of them")
        return _folder(info) / path

    @field_validator("window", "close_after", "lead_time")
    @classmethod
    def _sound(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        least, most = BOUNDS[info.field_name or ""]
        if not least <= value <= most:
            raise ValueError(f"must be from {least} to {most}")
        return value

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for name, one in self.suppliers.items():
            if one.email and self.mail is None:
                raise wrong(f"suppliers.{name} is ordered from by email: `mail` must name the mail server")
            if one.erp and not self.has_erp:
                raise wrong(f"suppliers.{name} is ordered from in the ERP: `odoo` or `rest` must say where that is")
        if self.odoo is not None and self.rest is not None:
            raise ValueError("name one ERP: `odoo` or `rest`")
        if self.rest is not None and (self.rest.purchase is None or self.confirm):
            raise ValueError("rest needs `purchase`, which says how a purchase order is written; it confirms none")
        if not self.suppliers and self.odoo is None:
            raise ValueError("name at least one of `suppliers`, or the ERP (`odoo`) whose vendors are ordered from")
        if self.limits is not None and self.currency is None:
            raise ValueError("limits need `currency`: the one that they are in")
        if self.sku_file is not None:
            self._rows = read_skus(self.sku_file)
        return self

    @property
    def has_erp(self) -> bool:
        return self.odoo is not None or self.rest is not None

    def row(self, sku: str) -> Sku:
        """What is special about a SKU, from either table."""
        return self.skus.get(sku) or self._rows.get(sku) or NOTHING_SPECIAL

    def doubts(self) -> list[str]:
        found = []
        rows = {**self._rows, **self.skus}
        used = {row.supplier for row in rows.values()} | {self.supplier}
        idle = [name for name, one in self.suppliers.items() if name not in used and one.vendor is None]
        if idle and not self.has_erp:
            found.append(f"nothing is ordered from {', '.join(idle)}: no SKU names it, and it has no `vendor`")
        for sku, row in rows.items():
            how, threshold = (
                row.quantity or self.quantity,
                row.threshold if row.threshold is not None else self.threshold,
            )
            if how.target is not None and threshold is not None and how.target <= threshold:
                found.append(f"{sku}: the target {how.target} is not above the threshold {threshold}")
        if self.mail is not None and not any(one.email for one in self.suppliers.values()):
            found.append("`mail` is set, and no supplier has an `email`")
        if self.mail is not None:
            found += [f"mail: {doubt}" for doubt in self.mail.doubts()]
        if self.window > self.close_after:
            found.append("`close_after` is shorter than `window`: reorders end before they are sent")
        return found


NOTHING_SPECIAL = Sku()
BOUNDS = {
    "window": (timedelta(0), timedelta(days=7)),
    "close_after": (timedelta(hours=1), timedelta(days=366)),
    "lead_time": (timedelta(0), timedelta(days=366)),
}
COLUMNS = {
    "sku", "supplier", "supplier_sku", "threshold", "lot", "target", "cover", "minimum", "pack", "price", "lead_time",
    "order",
}  # fmt: skip
FLAGS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


def wrong(text: str) -> PydanticCustomError:
    """A mistake whose text names suppliers and SKUs: these are no secrets, and are shown as they stand."""
    return PydanticCustomError("reorder", "{text}", {"text": text})


def read_skus(path: Path) -> dict[str, Sku]:
    """The table of SKUs in a CSV file. Raises what pydantic reads as a mistake; its text names the line."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise wrong(f"{path.name} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise wrong(f"{path.name} must be in UTF-8") from None
    head = text.partition("\n")[0]
    sign = max(",;\t", key=head.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=sign, skipinitialspace=True, strict=True)
    try:
        names = [name.strip().lower() for name in reader.fieldnames or ()]
        _check_columns(names, path.name)
        reader.fieldnames = names
        return _read_rows(reader, path.name)
    except csv.Error as error:
        raise wrong(f"{path.name}, line {reader.line_num}: {error}") from None


def _check_columns(names: list[str], file: str) -> None:
    if "sku" not in names:
        raise wrong(f"{file}: its first row must name the columns, `sku` among them")
    for name in names:
        if name not in COLUMNS:
            like = get_close_matches(name, COLUMNS, 1, 0.6)
            raise wrong(f"{file}: unknown column {name!r}" + (f"; did you mean {like[0]}?" if like else ""))
        if names.count(name) > 1:
            raise wrong(f"{file}: two columns are named {name}")


def _read_rows(reader: "csv.DictReader[str]", file: str) -> dict[str, Sku]:
    found: dict[str, Sku] = {}
    for row in reader:
        place = f"{file}, line {reader.line_num}"
        if None in row:
            raise wrong(f"{place}: more values than columns")
        given = {name: value.strip() for name, value in row.items() if value and value.strip()}
        if not given:
            continue
        sku = given.pop("sku", "")
        if not sku:
            raise wrong(f"{place}: no sku")
        if sku in found:
            raise wrong(f"{place}: {sku} stands in it twice")
        found[sku] = _sku_of(given, place)
        if len(found) > MOST_ROWS:
            raise wrong(f"{file}: at most {MOST_ROWS} rows")
    return found


def _sku_of(given: dict[str, str], place: str) -> Sku:
    values: dict[str, Any] = dict(given)
    how = {name: values.pop(name) for name in HOW_MUCH if name in values}
    if "order" in values:
        flag = FLAGS.get(values["order"].lower())
        if flag is None:
            raise wrong(f"{place}: order must be yes or no")
        values["order"] = flag
    if how:
        values["quantity"] = how
    try:
        return Sku.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        column = str(first["loc"][-1]) if first["loc"] else ""
        reason = str((first.get("ctx") or {}).get("error") or first["msg"]).replace("Input should be", "must be")
        raise wrong(f"{place}: {column}: {reason}") from None


def _check_supplier(name: str | None, known: Mapping[str, Supplier] | None, place: str = "") -> None:
    if name is None or known is None or name in known:
        return
    like = get_close_matches(name, known, 1, 0.6)
    said = f"; did you mean {like[0]}?" if like else f"; there are {', '.join(known) or 'none'}"
    raise wrong(f"{place}supplier {name[:60]} is not under `suppliers`{said}")


def _plain_addresses(addresses: tuple[str, ...]) -> tuple[str, ...]:
    for address in addresses:
        if not is_address(address):
            raise ValueError(f"{address!r} is no plain address such as orders@example.com")
    return addresses


def _folder(info: ValidationInfo) -> Path:
    return (info.context or {}).get("folder") or Path.cwd()
