"""A store that lives: at a pace, whatever may happen next does, for the demo and for a double that runs alone."""

import asyncio

from hub.testing.store import happenings
from hub.testing.store.resources import Row
from hub.testing.store.shop import Shop
from hub.testing.store.words import ORDER_STATUSES

WEIGHTS = {
    "place": 5, "pay": 5, "update": 4, "sell": 2, "restock": 2, "register": 1, "cancel": 1, "change": 1, "create": 0.3
}  # fmt: skip

LOOK_EVERY = 0.2


async def live(shop: Shop) -> None:
    """Without end. Between two happenings lies between half and one and a half times the pace; without one, nothing."""
    while True:
        pace = shop.settings.live
        await asyncio.sleep(LOOK_EVERY if pace is None else pace * shop.state.random.uniform(0.5, 1.5))
        if pace is not None and shop.settings.live is not None:
            happen(shop)


def happen(shop: Shop) -> None:
    """One thing, such as is possible now. Where there are no goods or no shoppers, they come first."""
    if not shop.state.tables["inventory"]:
        happenings.create_product(shop, sku="FIRST-1")
        return
    if not shop.state.tables["customers"]:
        happenings.register_customer(shop)
        return
    chosen = shop.state.random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    unpaid, open_orders, low = _situation(shop)
    match chosen:
        case "pay" if unpaid:
            happenings.pay(shop, unpaid[0]["id"])
        case "update" if open_orders:
            happenings.update(shop, shop.state.random.choice(open_orders)["id"])
        case "cancel" if unpaid:
            happenings.cancel(shop, unpaid[-1]["id"], "Ordered twice – désolé")
        case "restock" if low:
            happenings.restock(shop, low[0]["sku"], 40)
        case "sell":
            shelf = shop.state.random.choice(list(shop.state.rows("inventory")))
            happenings.sell(shop, shelf["sku"], min(max(shelf["stock"] - 3, 1), 12))
        case "register":
            happenings.register_customer(shop)
        case "create":
            happenings.create_product(shop, sku=f"NEW-{shop.state.random.randrange(10**6):06}")
        case "change":
            product = shop.state.random.choice(list(shop.state.rows("products")))
            happenings.change_product(shop, product["id"], price=float(product["price"]) + 1)
        case _:
            happenings.place_order(shop)


def _situation(shop: Shop) -> tuple[list[Row], list[Row], list[Row]]:
    recent = list(shop.state.rows("orders"))[-40:]
    unpaid = [row for row in recent if not row["paid"] and row["status"] == "pending"]
    moving = [row for row in recent if row["paid"] and row["status"] in ORDER_STATUSES[:-1]]
    low = [row for row in shop.state.rows("inventory") if row["stock"] <= row["low_stock_threshold"]]
    return unpaid, moving, low
