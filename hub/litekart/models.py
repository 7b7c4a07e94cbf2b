"""What the store's API hands out, as frozen values that take it as it comes.

Every field but the id may be missing. Names are taken in snake and in camel case and in the spellings that both
styles of the API use (`name` or `title`); what no field stands for is kept, as attributes of its own name. A value
that cannot be read (text for a time, say) is None and its field is named in `unread`: one bad field must not hide
an order. Money is Decimal in major units, rounded to its currency's digits, for the live API's columns are 32-bit
floats; times are aware, and one without a zone is UTC, as the vendor's own client reads it.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    AliasChoices,
    AliasGenerator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from hub.errors import BadAnswer
from hub.litekart.profiles import camel
from hub.money import rounded

LARGEST_EXPONENT = 18
# An amount of an unknown currency with no more decimals than any currency has is no float's noise.
MOST_PLACES = 3
PERSON = ("first_name", "last_name", "email", "phone")


def _lenient(read: Callable[[Any], Any]) -> BeforeValidator:
    """Reads a value; one that cannot be read is None, and its field is noted in the validation's context."""

    def validate(value: Any, info: ValidationInfo) -> Any:
        if value is None:
            return None
        try:
            return read(value)
        except (ValueError, TypeError, ArithmeticError):
            if isinstance(info.context, list):
                info.context.append(info.field_name)
            return None

    return BeforeValidator(validate)


def _number(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise TypeError("no number")
    number = Decimal(str(value).strip())
    if not number.is_finite() or number.adjusted() > LARGEST_EXPONENT:
        raise ValueError("no number of this world")
    return number


def _count(value: Any) -> int:
    number = _number(value)
    if number != number.to_integral_value():
        raise ValueError("no whole number")
    return int(number)


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise TypeError("no text")
    return str(value)


def _flag(value: Any) -> bool:
    known = {"true": True, "1": True, "false": False, "0": False}
    found = known.get(str(value).strip().lower())
    if found is None:
        raise ValueError("neither true nor false")
    return found


def _time(value: Any) -> datetime:
    if isinstance(value, str) and not value.strip().isdigit():
        moment = datetime.fromisoformat(value.strip())
    else:
        number = float(_number(value))
        # JavaScript counts milliseconds: as seconds they lie thousands of years ahead.
        moment = datetime.fromtimestamp(number / 1000 if number > 1e11 else number, UTC)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def _texts(value: Any) -> list[str]:
    """A list of texts; the live API writes some as one text with commas."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list):
        raise TypeError("no list")
    return [text.strip() for text in map(_text, parts) if text.strip()]


def _parts(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("no list")
    return [part for part in value if isinstance(part, dict)]


def _part(value: Any) -> Any:
    if not isinstance(value, dict):
        raise TypeError("no object")
    return value


def _id(value: Any) -> str:
    found = _text(value)
    if not found:
        raise ValueError("an empty id")
    return found


Amount = Annotated[Decimal | None, _lenient(_number)]
Count = Annotated[int | None, _lenient(_count)]
Text = Annotated[str | None, _lenient(_text)]
Flag = Annotated[bool | None, _lenient(_flag)]
Time = Annotated[datetime | None, _lenient(_time)]
Texts = Annotated[list[str] | None, _lenient(_texts)]
Id = Annotated[str, BeforeValidator(_id)]


def _named(*names: str) -> Any:
    """A field with further names: each in snake and in camel case, the first present one counts."""
    return Field(None, validation_alias=AliasChoices(*dict.fromkeys(form for name in names for form in _forms(name))))


def _forms(name: str) -> tuple[str, ...]:
    return (name, camel(name))


class Part(BaseModel):
    """What stands inside another object, where it may have no id. `unread`: fields whose value could not be read."""

    model_config = ConfigDict(
        extra="allow",
        frozen=True,
        # Built at the first answer: a hub without a store's key starts 50 ms sooner.
        defer_build=True,
        hide_input_in_errors=True,
        protected_namespaces=(),
        alias_generator=AliasGenerator(validation_alias=lambda name: AliasChoices(*_forms(name))),
    )

    _unread: tuple[str, ...] = PrivateAttr(())

    @property
    def unread(self) -> tuple[str, ...]:
        return self._unread

    @property
    def money_in(self) -> str | None:
        """The currency's code, where this object names it."""
        found = getattr(self, "currency", None)
        return found if isinstance(found, str) else None

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, document: Any) -> Any:
        # So that `name: null, title: "Kettle"` has a name.
        if not isinstance(document, Mapping):
            return document
        return {key: value for key, value in document.items() if value is not None or key not in _known(cls)}


@cache
def _known(model: type[Part]) -> set[str]:
    found = set()
    for field in model.model_fields.values():
        if isinstance(field.validation_alias, AliasChoices):
            found |= {choice for choice in field.validation_alias.choices if isinstance(choice, str)}
    return found


class Thing(Part):
    """What has an id of its own, opaque text. `created_at` and `updated_at` are aware, in UTC."""

    id: Id = Field(validation_alias=AliasChoices("id", "_id"))
    created_at: Time = None
    updated_at: Time = None


