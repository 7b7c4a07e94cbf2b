"""What can be done with each resource: the same methods and the same results in both profiles.

A filter that the profile's API has not is selected here by `iter`, which reads the list to its end; `list` gives one
page as the store cuts it, so there such a filter is NotOffered.
"""

import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any, ClassVar, Generic, TypedDict, TypeVar, Unpack

from hub.errors import BadAnswer, NotOffered, ValidationFailed
from hub.event import LONGEST_ID
from hub.litekart import models
from hub.litekart.answers import Listing, listing_of, single_of, unwrapped
from hub.litekart.calls import Calls, Request, aware, quoted, wire_text
from hub.litekart.models import Part, Thing, read
from hub.litekart.paging import walk
from hub.litekart.profiles import Filter, Operation, camel
from hub.models import harmless

P = TypeVar("P", bound=Part)
T = TypeVar("T", bound=Thing)

Number = int | float | Decimal
Fields = Sequence[str | Mapping[str, Sequence[str]]]
"""What to read of each object: `["id", "name", {"variants": ["id", "price"]}]`."""

A_DAY = timedelta(days=1)
CREATED = "created_at"
IDENTITIES = ("id", "_id")
AFTER: Mapping[str, str] = {"created_after": "created_at", "updated_after": "updated_at"}
LONGEST_SHOWN = 100
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


@dataclass(frozen=True)
class Page(Generic[P]):
    """One page of a list. `total` and `has_next` are what the store says; None where it does not."""

    items: list[P]
    page: int
    size: int | None
    total: int | None
    has_next: bool | None

    def __iter__(self) -> Iterator[P]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> P:
        return self.items[index]


class TimeFilters(TypedDict, total=False):
    created_after: date
    updated_after: date


class ProductFilters(TimeFilters, total=False):
    category: str
    price_min: Number
    price_max: Number
    status: str
    search: str


class OrderFilters(TimeFilters, total=False):
    status: str
    search: str


class CouponFilters(TypedDict, total=False):
    status: str
    type: str


class InventoryFilters(TypedDict, total=False):
    status: str
    product_id: str
    variant_id: str
    sku: str


class SearchFilters(TypedDict, total=False):
    search: str


class TagFilters(TypedDict, total=False):
    order_id: str


class WebhookFilters(TypedDict, total=False):
    event: str


class Resource(Generic[P]):
    """The calls of one resource. `name` is that of profiles.py, `model` what comes back."""

    name: ClassVar[str]
    model: type[P]

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def _request(
        self,
        operation: str,
        identity: str | None = None,
        params: Sequence[tuple[str, str]] = (),
        body: Any = None,
    ) -> Request:
        offered: Operation = self._calls.profile.operation(f"{self.name}.{operation}")
        path = offered.path.replace("{id}", quoted(identity)) if "{id}" in offered.path else offered.path
        call = f"{offered.method} {offered.path}"
        return Request(offered.method, path, call, self.name, tuple(params), body)

    async def _write(self, operation: str, identity: str | None, values: Mapping[str, Any], more: Any) -> P:
        """Send what of `values` is not None, and `more` as it is; the object as the store has it now."""
        given = {name: value for name, value in values.items() if value is not None}
        body = {self._calls.profile.field_name(self.name, name): value for name, value in given.items()} | (more or {})
        if not body:
            raise TypeError(f"{self.name}.{operation} was given nothing to send")
        request = self._request(operation, identity, body=body)
        found = unwrapped(await self._calls.exchange(request))
        # What is written is written: an answer that says nothing of it must not look like a failure.
        document = found if isinstance(found, dict) else {}
        if identity is not None and not any(document.get(name) for name in IDENTITIES):
            document = document | {"id": identity}
        return read(self.model, document, request.call)

    async def _remove(self, operation: str, identity: str) -> None:
        await self._calls.exchange(self._request(operation, identity))

    async def _list(
        self, page: int, page_size: int | None, sort: Sequence[str], fields: Fields, filters: Mapping[str, Any]
    ) -> Page[P]:
        query = Query(self, sort, fields, filters)
        if query.hidden:
            raise NotOffered(
                f"{self.name}: the {self._calls.profile.name} profile of the store's API has no filter "
                f"{', '.join(query.hidden)}; iter() selects by itself"
            )
        listing = await query.fetch(page, page_size)
        items = [query.shown(document) for document in listing.items if query.takes(document)]
        return Page(items, listing.page or page, listing.size, listing.total, listing.has_next)

    async def _iter(self, sort: Sequence[str], fields: Fields, filters: Mapping[str, Any]) -> AsyncIterator[P]:
        query = Query(self, sort or [_stable_order(filters)], fields, filters)
        query.fresh = True
        largest = self._calls.profile.largest
        async for document in walk(query.fetch, largest, query.identity, query.is_past):
            if query.takes(document):
                yield query.shown(document)


