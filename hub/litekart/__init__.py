"""The store's REST API, in the shape that the vendor shows for its own SDK.

    async with Litekart(api_key="…", base_url="https://shop.example") as client:
        async for product in client.products.iter(category="electronics", price_min=10):
            print(product.name, product.price)

profiles.py  what the API looks like, as data: the vendor's page (`seed`) and the live API (`v2`)
models.py    what comes back, as tolerant values; answers.py reads them and every shape of error
calls.py     how a request is made: budget, backoff, deadline; reads.py joins and keeps identical reads
paging.py    a list to its end while it changes; resources.py what each resource can do; client.py the face
budget.py    the hour's requests, which all workers of a hub share

docs/litekart.md says what each profile offers and on what evidence.
"""

from hub.litekart.budget import Budget, RateLimit
from hub.litekart.calls import MAX_ANSWER
from hub.litekart.client import Litekart
from hub.litekart.models import (
    Address,
    Blog,
    Brand,
    Cart,
    Category,
    ContentPage,
    Coupon,
    Customer,
    Inventory,
    LineItem,
    Order,
    OrderTag,
    Payment,
    Person,
    Product,
    Settings,
    Tracking,
    User,
    Variant,
    Webhook,
)
from hub.litekart.profiles import PROFILES, SEED, V2, Profile
from hub.litekart.resources import Page

__all__ = [
    "MAX_ANSWER", "PROFILES", "SEED", "V2", "Address", "Blog", "Brand", "Budget", "Cart", "Category", "ContentPage",
    "Coupon", "Customer", "Inventory", "LineItem", "Litekart", "Order", "OrderTag", "Page", "Payment", "Person",
    "Product", "Profile", "RateLimit", "Settings", "Tracking", "User", "Variant", "Webhook",
]  # fmt: skip
