"""An order as a mail to a supplier, by the connector `email`: a table, and the same lines as a CSV file."""

import csv
import hashlib
import io
from dataclasses import replace
from email.message import EmailMessage
from functools import partial

from connectors.email import Email
from connectors.messages import clean_line
from connectors.reorder.order import Order, price_text
from connectors.reorder.sending import Done, Sending
from connectors.reorder.settings import MailSettings
from hub.connector import Context, Event, Preview

COLUMNS = ("order", "supplier_sku", "sku", "name", "quantity", "unit_price", "currency", "location")
FORMULA = ("=", "+", "-", "@", "\t", "\r")


class OrderMail(Email):
    """A mail with the order attached. Its Message-ID is made of the order's number, so a second copy of it, should a
    crash lead to one, is known as the same mail."""

    def __init__(self, settings: MailSettings, order: Order) -> None:
        super().__init__(settings)
        self._order = order

    def _message(self, event: Event, ctx: Context, reply_to: str) -> EmailMessage:
        own = replace(ctx, key=self._order.number, render=partial(ctx.render, order=self._order.plain()))
        message = super()._message(event, own, reply_to)
        message.add_attachment(csv_of(self._order), subtype="csv", filename=f"{self._order.number}.csv")
        message.set_boundary(f"=={hashlib.sha256(self._order.id.encode()).hexdigest()[:32]}==")
        return message


class Mailing(Sending):
    """SMTP cannot tell doubles: the mail is recorded as sent the moment the server has taken it."""

    def __init__(self, settings: MailSettings, to: tuple[str, ...]) -> None:
        everyone = tuple(dict.fromkeys((*to, *settings.copy_to)))
        self._settings = settings.model_copy(update={"to": everyone})

    async def send(self, order: Order, event: Event, ctx: Context) -> Done:
        receipt = await OrderMail(self._settings, order).deliver(event, ctx)
        return Done(receipt.text, order.number, answer=receipt.answer)

    async def preview(self, order: Order, event: Event, ctx: Context) -> Preview:
        return await OrderMail(self._settings, order).preview(event, ctx)

    async def check(self, ctx: Context) -> str:
        return await Email(self._settings).check(ctx)


def csv_of(order: Order) -> str:
    """The lines as a spreadsheet reads them. What would be a formula there is text."""
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow(COLUMNS)
    for row in order.rows:
        price = "" if row.price is None else price_text(row.price, order.currency).replace(",", "")
        place = row.location_name or row.location
        texts = map(_text, (order.number, row.supplier_sku, row.sku, row.name))
        writer.writerow([*texts, row.quantity, price, _text(order.currency or ""), _text(place)])
    return written.getvalue()


def _text(value: str) -> str:
    line = clean_line(value)
    return f"'{line}" if line.startswith(FORMULA) else line