def _stable_order(filters: Mapping[str, Any]) -> str:
    # By the time of making, which never changes; the newest first where older ones are of no interest.
    return f"-{CREATED}" if filters.get("created_after") is not None else CREATED


def told_apart_by(identity: str) -> str:
    """The id, or the digest of one that is longer than ids are: a walk remembers each that it has seen."""
    return identity if len(identity) <= LONGEST_ID else sha256(identity.encode("utf-8", "replace")).hexdigest()


class Query(Generic[P]):
    """A list as asked for: what of it the store selects, and what is selected here."""

    def __init__(self, resource: Resource[P], sort: Sequence[str], fields: Fields, filters: Mapping[str, Any]) -> None:
        profile = resource._calls.profile
        self.resource = resource
        self.filters = {name: value for name, value in filters.items() if value is not None}
        self.how: dict[str, Filter] = {name: profile.filter(resource.name, name) for name in self.filters}
        self.hidden = [name for name, how in self.how.items() if how.parameter is None]
        self.fields = [*fields]
        self.sort = tuple(sort)
        self.call = ""
        self.fresh = False
        # Of the page at hand: what an item is, whether it is taken and how it is shown are asked one after the other.
        self._known: dict[int, tuple[dict[str, Any], P]] = {}
        params = [(how.parameter, _sent(how, self.filters[name])) for name, how in self.how.items() if how.parameter]
        if self.sort:
            _check_names(key.removeprefix("-") for key in self.sort)
            params.append(("sort", profile.sort(resource.name, self.sort)))
        if fields and profile.fields:
            params.append((profile.fields, self._fields_text()))
        self.params = params

    def _fields_text(self) -> str:
        """`id,name,variants(id,price)`, with the id and what is selected by here."""
        flat = [field for field in self.fields if isinstance(field, str)]
        needed = ["id", *(AFTER.get(name, name) for name, how in self.how.items() if how.here)]
        texts = [*flat, *(name for name in dict.fromkeys(needed) if name not in flat)]
        _check_names(texts)
        for field in self.fields:
            if not isinstance(field, str):
                for name, inner in field.items():
                    _check_names([name, *inner])
                    texts.append(f"{name}({','.join(inner)})")
        return ",".join(texts)

    async def fetch(self, page: int, size: int | None) -> Listing:
        params = [*self.params]
        if page != 1 or size is not None:
            params.append(("page", str(page)))
        if size is not None:
            params.append((self.resource._calls.profile.page_size, str(size)))
        request = self.resource._request("list", params=params)
        self.call = request.call
        self._known.clear()
        # Pages of a walk must show the list as it is by then: one that was kept would lead it round in circles.
        newer_than = self.resource._calls.clock() if self.fresh else None
        return listing_of(await self.resource._calls.exchange(request, newer_than), request.call)

    def read(self, document: dict[str, Any]) -> P:
        """An item of the page at hand."""
        if id(document) not in self._known:
            self._known[id(document)] = document, read(self.resource.model, document, self.call)
        return self._known[id(document)][1]

    def shown(self, document: dict[str, Any]) -> P:
        """The item with the fields that were asked for."""
        if not self.fields:
            return self.read(document)
        return read(self.resource.model, _selected(document, self.resource.model, self.fields), self.call)

    def identity(self, document: dict[str, Any]) -> str:
        found = getattr(self.read(document), "id", None)
        if found is None:
            raise BadAnswer("an item without an id", status=200, call=self.call)
        return told_apart_by(str(found))

    def takes(self, document: dict[str, Any]) -> bool:
        """Whether what is selected here is so of this item."""
        here = [(name, how) for name, how in self.how.items() if how.here]
        if not here:
            return True
        item = self.read(document)
        return all(_is_so(item, name, self.filters[name], how) for name, how in here)

    def is_past(self, documents: list[dict[str, Any]]) -> bool:
        """Whether a list that is sorted by time, the latest first, has come to what is too old as a whole."""
        name = next((name for name, field in AFTER.items() if self.sort[:1] == (f"-{field}",)), None)
        if name is None or name not in self.filters:
            return False
        times = [getattr(self.read(document), AFTER[name], None) for document in documents]
        return all(time is not None and time < aware(self.filters[name]) for time in times)


