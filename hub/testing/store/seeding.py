"""Believable data from a seed number: the same seed gives the same store, but for its times, which end now."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from hub.clock import system_time
from hub.event import EVENT_TYPES
from hub.testing.store import words
from hub.testing.store.resources import Row
from hub.testing.store.settings import StoreSettings
from hub.testing.store.state import State, slug_of

OLDEST = timedelta(days=120)
FINISHED = (*words.ORDER_STATUSES, "delivered", "delivered", "completed", "cancelled")


def seeded(settings: StoreSettings) -> State:
    """A store as it stands after some months."""
    state = State(settings)
    began = system_time().replace(minute=0, second=0, microsecond=0) - OLDEST
    _shop(state, settings, began)
    shelves = _categories(state, began), _brands(state, began)
    for number in range(settings.products):
        _product(state, number, *shelves, began + timedelta(hours=number))
    customers = [_customer(state, number, began) for number in range(settings.customers)]
    if customers and state.tables["inventory"]:
        _orders(state, customers, settings.orders, began)
        _carts(state, customers)
    return state


def _shop(state: State, settings: StoreSettings, began: datetime) -> None:
    at: Row = {"created_at": began}
    state.add("settings", at | {
        "store_name": "Käthe's Corner", "email": "shop@example.test", "order_prefix": "ORD", "page_size": 20,
        "time_zone": "UTC", "currency_code": settings.currency, "currency_decimal_digits": "2",
        "low_stock_threshold": settings.threshold,
    })  # fmt: skip
    state.add("warehouses", at | {
        "name": "Main", "slug": "main", "is_active": True, "address_1": "1 Dock Road", "city": "Cork",
        "country_code": "IE",
    })  # fmt: skip
    for number, role in enumerate(("admin", "admin", "vendor", "vendor", "vendor")):
        state.add("users", at | new_person(state, f"{role}{number}@example.test") | {"role": role})
    for number, code in enumerate(words.COUPONS):
        state.add("coupons", at | {
            "code": code, "type": ("TOTAL", "USER", "BOGO")[number % 3], "value": Decimal(5 * (number + 1)),
            "status": "DRAFT" if number == 5 else "PUBLIC", "valid_till": began + timedelta(days=365),
        })  # fmt: skip
    for resource, titles in (("pages", words.PAGES), ("blogs", words.BLOGS)):
        for number, title in enumerate(titles):
            state.add(resource, {
                "title": title, "slug": slug_of(title), "content": f"<p>{title}, in a few words.</p>",
                "status": "published", "created_at": began + timedelta(days=number),
            })  # fmt: skip
    if settings.profile == "v2" and settings.webhooks:
        register(state, settings.webhooks, settings.secret, created_at=began)


def register(state: State, url: str, secret: str, **more: Any) -> None:
    """A webhook registration for each of the eight events."""
    for event in EVENT_TYPES:
        state.add("webhooks", {
            "url": url, "password": secret, "name": event, "description": "", "event": event, "rank": 0, "active": True,
        } | more)  # fmt: skip


def _categories(state: State, began: datetime) -> list[Row]:
    return [_shelf(state, "categories", name, began) for name in words.CATEGORIES]


def _brands(state: State, began: datetime) -> list[Row]:
    return [_shelf(state, "brands", name, began) for name in words.BRANDS]


def _shelf(state: State, resource: str, name: str, began: datetime) -> Row:
    row = {"name": name, "slug": slug_of(name), "description": f"{name} of all kinds", "active": True}
    more: Row = {"parent_id": None} if resource == "categories" else {}
    return state.add(resource, row | more | {"created_at": began})


def _product(state: State, number: int, categories: list[Row], brands: list[Row], at: datetime) -> None:
    goods = words.GOODS[number % len(words.GOODS)]
    style = words.STYLES[number // len(words.GOODS) % len(words.STYLES)]
    name = f"{goods.name}, {style}" if style else goods.name
    price = goods.price + number // len(words.GOODS) * 3 + Decimal(state.random.choice(("0", "0.50", "0.90", "0.99")))
    row: dict[str, Any] = {
        "name": name, "slug": f"{slug_of(name)}-{number + 1}".strip("-"),
        "sku": f"{goods.category[:3].upper()}-{number + 1:03}",
        "price": price, "mrp": price + 10, "cost": (price / 2).quantize(Decimal("0.01")),
        "description": f"{name}: made with care.", "status": "draft" if number % 15 == 14 else "published",
        "category_id": next(one["id"] for one in categories if one["name"] == goods.category),
        "brand_id": state.random.choice(brands)["id"], "stock": state.random.randrange(15, 120),
        "barcode": f"40{state.random.randrange(10**10):010}",
        "images": [f"https://shop.example.test/img/{number + 1}-{view}.jpg" for view in (1, 2)],
        "created_at": at,
    }  # fmt: skip
    row["variants"] = [
        {
            "name": f"{goods.option} {value}", "sku": f"{row['sku']}-{place}", "price": price + place,
            "stock": state.random.randrange(10, 60), "options": [{"name": goods.option, "value": value}],
        }
        for place, value in enumerate(goods.values)
    ]  # fmt: skip
    state.add_product(row)


def new_person(state: State, email: str) -> Row:
    """A shopper, or whoever else, without an address."""
    return {
        "first_name": state.random.choice(words.FIRST_NAMES), "last_name": state.random.choice(words.LAST_NAMES),
        "email": email, "phone": f"+4915{state.random.randrange(10**8):08}", "active": True, "status": "active",
        "tags": [], "avatar": None, "role": "customer",
    }  # fmt: skip


def _customer(state: State, number: int, began: datetime) -> Row:
    person = new_person(state, f"customer{number + 1}@example.test")
    city, region, code, country = state.random.choice(words.CITIES)
    street = f"{state.random.randrange(1, 99)} {state.random.choice(words.STREETS)}"
    address = {
        "first_name": person["first_name"], "last_name": person["last_name"], "address_1": street, "address_2": "",
        "city": city, "state": region, "zip": code, "country_code": country, "phone": person["phone"],
    }  # fmt: skip
    at = began + timedelta(hours=state.random.randrange(24 * 30))
    return state.add("customers", person | {"address": address, "created_at": at})


def some_lines(state: State) -> list[Row]:
    """One to three lines of what is in stock."""
    shelves = [row for row in state.rows("inventory") if row["stock"] > 3] or list(state.rows("inventory"))
    chosen = state.random.sample(shelves, min(len(shelves), state.random.randrange(1, 4)))
    return [state.line_of(shelf, state.random.randrange(1, 4)) for shelf in chosen]


def _orders(state: State, customers: list[Row], count: int, began: datetime) -> None:
    step = OLDEST / max(count, 1)
    for number in range(count):
        at = began + step * number
        recent = number >= count * 9 // 10
        status = state.random.choice(words.ORDER_STATUSES[:3] if recent else FINISHED)
        coupon = "WELCOME10" if number % 7 == 0 else None
        order = state.add_order(
            state.random.choice(customers), some_lines(state), status=status, created_at=at, coupon_code=coupon
        )
        if status not in {"pending", "cancelled"}:
            state.add_payment(order, created_at=at + timedelta(minutes=3))
        order["updated_at"] = at + step / 2
        if status in {"shipped", "delivered", "completed"}:
            state.add("tracking", {
                "order_id": order["id"], "status": status, "tracking_number": f"TRK{order['order_no']:07}",
                "tracking_url": f"https://parcels.example.test/TRK{order['order_no']:07}", "courier": "Parcels",
                "note": None, "created_at": order["updated_at"],
            })  # fmt: skip
        if number % 11 == 0:
            state.add("order_tags", {"order_id": order["id"], "tag": "gift", "created_at": at})


def _carts(state: State, customers: list[Row]) -> None:
    for _ in range(12):
        lines = some_lines(state)
        state.add("carts", {
            "customer_id": state.random.choice(customers)["id"], "line_items": lines, "coupon_code": None,
            "currency": state.currency, "total": sum((line["total"] for line in lines), Decimal(0)),
        })  # fmt: skip
