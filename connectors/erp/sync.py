"""What becomes of one event: the store's present state is read, and the ERP brought to it.

What was done is kept with the entity: the record's id and number, a hash of the rows, each note. So the same event
twice, a replay and an echo of our own write-back end with `nothing changed`, and what a crash left unrecorded is
found in the ERP itself.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from connectors.erp.backend import Session
from connectors.erp.reading import read_customer, read_order, read_products
from connectors.erp.records import Order, Product, Record, Write, Written
from connectors.erp.settings import Settings
from connectors.erp.together import side_by_side
from hub.connector import Context, Event, NotOffered, Receipt, Rejected, Skip, amount_text

# Effects of an entity.
ID, NUMBER, ROWS, TAG, COMMENT, CANCELLED = "id", "number", "rows", "tag", "comment", "cancelled"
COMMENTED = "comment written"
PAYMENT = "payment.completed"


async def sync(event: Event, ctx: Context, session: Session, settings: Settings) -> Receipt:
    """Bring the ERP to the state of what the event is about. Raises Skip where nothing is to be done."""
    kind, identity = about(event)
    if kind == "order":
        return await _sync_order(event, await order_of(identity, ctx, settings), ctx, session, settings)
    last = await _kept(ctx, ROWS)
    if kind == "customer":
        written = await session.write_customer(await _customer(identity, ctx), last)
    else:
        written = await session.write_products(await _products(identity, ctx), last)
    number = written.record.number
    if not written.changed:
        raise Skip(f"nothing changed since {number}")
    await _keep(ctx, written)
    return Receipt("; ".join([f"{kind} {number} written", *written.remarks]), written.record.url)


async def plan(event: Event, ctx: Context, session: Session, settings: Settings) -> list[Write]:
    """What `sync` would write for a customer, products or an order. Writes nothing; raises what `sync` would."""
    kind, identity = about(event)
    if kind == "customer":
        return await session.plan_customer(await _customer(identity, ctx))
    if kind == "product":
        return await session.plan_products(await _products(identity, ctx))
    order = await order_of(identity, ctx, settings)
    record = await session.find_order(order, await _kept(ctx, ID))
    if order.cancelled:
        return [Write(_to_cancel(record).number, {"state": "cancelled"}, ("is cancelled",))]
    if record is not None and record.state == "cancelled":
        await _is_cancelled_there(event, record, ctx)
    writes = await session.plan_order(order, record)
    if (record is None or record.state == "draft") and to_confirm(event, order, settings):
        number = record.number if record is not None else f"order {order.number}"
        writes.append(Write(number, {"state": "confirmed"}, ("the quotation becomes an order",)))
    return writes


def about(event: Event) -> tuple[str, str]:
    """`order`, `customer` or `product`, and the store's id. Raises Skip for what no ERP is told of."""
    kind, _, identity = (event.entity or "").partition(":")
    if not identity:
        raise Rejected(f"this {event.type} names nothing by an id")
    if kind not in {"order", "customer", "product"} or event.type == "inventory.low":
        raise Skip(f"nothing of {event.type} is carried over")
    return kind, identity


async def _customer(identity: str, ctx: Context) -> Any:
    return read_customer(await ctx.litekart.customers.get(identity))


async def _products(identity: str, ctx: Context) -> Sequence[Product]:
    found = read_products(await ctx.litekart.products.get(identity))
    if not found:
        raise Skip("the product has no SKU in the store, by which an ERP would know it")
    return found


async def order_of(identity: str, ctx: Context, settings: Settings) -> Order:
    """The order as the store has it now. What the order itself leaves out is asked for: customer, SKUs, currency."""
    found = await ctx.litekart.orders.get(identity)
    currency = found.currency or (await ctx.litekart.settings.get()).currency
    if not currency:
        raise Rejected(f"order {found.order_no or found.id}: neither it nor the store's settings name a currency")
    nameless = sorted({row.product_id for row in found.items or () if not row.sku and row.product_id})
    products = await side_by_side(ctx.litekart.products.get, nameless)
    known = {identity: read_products(product) for identity, product in zip(nameless, products, strict=True)}
    order = read_order(found, currency.upper(), settings, known)
    if found.customer_id and not (order.customer.email and found.first_name):
        person = read_customer(await ctx.litekart.customers.get(found.customer_id))
        order = replace(order, customer=replace(person, address=order.customer.address))
    ours = await ctx.entity_effects.get(COMMENT)
    return replace(order, comment="") if ours is not None and ours.value == order.comment else order


