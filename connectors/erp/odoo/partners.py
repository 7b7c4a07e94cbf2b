"""Customers and their addresses as Odoo's contacts: found, taken over or made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from connectors.erp.odoo.known import Place, base, columns, escaped, place
from connectors.erp.odoo.rows import (
    Added,
    Row,
    address_columns,
    address_key,
    address_parts,
    address_row,
    customer_row,
    differences,
    external,
)
from connectors.erp.odoo.talk import Talk
from connectors.erp.records import GUEST, Address, Customer
from connectors.messages import clean
from hub.connector import Rejected, TryAgain

HOME = ("street", "street2", "city", "zip", "state_id", "country_id")
TEXTS = ("name", *HOME[:4])
READ = ["name", "email", "phone", "street", "street2", "city", "zip", "state_id", "country_id", "parent_id", "type"]
KINDS = {"delivery", "invoice"}
SHOWN = 5


@dataclass(frozen=True)
class Partner:
    """A contact. `ours`: made by this connector for this customer. `row`: what it would hold; `changes` in words."""

    id: int | None
    name: str
    ours: bool
    row: Row
    changes: tuple[str, ...]
    standing: Mapping[str, Any] | None = None


async def find_partner(talk: Talk, customer: Customer) -> Partner:
    """The contact that stands for the customer, not made yet where `id` is None. Raises Rejected for two of them."""
    own = external(talk.store, "customer", customer.key)
    where = await place(talk.line, customer.address) if customer.address else Place()
    added = await talk.added("customer")
    row = customer_row(customer, where, added)
    hits = await _by_email(talk, customer.email) if talk.line.server.settings.customers == "email" else []
    kept = await talk.find(own) if not hits or len(hits) > 1 else None
    if kept is not None:
        return _unmoved(customer, await _of(talk, kept, True, row), added)
    if len(hits) > 1:
        raise Rejected(_two(customer.email, hits))
    if not hits:
        return Partner(None, customer.name, True, {"id": own, **row}, (f"a new contact {customer.name}",))
    ids = await talk.external_ids("res.partner", [hits[0]["id"]])
    return _unmoved(customer, await _of(talk, hits[0]["id"], ids.get(hits[0]["id"]) == own, row), added)


async def ensure_partner(talk: Talk, customer: Customer) -> tuple[Partner, bool]:
    """The contact, made or brought up to date, and whether that wrote anything. The merchant's own stay as they are."""
    found = await find_partner(talk, customer)
    if found.id is not None and not (found.ours and found.changes):
        return found, False
    row = {"id": external(talk.store, "customer", customer.key), **found.row}
    made = await talk.load("res.partner", row if found.id is not None else {**row, **(await _rank(talk))})
    return await _of(talk, made, True, found.row), True


def _unmoved(customer: Customer, found: Partner, added: Added) -> Partner:
    """The contact with those changes alone that a later order may make in it.

    It stays where it lives: earlier orders go there, and whoever orders as a guest under somebody's e-mail address
    would have them sent to himself. For that reason a guest's contact stays as it was made.
    """
    if not found.ours or found.standing is None:
        return found
    own = {base(column) for column in added.columns}
    kept = {name for name in HOME if name not in own} if any(found.standing[name] for name in HOME[:4]) else set()
    row = {name: value for name, value in found.row.items() if base(name) not in kept}
    guest = customer.key.startswith(GUEST)
    return replace(found, row=row, changes=() if guest else tuple(differences(found.standing, row)))


async def find_address(talk: Talk, partner: Partner, address: Address | None, kind: str) -> tuple[int | None, Row]:
    """The contact for an address of an order, and the row that makes it: the partner itself where it lives there."""
    if address is None or not any(address_parts(address)):
        return partner.id, {}
    where = await place(talk.line, address)
    row = address_row(address, where, partner.name, await talk.added("address"))
    row = {"id": external(talk.store, f"address_{partner.id or 0}", kind, address_key(address)), **row}
    if partner.id is None or partner.standing is None:
        home = address_columns(address, where) | {"name": address.name or partner.name}
        return (None, {}) if home.items() <= partner.row.items() else (None, row)
    if _lives_at(partner.standing, address, where, partner):
        return partner.id, row
    family = [["parent_id", "=", partner.id], ["type", "in", [kind, "other"]]]
    known = await talk.every("res.partner", family, READ)
    same = [one["id"] for one in known if _lives_at(one, address, where, partner)]
    return (same or [None])[0], row


async def ensure_address(talk: Talk, partner: Partner, address: Address | None, kind: str) -> int:
    """Its contact's id. Made by way of the partner: as a record of its own, Odoo 19 lets none be loaded by a user
    without rights on invoices, since it copies their fields from the partner in his name."""
    found, row = await find_address(talk, partner, address, kind)
    if found is None:
        # By its number an archived contact is not found otherwise.
        archived_too = {"active_test": False}
        await talk.load("res.partner", {".id": str(partner.id)}, "child_ids", [row], archived_too)
        found = await talk.find(row["id"])
    if found is None:
        raise TryAgain(f"the {kind} address of {partner.name} was deleted in Odoo as soon as it was written")
    return found


async def _by_email(talk: Talk, email: str) -> list[dict[str, Any]]:
    """Contacts with that address; those that are but an address of another are left out, archived ones too."""
    if not email:
        return []
    domain = [["email", "=ilike", escaped(email)], ["type", "not in", sorted(KINDS)]]
    found: list[dict[str, Any]] = await talk.line.call(
        "res.partner", "search_read", domain=domain, fields=["name"], order="id", limit=SHOWN
    )
    return found


async def _of(talk: Talk, partner: int, ours: bool, row: Row) -> Partner:
    wanted = sorted({*READ, *(name.partition("/")[0] for name in row)})
    [standing] = await talk.line.call("res.partner", "read", ids=[partner], fields=wanted)
    changes = tuple(differences(standing, row)) if ours else ()
    return Partner(partner, str(standing["name"] or ""), ours, row, changes, standing)


async def _rank(talk: Talk) -> Row:
    """What makes a new contact a customer, where invoicing is installed."""
    known = await columns(talk.line, "res.partner")
    return {"customer_rank": "1"} if "customer_rank" in known else {}


def _lives_at(one: Mapping[str, Any], address: Address, where: Place, partner: Partner) -> bool:
    """Whether a contact is of that name and address, letters' case aside."""
    wanted = address.name or partner.name
    row = {"name": wanted, **address_columns(address, where)}
    return not any(differences({**one, **{key: _folded(one[key]) for key in TEXTS}}, _folded_row(row)))


def _folded(value: object) -> object:
    return value.casefold().strip() if isinstance(value, str) else value


def _folded_row(row: Row) -> Row:
    return {name: value.casefold().strip() for name, value in row.items()}


def _two(email: str, hits: Sequence[Mapping[str, Any]]) -> str:
    names = ", ".join(f"{clean(one['name'] or '', 60)} (id {one['id']})" for one in hits)
    return f"{email} belongs to several contacts in Odoo: {names}. Merge or archive all but one, then replay"