def _thing_of(*names: str) -> Any:
    return Field(validation_alias=AliasChoices("id", "_id", *(form for name in names for form in _forms(name))))


class Address(Part):
    """Where something goes or who pays for it."""

    id: Text = None
    first_name: Text = None
    last_name: Text = None
    email: Text = None
    phone: Text = None
    address_1: Text = _named("address_1", "address1", "line1", "street")
    address_2: Text = _named("address_2", "address2", "line2")
    locality: Text = None
    city: Text = None
    state: Text = None
    zip: Text = _named("zip", "postal_code", "zip_code")
    country: Text = None
    country_code: Text = None


class LineItem(Part):
    """One line of an order or a cart."""

    id: Text = None
    product_id: Text = None
    variant_id: Text = None
    sku: Text = None
    name: Text = _named("name", "title")
    variant_title: Text = _named("variant_title", "variant_name")
    quantity: Count = _named("quantity", "qty")
    price: Amount = None
    mrp: Amount = None
    subtotal: Amount = None
    discount: Amount = None
    tax: Amount = None
    total: Amount = None
    status: Text = None


class Tracking(Part):
    """One entry of an order's tracking."""

    id: Text = None
    order_id: Text = None
    status: Text = None
    tracking_number: Text = None
    tracking_url: Text = None
    courier: Text = _named("courier", "courier_name", "carrier", "shipping_provider")
    comment: Text = _named("comment", "note", "message", "description")
    created_at: Time = None
    updated_at: Time = None


Lines = Annotated[list[LineItem] | None, _lenient(_parts)]
Place = Annotated[Address | None, _lenient(_part)]


class Person(Part):
    """Somebody as an order names them."""

    id: Text = _named("id", "_id", "customer_id", "user_id")
    first_name: Text = None
    last_name: Text = None
    name: Text = None
    email: Text = None
    phone: Text = None

    @property
    def full_name(self) -> str:
        """Their name as one text; empty if there is none."""
        return self.name or " ".join(part for part in (self.first_name, self.last_name) if part)


class Customer(Thing):
    """A shopper; in the live API a user with a role."""

    id: Id = _thing_of("customer_id", "user_id")
    first_name: Text = None
    last_name: Text = None
    name: Text = None
    email: Text = None
    phone: Text = None
    avatar: Text = None
    role: Text = None
    status: Text = None

    @property
    def full_name(self) -> str:
        """Their name as one text; empty if there is none."""
        return self.name or " ".join(part for part in (self.first_name, self.last_name) if part)


class User(Customer):
    """Who works in the store: administrators and vendors."""

    id: Id = _thing_of("user_id")


class Order(Thing):
    """An order. `status` is any text: stores make their own.

    Who ordered stands both in the order's own fields and in `customer`, whichever of them the store sent.
    """

    id: Id = _thing_of("order_id")
    order_no: Text = _named("order_no", "order_number", "number")
    parent_order_no: Text = None
    status: Text = None
    payment_status: Text = None
    payment_method: Text = None
    payment_id: Text = None
    customer_id: Text = _named("customer_id", "user_id")
    customer: Annotated[Person | None, _lenient(_part)] = None
    first_name: Text = _named("first_name", "user_first_name", "customer_first_name")
    last_name: Text = _named("last_name", "user_last_name", "customer_last_name")
    email: Text = _named("email", "user_email", "customer_email")
    phone: Text = _named("phone", "user_phone", "customer_phone")
    comment: Text = None
    currency: Text = _named("currency_code", "currency")
    total: Amount = None
    subtotal: Amount = None
    discount: Amount = None
    tax: Amount = None
    shipping: Amount = _named("shipping_charges", "shipping_total", "shipping")
    amount_due: Amount = None
    amount_paid: Amount = None
    amount_refunded: Amount = None
    paid: Flag = None
    coupon_code: Text = _named("coupon_code", "coupon_used")
    cart_id: Text = None
    items: Lines = _named("line_items", "items")
    shipping_address: Place = None
    billing_address: Place = None
    tracking: Annotated[list[Tracking] | None, _lenient(_parts)] = None
    tags: Texts = None

    @model_validator(mode="after")
    def _one_customer(self) -> Self:
        own = {"id": self.customer_id} | {name: getattr(self, name) for name in PERSON}
        nested = self.customer or Person()
        missing = {name: value for name, value in own.items() if getattr(nested, name) is None}
        person = nested.model_copy(update=missing)
        if any(getattr(person, name) is not None for name in own):
            flat = {name: getattr(person, name) for name in PERSON}
            self.__dict__.update(flat, customer=person, customer_id=person.id)
        return self


class Variant(Part):
    """One kind of a product: a size, a colour."""

    id: Text = None
    product_id: Text = None
    name: Text = _named("name", "title", "variant_value")
    sku: Text = None
    barcode: Text = None
    price: Amount = None
    mrp: Amount = None
    stock: Count = None
    reorder_level: Count = None
    manage_inventory: Flag = None
    allow_backorder: Flag = None