async def _sync_order(event: Event, order: Order, ctx: Context, session: Session, settings: Settings) -> Receipt:
    record = await session.find_order(order, await _kept(ctx, ID))
    if order.cancelled:
        return await _cancel(record, ctx, session)
    if record is not None and record.state == "cancelled":
        await _is_cancelled_there(event, record, ctx)
    if await _kept(ctx, CANCELLED):
        await ctx.entity_effects.put(CANCELLED, "")
    last = await _kept(ctx, ROWS) if record is not None else None
    written = await session.write_order(order, record, last)
    done = [_what_was_written(order, record, written)] if written.changed else []
    if written.changed:
        await _keep(ctx, written)
    done += await _notes(order, written.record, ctx, session)
    present = written.record
    if present.state == "draft" and to_confirm(event, order, settings):
        present = await session.confirm(present)
        done.append("confirmed")
    done += await _write_back(order, present, ctx, settings)
    if not done:
        raise Skip(f"nothing changed since {present.number}")
    return Receipt("; ".join([f"{present.number} {done[0]}", *done[1:], *written.remarks]), present.url)


async def _cancel(record: Record | None, ctx: Context, session: Session) -> Receipt:
    if record is not None:
        # Kept first: should the store open its order again, that must not be taken for a cancellation by hand.
        await ctx.entity_effects.put(CANCELLED, record.number)
    cancelled = await session.cancel(_to_cancel(record))
    return Receipt(f"{cancelled.number} cancelled", cancelled.url)


def _to_cancel(record: Record | None) -> Record:
    """Raises Skip where nothing is left to be cancelled."""
    if record is None:
        raise Skip("cancelled in the store before it came to the ERP")
    if record.state == "cancelled":
        raise Skip(f"nothing changed since {record.number}, which is cancelled")
    return record


async def _is_cancelled_there(event: Event, record: Record, ctx: Context) -> None:
    """It is cancelled in the ERP, and not in the store. Skipped where somebody did so by hand; an order that was
    cancelled in the store too and is open again there, and money that comes in, are not passed over."""
    if await _kept(ctx, CANCELLED):
        raise Rejected(
            f"{record.number} was cancelled with the store's order, which is open again: set it to a quotation in the "
            "ERP, then replay"
        )
    told = f"{record.number} is cancelled in the ERP, and the store's order is not"
    if event.type == PAYMENT:
        raise Rejected(
            f"{told}: it was paid. Set it to a quotation there, or cancel the order in the store; then replay"
        )
    raise Skip(told)


def _what_was_written(order: Order, record: Record | None, written: Written) -> str:
    rows = f"{len(order.lines)} row{'s' if len(order.lines) != 1 else ''}"
    done = "made" if record is None else "changed"
    return f"{done}: {rows}, {amount_text(order.amount, order.currency)} {order.currency}"


def to_confirm(event: Event, order: Order, settings: Settings) -> bool:
    """Whether the quotation becomes an order now. A payment's event counts unless the store says that more is due."""
    if settings.confirm == "never":
        return False
    return settings.confirm == "on order.placed" or order.paid or (event.type == PAYMENT and not order.due)


async def _notes(order: Order, record: Record, ctx: Context, session: Session) -> list[str]:
    done = []
    for note in order.notes:
        name = f"note {note.key}"
        if await ctx.entity_effects.get(name) is None:
            await session.note(record, note)
            await ctx.entity_effects.put(name, record.number)
            done.append(f"noted: {note.key}")
    return done


async def _write_back(order: Order, record: Record, ctx: Context, settings: Settings) -> list[str]:
    """The ERP's number, on the store's order. It is a courtesy: where the store does not take it, that is told."""
    if settings.write_back == "none":
        return []
    name = TAG if settings.write_back == "tag" else COMMENT
    written = TAG if name == TAG else COMMENTED
    if await _kept(ctx, written) == record.number:
        return []
    if name == COMMENT and order.comment:
        return []
    try:
        if name == TAG:
            await _tag(order, record.number, ctx)
        else:
            # Kept first: its echo is an order.updated, which must find whose comment it is.
            await ctx.entity_effects.put(COMMENT, record.number)
            await ctx.litekart.orders.update(order.id, comment=record.number)
    except NotOffered as error:
        return [f"its number is not in the store: {error}"]
    await ctx.entity_effects.put(written, record.number)
    return [f"the store's order has its number as {'a tag' if name == TAG else 'its comment'}"]


async def _tag(order: Order, number: str, ctx: Context) -> None:
    """Once. To look first reads all tags of the store: only where an earlier attempt may have put it there."""
    if ctx.attempt > 1:
        async for tag in ctx.litekart.order_tags.iter(order_id=order.id):
            if tag.tag == number and tag.order_id == order.id:
                return
    await ctx.litekart.order_tags.add(order.id, number)


async def _kept(ctx: Context, name: str) -> str | None:
    found = await ctx.entity_effects.get(name)
    return found.value if found is not None else None


async def _keep(ctx: Context, written: Written) -> None:
    """The rows last: what is kept before them is no reason to write nothing."""
    await ctx.entity_effects.put(ID, written.record.id)
    await ctx.entity_effects.put(NUMBER, written.record.number, written.record.url)
    await ctx.entity_effects.put(ROWS, written.fingerprint)