def _sent(how: Filter, value: Any) -> str:
    if isinstance(value, date):
        # A day, as the vendor's page writes it: the one before, for nobody knows in which zone the store counts days
        # and whether it is after their beginning or their end. The rest is selected here.
        return wire_text((aware(value) - A_DAY).date())
    return wire_text(value)


def _is_so(item: Part, name: str, value: Any, how: Filter) -> bool:
    found = getattr(item, AFTER.get(name, name.removesuffix("_min").removesuffix("_max")), None)
    if found is None:
        # Where the store has selected too, it knows better than a field that it did not send; and what has no time is
        # not left out for its age.
        return how.parameter is not None or name in AFTER
    if name in AFTER:
        return bool(found >= aware(value))
    if name.endswith("_min"):
        return bool(found >= value)
    if name.endswith("_max"):
        return bool(found <= value)
    return str(found) == str(value)


def _check_names(names: Any) -> None:
    for name in names:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ValidationFailed("a field's name holds letters, digits and _ only")


def _selected(document: Mapping[str, Any], model: type[Part], fields: Fields) -> dict[str, Any]:
    """What `fields` name of an object, and its id; the same whether or not the store selects."""
    wanted: dict[str, Sequence[str] | None] = {form: None for name in IDENTITIES for form in (name,)}
    for field in fields:
        for name, inner in [(field, None)] if isinstance(field, str) else field.items():
            wanted |= dict.fromkeys(_spellings(model, name), inner)
    return {key: _inside(value, wanted[key]) for key, value in document.items() if key in wanted}


def _spellings(model: type[Part], name: str) -> set[str]:
    alias = model.model_fields[name].validation_alias if name in model.model_fields else None
    choices = getattr(alias, "choices", ())
    return {name, camel(name), *(choice for choice in choices if isinstance(choice, str))}


def _inside(value: Any, names: Sequence[str] | None) -> Any:
    if names is None:
        return value
    if isinstance(value, list):
        return [_inside(one, names) for one in value]
    if not isinstance(value, dict):
        return value
    wanted = {form for name in names for form in (name, camel(name), *SAME.get(name, ()))}
    return {key: one for key, one in value.items() if key in wanted}


# The two styles' words for the same thing inside other objects.
SAME: Mapping[str, tuple[str, ...]] = {"name": ("title",), "quantity": ("qty",)}


def _called(thing: Thing) -> set[str]:
    """What a thing is asked for by: its id, and as the live API takes it in the same place, its number or slug."""
    names = (thing.id, getattr(thing, "order_no", None), getattr(thing, "slug", None))
    return {str(name).casefold() for name in names if name is not None}


