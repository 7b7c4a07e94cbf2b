"""What a route with `connector: erp` holds under `settings.rest`: what is called for what, checked at start.

Bodies are YAML as they are to be sent, with templates as leaves. A leaf that is one `{{ expression }}` gives its value
with its type, any other gives text; `{each: order.lines, item: …}` gives a list. docs/erp.md is the guide.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from connectors.erp.rest.pointer import checked as checked_pointer
from connectors.reach import web_address
from connectors.webhook import TOKEN, TRANSPORT_HEADERS
from hub.connector import Connector, Secret, Template

DONE = (200, 201, 202, 204)
TRANSIENT = (408, 409, 423, 425, 429, 500, 502, 503, 504)
ERROR_TEXTS = ("/detail", "/title", "/message", "/error/message", "/error", "/errors/0/message")
EXPRESSION = re.compile(r"(\{\{.*?\}\})", re.DOTALL)
NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
KEYED = {"order", "purchase"}
EACH_KEYS = {"each", "as", "item"}
OWN_HEADERS = {"content-type", "accept"}


class Each(Connector.Settings):
    """A list in a body: `item` once for each value of the expression `each`, which is named `as` there."""

    each: Template
    name: Annotated[str, Field(alias="as")] = "line"
    item: Any


def _tree(value: Any, place: str = "") -> Any:
    """A body with its texts as Templates and its lists over values as Each. Raises ValueError, which names a place."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return Template(value)
    if isinstance(value, list):
        return [_tree(item, f"{place}[{number}]") for number, item in enumerate(value)]
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{place or 'it'}: must be text, a number, true, false, null, a list or names with values")
    if "each" in value:
        return _each(value, place)
    return {key: _tree(item, f"{place}.{key}".lstrip(".")) for key, item in value.items()}


def _each(value: dict[str, Any], place: str) -> Each:
    if not value.keys() <= EACH_KEYS or "item" not in value:
        raise ValueError(f"{place or 'it'}: beside `each` stand `item` and, if another name than line is wanted, `as`")
    over, name = value["each"], value.get("as", "line")
    if not isinstance(over, str) or "{{" in over or not over.strip():
        raise ValueError(f"{place}.each: is an expression without {{{{ }}}}: order.lines")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"{place}.as: is a name of small letters, digits and _")
    return Each.model_validate(
        {"each": Template(f"{{{{ {over.strip()} }}}}"), "as": name, "item": _tree(value["item"], f"{place}.item")}
    )


def _path(path: str) -> Template:
    """Raises ValueError for what is no path of its own below the address."""
    if not path.startswith("/"):
        raise ValueError("starts with /")
    fixed = "".join(EXPRESSION.split(path)[::2])
    if set("?#%\\{}") & set(fixed):
        raise ValueError("holds {{ expressions }} and plain text, written as it reads: no ?, #, % (see `query`)")
    return Template(path)


def _condition(source: str) -> Template:
    if "{{" in source or not source.strip():
        raise ValueError('is an expression without {{ }}: record.described == "draft"')
    return Template(f"{{{{ {source.strip()} }}}}")


def _statuses(statuses: tuple[int, ...]) -> tuple[int, ...]:
    if not all(200 <= status <= 599 for status in statuses):
        raise ValueError("are statuses of HTTP, 200 to 599")
    return statuses