class Product(Thing):
    """A product; without variants it has its own stock."""

    id: Id = _thing_of("product_id")
    name: Text = _named("name", "title")
    subtitle: Text = None
    slug: Text = None
    sku: Text = None
    barcode: Text = None
    description: Text = None
    status: Text = None
    active: Flag = None
    category: Any = None
    category_id: Text = None
    brand_id: Text = None
    vendor_id: Text = None
    currency: Text = _named("currency", "currency_code")
    price: Amount = None
    mrp: Amount = None
    cost_per_item: Amount = None
    stock: Count = None
    manage_inventory: Flag = None
    allow_backorder: Flag = None
    images: Texts = None
    thumbnail: Text = None
    variants: Annotated[list[Variant] | None, _lenient(_parts)] = None


class Inventory(Thing):
    """The stock of one SKU in one place."""

    id: Id = _thing_of("inventory_id")
    product_id: Text = None
    variant_id: Text = None
    sku: Text = None
    stock: Count = _named("stock", "quantity", "qty")
    low_stock_threshold: Count = _named("low_stock_threshold", "min_stock_level", "threshold")
    reorder_point: Count = None
    reorder_quantity: Count = None
    lead_time: Count = None
    cost_price: Amount = None
    warehouse_id: Text = None
    vendor_id: Text = None
    active: Flag = None


class Cart(Thing):
    """A shopping cart."""

    id: Id = _thing_of("cart_id")
    customer_id: Text = _named("customer_id", "user_id")
    email: Text = _named("email", "user_email")
    phone: Text = None
    quantity: Count = _named("quantity", "qty")
    currency: Text = _named("currency_code", "currency")
    subtotal: Amount = None
    discount: Amount = None
    tax: Amount = None
    total: Amount = None
    items: Lines = _named("line_items", "items")


class Category(Thing):
    """Where a product belongs."""

    name: Text = _named("name", "title")
    slug: Text = None
    parent_id: Text = _named("parent_id", "parent_category_id")
    active: Flag = _named("active", "is_active")


class Brand(Thing):
    """Who makes a product."""

    name: Text = _named("name", "title")
    slug: Text = None
    active: Flag = None


class Coupon(Thing):
    """A discount by a code."""

    code: Text = None
    type: Text = None
    status: Text = None
    value: Amount = _named("value", "amount", "discount")
    currency: Text = None
    valid_from: Time = None
    valid_till: Time = _named("valid_till", "valid_to", "expires_at")
    active: Flag = None


class Payment(Thing):
    """What was paid for an order."""

    id: Id = _thing_of("payment_id")
    order_id: Text = None
    amount: Amount = None
    currency: Text = _named("currency", "currency_code")
    method: Text = _named("method", "payment_method")
    status: Text = None
    transaction_id: Text = None


class Settings(Part):
    """The store's own settings."""

    id: Text = None
    name: Text = _named("name", "title", "store_name")
    domain: Text = None
    email: Text = None
    currency: Text = _named("currency_code", "currency")
    time_zone: Text = _named("time_zone", "timezone")
    order_prefix: Text = None


class ContentPage(Thing):
    """A page of the storefront."""

    name: Text = _named("name", "title")
    slug: Text = None
    content: Text = _named("content", "description", "body")
    status: Text = None
    active: Flag = None


class Blog(ContentPage):
    """An article of the storefront."""


class Webhook(Thing):
    """A registration: where the store sends which event. Its `password` is kept out of texts."""

    id: Id = _thing_of("webhook_id")
    url: Text = None
    event: Text = None
    name: Text = None
    description: Text = None
    active: Flag = None
    password: Annotated[str | None, _lenient(_text)] = Field(None, repr=False)


class OrderTag(Part):
    """A label on an order; without an id where the store did not say it when the label was put there."""

    id: Text = Field(None, validation_alias=AliasChoices("id", "_id"))
    order_id: Text = None
    tag: Text = _named("tag", "name")


M = TypeVar("M", bound=Part)


def read(model: type[M], document: Any, call: str = "") -> M:
    """The object that `document` (parsed JSON, its decimals as Decimal) holds. Raises BadAnswer if it has no id."""
    unread: list[str] = []
    try:
        found = model.model_validate(document, context=unread)
    except ValidationError as error:
        fields = ", ".join(sorted({".".join(map(str, problem["loc"])) or "it" for problem in error.errors()}))
        raise BadAnswer(f"no {model.__name__.lower()} that can be read: {fields}", status=200, call=call) from None
    _round(found, None)
    found._unread = tuple(unread)
    return found


def _round(part: Part, currency: str | None) -> None:
    """Round the amounts to the digits of their currency, that of the whole where the part names none."""
    currency = part.money_in or currency
    for name, value in part.__dict__.items():
        if isinstance(value, Decimal):
            part.__dict__[name] = _amount(value, currency)
        elif isinstance(value, Part):
            _round(value, currency)
        elif isinstance(value, list):
            for inner in value:
                if isinstance(inner, Part):
                    _round(inner, currency)


def _amount(value: Decimal, currency: str | None) -> Decimal:
    exponent = value.as_tuple().exponent
    if currency is None and isinstance(exponent, int) and exponent >= -MOST_PLACES:
        return value
    return rounded(value, currency or "")