class Readable(Resource[T]):
    """A resource that is listed and got by id, without filters."""

    async def list(
        self, *, page: int = 1, page_size: int | None = None, sort: Sequence[str] = (), fields: Fields = ()
    ) -> Page[T]:
        """One page, as the store cuts it. `sort`: `["price", "-name"]`, minus for descending."""
        return await self._list(page, page_size, sort, fields, {})

    def iter(self, *, sort: Sequence[str] = (), fields: Fields = ()) -> AsyncIterator[T]:
        """All, to the end: none twice, none left out that is there all the time. Sorted by their making.

        With a `sort` of your own that holds as long as nothing changes what it is sorted by.
        """
        return self._iter(sort, fields, {})

    async def get(self, identity: str, *, newer_than: datetime | None = None) -> T:
        """The one of that id; `newer_than`: from a read that was begun after that moment. Raises NotFound.

        Raises BadAnswer where the store answers with another one.
        """
        request = self._request("get", identity)
        document = await self._calls.exchange(request, newer_than)
        found = read(self.model, single_of(document, request.call), request.call)
        if identity.encode("utf-8", "replace").decode().casefold() not in _called(found):
            asked, answered = (harmless(self._calls.redact(id), LONGEST_SHOWN) for id in (identity, found.id))
            raise BadAnswer(f"asked for {asked}, answered {answered}", status=200, call=request.call)
        return found