def _one_or_more(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


Body = Annotated[Any, AfterValidator(_tree)]
Path = Annotated[str, AfterValidator(_path)]
Pointer = Annotated[str, AfterValidator(checked_pointer)]
Statuses = Annotated[tuple[int, ...], AfterValidator(_statuses)]
Words = tuple[str | int | bool, ...]


class Request(Connector.Settings):
    """One request: every value of it may be a template."""

    method: Annotated[Literal["GET", "POST", "PUT", "PATCH", "DELETE"], Field(description="How it is asked.")] = "GET"
    path: Annotated[Path, Field(description="Below `url`; what its expressions give is made safe inside a path.")]
    query: Annotated[dict[str, Body], Field(description="Behind the path; a list is sent as several of one name.")] = (
        Field(default_factory=dict)
    )
    body: Annotated[Body, Field(description="Sent as JSON; left out, nothing is.")] = None

    @field_validator("query")
    @classmethod
    def _flat(cls, query: dict[str, Any]) -> dict[str, Any]:
        if any(isinstance(value, dict) for value in query.values()):
            raise ValueError("holds texts, numbers and lists of them")
        return query


class LookUp(Request):
    """Asks whether something is there already. Must change nothing."""

    method: Annotated[Literal["GET", "POST"], Field(description="How it is asked.")] = "GET"
    hits: Annotated[
        Pointer, Field(description="Where the list of what was found stands in the answer, or the one.")
    ] = ""
    match: Annotated[
        dict[Pointer, Template],
        Field(description="What a hit must hold to be one, for a search that finds more. Letters' case is the same."),
    ] = Field(default_factory=dict)
    nothing: Annotated[Statuses, Field(description="Statuses that say that there is none.")] = ()


class OpenPurchase(LookUp):
    """Asks for purchase orders by which a product is still to come."""

    number: Annotated[Pointer, Field(description="Where in a hit the number stands that people know.")] = "/id"


class Read(Request):
    """Asks for one record by its id (`ids.order`)."""

    method: Annotated[Literal["GET", "POST"], Field(description="How it is asked.")] = "GET"
    record: Annotated[Pointer, Field(description="Where the record stands in the answer.")] = ""
    nothing: Annotated[Statuses, Field(description="Statuses that say that it is gone.")] = (404,)


class Call(Request):
    """Writes one record."""

    method: Annotated[Literal["POST", "PUT", "PATCH"], Field(description="How it is sent.")] = "POST"
    record: Annotated[Pointer, Field(description="Where the record stands in the answer.")] = ""
    id: Annotated[Pointer | None, Field(description="Where its id stands there, if elsewhere than in a hit.")] = None
    done: Annotated[Statuses, Field(description="Statuses that say that it was written.", min_length=1)] = DONE
    already_there: Annotated[
        Statuses, Field(description="Statuses that say that it was there already; the look-up then gives it.")
    ] = ()


class Step(Request):
    """One request of several that confirm or cancel an order."""

    method: Annotated[Literal["POST", "PUT", "PATCH", "DELETE"], Field(description="How it is sent.")] = "POST"
    when: Annotated[
        Annotated[str, AfterValidator(_condition)] | None,
        Field(description='Sent only if this holds, such as record.described == "draft".'),
    ] = None
    done: Annotated[Statuses, Field(description="Statuses that say that it was done.", min_length=1)] = DONE


Steps = Annotated[tuple[Step, ...], BeforeValidator(_one_or_more), Field(min_length=1)]


class Thing(Connector.Settings):
    """A kind of record: how it is found, made and changed, and where in it its id stands."""

    look_up: Annotated[LookUp | None, Field(description="Whether it is there.")] = None
    create: Annotated[Call | None, Field(description="Makes it. Left out: what is missing is an error.")] = None
    update: Annotated[Call | None, Field(description="Changes what is there. Left out: that stays as it is.")] = None
    id: Annotated[Pointer, Field(description="Where the id stands in a record.")] = "/id"

    @model_validator(mode="after")
    def _found_again(self) -> Self:
        if self.look_up is None and self.create is None:
            raise ValueError("needs a look_up, a create or both")
        if self.create is not None and self.create.already_there and self.look_up is None:
            raise ValueError("already_there needs a look_up, which gives what is there")
        return self

    @property
    def repeatable(self) -> bool:
        """Whether making it twice makes one, without any key."""
        return self.look_up is not None or self.create is None or self.create.method == "PUT"


class CustomerThing(Thing):
    """Customers."""

    also: Annotated[
        dict[str, Pointer],
        Field(description="More of a customer's record that orders name, as `ids.NAME`: the id of an address, say."),
    ] = Field(default_factory=dict)

    @field_validator("also")
    @classmethod
    def _names(cls, also: dict[str, str]) -> dict[str, str]:
        if wrong := [
            name for name in also if not NAME.fullmatch(name) or name in {"customer", "product", "products", "order"}
        ]:
            raise ValueError(f"{wrong[0]!r} is no name for it: small letters, digits and _")
        return also


class State(Connector.Settings):
    """Which of the ERP's words for an order's state means what."""

    at: Annotated[Pointer, Field(description="Where it stands in a record.")]
    draft: Annotated[Words, Field(description="A quotation, which may still be changed.")] = ()
    confirmed: Annotated[Words, Field(description="An order, in whatever state after that.")] = ()
    cancelled: Annotated[Words, Field(description="Cancelled.")] = ()

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        words = [str(word).casefold() for word in (*self.draft, *self.confirmed, *self.cancelled)]
        if twice := sorted({word for word in words if words.count(word) > 1}):
            raise ValueError(f"{twice[0]} stands in more than one of draft, confirmed and cancelled")
        return self


class OrderThing(Thing):
    """Sales orders."""

    read: Annotated[Read | None, Field(description="Reads one by its id.")] = None
    number: Annotated[
        tuple[Pointer, ...],
        BeforeValidator(_one_or_more),
        Field(description="Where the number that people know stands; the first that holds one. Else it is the id."),
    ] = ()
    total: Annotated[Pointer | None, Field(description="Where its total stands, to be compared with the store's.")] = (
        None
    )
    state: Annotated[State | None, Field(description="Its state. Left out: always a draft.")] = None
    url: Annotated[Template | None, Field(description="Where a person sees it: a template with `record`, `found`.")] = (
        None
    )


class NoteThing(Connector.Settings):
    """Something written beside an order."""

    look_up: Annotated[
        LookUp | None, Field(description="Whether it is there, any hit; left out, the hub's own memory tells.")
    ] = None
    create: Annotated[Call, Field(description="Writes it.")]


class Check(Request):
    """A harmless request for `hub check`."""

    method: Annotated[Literal["GET", "POST"], Field(description="How it is asked.")] = "GET"
    who: Annotated[Pointer | None, Field(description="Where the answer says as whom or what it answers.")] = None


class Pair(Connector.Settings):
    """A name and a secret value."""

    name: Annotated[str, Field(description="Its name.", min_length=1)]
    value: Annotated[Secret, Field(description="Its whole value, such as `token KEY:SECRET`.")]


class Basic(Connector.Settings):
    """HTTP's basic authentication."""

    username: Annotated[str, Field(description="The user's name.")]
    password: Annotated[Secret, Field(description="The password.")]


class Auth(Connector.Settings):
    """How the ERP knows the hub: one of four ways."""

    bearer: Annotated[Secret | None, Field(description="A token, sent as `Authorization: Bearer …`.")] = None
    basic: Annotated[Basic | None, Field(description="A user's name and password.")] = None
    header: Annotated[Pair | None, Field(description="A header of its own.")] = None
    query: Annotated[Pair | None, Field(description="A parameter behind each path.")] = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if len(self.model_fields_set) != 1 or None in (getattr(self, name) for name in self.model_fields_set):
            raise ValueError("name one way: bearer, basic, header or query")
        if self.bearer is not None and not _sendable(self.bearer.reveal()):
            raise ValueError("bearer must be printable ASCII")
        if self.header is not None:
            _check_header(self.header.name, self.header.value)
        return self


def _sendable(value: str) -> bool:
    return value.isascii() and value.isprintable()


def _check_header(name: str, value: Secret) -> None:
    if not name or not set(name.lower()) <= TOKEN:
        raise ValueError(f"{name!r} is no header name")
    if name.lower() in TRANSPORT_HEADERS | OWN_HEADERS:
        raise ValueError(f"{name} is set by the connector itself")
    if not _sendable(value.reveal()):
        raise ValueError(f"the value of {name} must be printable ASCII")


class RestSettings(Connector.Settings):
    """A JSON REST API: where it is, and what is called for what. What is left out is not done."""

    model_config = ConfigDict(hide_input_in_errors=True)

    url: Annotated[str, Field(description="The address that all paths begin with.")]
    auth: Annotated[Auth | None, Field(description="One of bearer, basic, header, query.")] = None
    headers: Annotated[dict[str, Secret], Field(description="Further headers, the same on each request.")] = Field(
        default_factory=dict
    )
    idempotency_header: Annotated[
        str | None, Field(description="The header by which the ERP tells doubles, such as Idempotency-Key.")
    ] = None
    customer: Annotated[CustomerThing | None, Field(description="Customers.")] = None
    product: Annotated[Thing | None, Field(description="Products.")] = None
    order: Annotated[OrderThing | None, Field(description="Sales orders.")] = None
    purchase: Annotated[
        OrderThing | None, Field(description="Purchase orders, for the connector `reorder`; names `purchase`.")
    ] = None
    open_purchase: Annotated[
        OpenPurchase | None,
        Field(description="Whether a purchase order of `product` is open; left out, the hub's own memory tells."),
    ] = None
    confirm: Annotated[Steps | None, Field(description="Makes an order of a quotation.")] = None
    cancel: Annotated[Steps | None, Field(description="Cancels an order.")] = None
    note: Annotated[NoteThing | None, Field(description="Writes payments and refunds beside an order.")] = None
    check: Annotated[Check | None, Field(description="What `hub check` asks; it must change nothing.")] = None
    try_again: Annotated[Statuses, Field(description="Statuses after which the hub tries again.")] = TRANSIENT
    try_again_if: Annotated[
        dict[Pointer, tuple[str, ...]],
        Field(description="Values in an error's answer after which it does too, whatever the status."),
    ] = Field(default_factory=dict)
    error_text: Annotated[
        tuple[Pointer, ...],
        BeforeValidator(_one_or_more),
        Field(description="Where an error's answer says why; the first that holds something."),
    ] = ERROR_TEXTS

    @field_validator("url")
    @classmethod
    def _web_address(cls, url: str) -> str:
        parts = web_address(url)
        if parts is None:
            raise ValueError("must be a whole address that starts with https:// or http://")
        if parts.query or parts.fragment or parts.username or parts.password:
            raise ValueError("ends with the path: keys and passwords stand in `auth`, the rest in each `query`")
        return url.rstrip("/")

    @field_validator("headers")
    @classmethod
    def _sendable_headers(cls, headers: dict[str, Secret]) -> dict[str, Secret]:
        for name, value in headers.items():
            _check_header(name, value)
        return headers

    @field_validator("idempotency_header")
    @classmethod
    def _header_name(cls, name: str | None) -> str | None:
        if name is not None:
            _check_header(name, Secret("key"))
        return name

    @model_validator(mode="after")
    def _sound(self) -> Self:
        for name in ("customer", "product", "order", "purchase"):
            thing: Thing | None = getattr(self, name)
            if thing is None or thing.repeatable or (name in KEYED and self.idempotency_header is not None):
                continue
            kept = ", or idempotency_header" if name in KEYED else ""
            raise ValueError(
                f"{name}: needs a look_up, or a create by PUT to a path of its own{kept}: without one, trying again "
                "makes a second"
            )
        for name in ("confirm", "cancel", "note"):
            if getattr(self, name) is not None and self.order is None:
                raise ValueError(f"{name}: needs `order`")
        self._names_only_what_is_there()
        return self

    def _names_only_what_is_there(self) -> None:
        for name, wanted, thing in (
            ("ids.customer", "customer", self.customer),
            ("ids.products", "product", self.product),
        ):
            if thing is None and any(name in text for text in _templates((self.order, self.confirm, self.note))):
                raise ValueError(f"a template names {name}, and `{wanted}` is not set")

    def left_out(self) -> list[str]:
        """The actions that are not set, and so not done."""
        names = ("customer", "product", "order", "confirm", "cancel", "note")
        return [name for name in names if getattr(self, name) is None]


def _templates(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
        return
    items: Any = ()
    if isinstance(value, Connector.Settings):
        items = (item for _, item in value)
    elif isinstance(value, Mapping):
        items = value.values()
    elif isinstance(value, list | tuple):
        items = value
    for item in items:
        yield from _templates(item)
