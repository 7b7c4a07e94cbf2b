"""From whom a SKU is ordered, and on which terms: the table's word first, then the store's vendor, then the ERP's."""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from connectors.erp.purchasing import Purchasing, Vendor
from connectors.erp.records import Product
from connectors.reorder.order import Row
from connectors.reorder.settings import HowMuch, Settings, Sku, Supplier
from connectors.reorder.stock import Stock, first
from hub.connector import Context, Rejected


@dataclass(frozen=True)
class Offer:
    """Who delivers a SKU and on which terms. `supplier` is its name in the settings, or in the ERP."""

    supplier: str
    quantity: HowMuch
    minimum: int
    pack: int
    lead_time: timedelta
    price: Decimal | None
    currency: str | None
    sku: str = ""


def product_of(one: Stock | Row) -> Product:
    """As the ERP is asked for it."""
    return Product(one.variant_id or one.product_id or one.sku, one.sku, one.name)


async def offer_for(stock: Stock, settings: Settings, erp: Purchasing | None, ctx: Context) -> Offer:
    """Raises Rejected, with the remedy, where nobody is known to deliver it."""
    row = settings.row(stock.sku)
    name = row.supplier or next(
        (name for name, one in settings.suppliers.items() if one.vendor is not None and one.vendor == stock.vendor_id),
        None,
    )
    supplier = settings.suppliers.get(name) if name else None
    vendor = await _vendor(stock, supplier, name, erp, ctx)
    if name is None and vendor is not None:
        name = next((known for known, one in settings.suppliers.items() if one.erp == vendor.name), vendor.name)
        supplier = settings.suppliers.get(name)
    if name is None:
        name = settings.supplier
        supplier = settings.suppliers.get(name) if name else None
    if name is None:
        more = " (nor has the ERP a vendor for it)" if erp is not None else ""
        raise Rejected(
            f"nobody is known to deliver {stock.sku or stock.name}{more}: name its supplier in `skus`, the store's "
            "vendor at the supplier, or `supplier` for all; or set `order: false` there"
        )
    return _offer(name, stock, row, supplier, vendor, settings)


def _offer(
    name: str, stock: Stock, row: Sku, supplier: Supplier | None, vendor: Vendor | None, settings: Settings
) -> Offer:
    of_vendor = vendor or Vendor(name)
    price, currency = _price(stock, row, supplier, vendor, settings)
    return Offer(
        supplier=name,
        quantity=row.quantity or (supplier.quantity if supplier else None) or settings.quantity,
        minimum=first(row.minimum, supplier.minimum if supplier else None, of_vendor.minimum),
        pack=first(row.pack, supplier.pack if supplier else None, 1),
        lead_time=first(
            row.lead_time, supplier.lead_time if supplier else None, of_vendor.lead_time, stock.lead_time,
            settings.lead_time,
        ),
        price=price,
        currency=currency,
        sku=row.supplier_sku or of_vendor.sku,
    )  # fmt: skip


def _price(
    stock: Stock, row: Sku, supplier: Supplier | None, vendor: Vendor | None, settings: Settings
) -> tuple[Decimal | None, str | None]:
    """What one costs, and in which currency all of this supplier's prices are."""
    own = first(supplier.currency if supplier else None, vendor.currency if vendor else None, settings.currency)
    currency = own or stock.currency
    if row.price is not None:
        return row.price, currency
    # What costs less than nothing would lower an order's sum below the limits.
    if vendor is not None and vendor.price is not None and vendor.price > 0 and vendor.currency in {None, currency}:
        return vendor.price, currency
    if stock.cost is not None and stock.cost > 0 and stock.currency in {None, currency}:
        return stock.cost, currency
    return None, currency


async def _vendor(
    stock: Stock, supplier: Supplier | None, name: str | None, erp: Purchasing | None, ctx: Context
) -> Vendor | None:
    """The ERP's word on who delivers it: of the supplier that is chosen already, or the one that it prefers."""
    if erp is None or (name is not None and (supplier is None or supplier.erp is None)):
        return None
    vendors = await erp.vendors_of(product_of(stock), ctx)
    if supplier is not None:
        return next((one for one in vendors if one.name == supplier.erp), None)
    return next(iter(vendors), None)