class Products(Readable[models.Product]):
    name, model = "products", models.Product

    async def list(
        self,
        *,
        page: int = 1,
        page_size: int | None = None,
        sort: Sequence[str] = (),
        fields: Fields = (),
        **filters: Unpack[ProductFilters],
    ) -> Page[models.Product]:
        return await self._list(page, page_size, sort, fields, filters)

    def iter(
        self, *, sort: Sequence[str] = (), fields: Fields = (), **filters: Unpack[ProductFilters]
    ) -> AsyncIterator[models.Product]:
        return self._iter(sort, fields, filters)

    async def create(
        self,
        *,
        name: str,
        price: Number | None = None,
        description: str | None = None,
        sku: str | None = None,
        stock: int | None = None,
        status: str | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> models.Product:
        """A new product. `more` goes out as it is, for what has no argument here."""
        values = {
            "name": name,
            "price": price,
            "description": description,
            "sku": sku,
            "stock": stock,
            "status": status,
        }
        return await self._write("create", None, values, more)

    async def update(
        self,
        identity: str,
        *,
        name: str | None = None,
        price: Number | None = None,
        description: str | None = None,
        sku: str | None = None,
        stock: int | None = None,
        status: str | None = None,
        active: bool | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> models.Product:
        """Changes what is given; `stock` is the number there is, not a difference."""
        values = {
            "name": name, "price": price, "description": description, "sku": sku, "stock": stock, "status": status,
            "active": active,
        }  # fmt: skip
        return await self._write("update", identity, values, more)


class Orders(Readable[models.Order]):
    name, model = "orders", models.Order

    async def list(
        self,
        *,
        page: int = 1,
        page_size: int | None = None,
        sort: Sequence[str] = (),
        fields: Fields = (),
        **filters: Unpack[OrderFilters],
    ) -> Page[models.Order]:
        return await self._list(page, page_size, sort, fields, filters)

    def iter(
        self, *, sort: Sequence[str] = (), fields: Fields = (), **filters: Unpack[OrderFilters]
    ) -> AsyncIterator[models.Order]:
        return self._iter(sort, fields, filters)

    async def update(
        self,
        identity: str,
        *,
        status: str | None = None,
        comment: str | None = None,
        payment_status: str | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> models.Order:
        """Changes what is given; a comment takes the place of the present one."""
        values = {"status": status, "comment": comment, "payment_status": payment_status}
        return await self._write("update", identity, values, more)


class OrderTags(Resource[models.OrderTag]):
    name, model = "order_tags", models.OrderTag

    async def list(
        self, *, page: int = 1, page_size: int | None = None, **filters: Unpack[TagFilters]
    ) -> Page[models.OrderTag]:
        return await self._list(page, page_size, (), (), filters)

    def iter(self, **filters: Unpack[TagFilters]) -> AsyncIterator[models.OrderTag]:
        return self._iter((), (), filters)

    async def add(self, order_id: str, tag: str) -> models.OrderTag:
        """Puts a label on an order."""
        return await self._write("add", None, {"order_id": order_id, "tag": tag}, None)

    async def remove(self, identity: str) -> None:
        """Takes the label of that id (the label's, not the order's) away."""
        await self._remove("remove", identity)


class TrackingEntries(Resource[models.Tracking]):
    name, model = "tracking", models.Tracking

    async def add(
        self,
        order_id: str,
        *,
        status: str | None = None,
        tracking_number: str | None = None,
        tracking_url: str | None = None,
        courier: str | None = None,
        comment: str | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> models.Tracking:
        """An entry in an order's tracking. Which fields the live API takes is documented nowhere."""
        values = {
            "order_id": order_id, "status": status, "tracking_number": tracking_number, "tracking_url": tracking_url,
            "courier": courier, "comment": comment,
        }  # fmt: skip
        return await self._write("add", None, values, more)

    async def update(
        self,
        identity: str,
        *,
        status: str | None = None,
        comment: str | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> models.Tracking:
        return await self._write("update", identity, {"status": status, "comment": comment}, more)

    async def remove(self, identity: str) -> None:
        await self._remove("remove", identity)


class Customers(Readable[models.Customer]):
    name, model = "customers", models.Customer

    async def list(
        self,
        *,
        page: int = 1,
        page_size: int | None = None,
        sort: Sequence[str] = (),
        fields: Fields = (),
        **filters: Unpack[TimeFilters],
    ) -> Page[models.Customer]:
        return await self._list(page, page_size, sort, fields, filters)

    def iter(
        self, *, sort: Sequence[str] = (), fields: Fields = (), **filters: Unpack[TimeFilters]
    ) -> AsyncIterator[models.Customer]:
        return self._iter(sort, fields, filters)

    async def update(
        self,
        identity: str,
        *,
        first_name: str | None = None,
        last_name: str | None = None,
        email: str | None = None,
        phone: str | None = None,
        status: str | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> models.Customer:
        """Changes what is given."""
        values = {"first_name": first_name, "last_name": last_name, "email": email, "phone": phone, "status": status}
        return await self._write("update", identity, values, more)


class Carts(Readable[models.Cart]):
    name, model = "carts", models.Cart


class Users(Readable[models.User]):
    name, model = "users", models.User


class Categories(Readable[models.Category]):
    name, model = "categories", models.Category


class Brands(Readable[models.Brand]):
    name, model = "brands", models.Brand


class Payments(Readable[models.Payment]):
    name, model = "payments", models.Payment


class Coupons(Readable[models.Coupon]):
    name, model = "coupons", models.Coupon

    async def list(
        self,
        *,
        page: int = 1,
        page_size: int | None = None,
        sort: Sequence[str] = (),
        fields: Fields = (),
        **filters: Unpack[CouponFilters],
    ) -> Page[models.Coupon]:
        return await self._list(page, page_size, sort, fields, filters)

    def iter(
        self, *, sort: Sequence[str] = (), fields: Fields = (), **filters: Unpack[CouponFilters]
    ) -> AsyncIterator[models.Coupon]:
        return self._iter(sort, fields, filters)


class StoreSettings(Resource[models.Settings]):
    name, model = "settings", models.Settings

    async def get(self, *, newer_than: datetime | None = None) -> models.Settings:
        """The store's settings."""
        request = self._request("get")
        document = await self._calls.exchange(request, newer_than)
        found = unwrapped(document)
        if not isinstance(found, list) and not (isinstance(found, dict) and isinstance(found.get("data"), list)):
            return read(self.model, single_of(document, request.call), request.call)
        # One row for each store, as other lists come.
        return read(self.model, next(iter(listing_of(document, request.call).items), {}), request.call)


class Searchable(Readable[T]):
    """One whose list can be searched."""

    async def list(
        self,
        *,
        page: int = 1,
        page_size: int | None = None,
        sort: Sequence[str] = (),
        fields: Fields = (),
        **filters: Unpack[SearchFilters],
    ) -> Page[T]:
        return await self._list(page, page_size, sort, fields, filters)

    def iter(
        self, *, sort: Sequence[str] = (), fields: Fields = (), **filters: Unpack[SearchFilters]
    ) -> AsyncIterator[T]:
        return self._iter(sort, fields, filters)


class ContentPages(Searchable[models.ContentPage]):
    name, model = "pages", models.ContentPage


class Blogs(Searchable[models.Blog]):
    name, model = "blogs", models.Blog


class InventoryItems(Readable[models.Inventory]):
    name, model = "inventory", models.Inventory

    async def list(
        self,
        *,
        page: int = 1,
        page_size: int | None = None,
        sort: Sequence[str] = (),
        fields: Fields = (),
        **filters: Unpack[InventoryFilters],
    ) -> Page[models.Inventory]:
        return await self._list(page, page_size, sort, fields, filters)

    def iter(
        self, *, sort: Sequence[str] = (), fields: Fields = (), **filters: Unpack[InventoryFilters]
    ) -> AsyncIterator[models.Inventory]:
        return self._iter(sort, fields, filters)

    async def update(
        self,
        identity: str,
        *,
        stock: int | None = None,
        low_stock_threshold: int | None = None,
        reorder_point: int | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> models.Inventory:
        """Changes what is given; `stock` is the number there is, not a difference. The last writer wins."""
        values = {"stock": stock, "low_stock_threshold": low_stock_threshold, "reorder_point": reorder_point}
        return await self._write("update", identity, values, more)


class Webhooks(Readable[models.Webhook]):
    name, model = "webhooks", models.Webhook

    async def list(
        self,
        *,
        page: int = 1,
        page_size: int | None = None,
        sort: Sequence[str] = (),
        fields: Fields = (),
        **filters: Unpack[WebhookFilters],
    ) -> Page[models.Webhook]:
        return await self._list(page, page_size, sort, fields, filters)

    def iter(
        self, *, sort: Sequence[str] = (), fields: Fields = (), **filters: Unpack[WebhookFilters]
    ) -> AsyncIterator[models.Webhook]:
        return self._iter(sort, fields, filters)

    async def create(
        self,
        *,
        url: str,
        event: str,
        password: str | None = None,
        name: str | None = None,
        description: str | None = None,
        active: bool = True,
        more: Mapping[str, Any] | None = None,
    ) -> models.Webhook:
        """Registers a URL for one event. `password` is believed to be the secret that signs."""
        values = {
            "url": url, "event": event, "password": password, "name": name, "description": description,
            "active": active,
        }  # fmt: skip
        return await self._write("create", None, values, more)

    async def update(
        self,
        identity: str,
        *,
        url: str | None = None,
        event: str | None = None,
        password: str | None = None,
        name: str | None = None,
        active: bool | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> models.Webhook:
        """Changes what is given."""
        values = {"url": url, "event": event, "password": password, "name": name, "active": active}
        return await self._write("update", identity, values, more)

    async def delete(self, identity: str) -> None:
        await self._remove("delete", identity)


class Content:
    """What the storefront shows besides products."""

    def __init__(self, calls: Calls) -> None:
        self.pages = ContentPages(calls)
        self.blogs = Blogs(calls)
