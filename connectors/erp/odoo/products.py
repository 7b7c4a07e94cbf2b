"""Products as Odoo's: found by SKU or barcode, all of an order in one question, and made where the settings say so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.erp.odoo.known import base, columns, company
from connectors.erp.odoo.rows import Row, differences, external, product_row, type_columns
from connectors.erp.odoo.talk import Talk
from connectors.erp.records import Product
from connectors.messages import clean
from hub.connector import Rejected

READ = ["display_name", "default_code", "barcode"]
WORDS = {"default_code": "SKU", "barcode": "barcode"}
SHOWN = 60
MOST_NAMED = 10


@dataclass(frozen=True)
class Found:
    """Odoo's products by the store's key for each, and those that Odoo does not have."""

    ids: Mapping[str, int]
    missing: tuple[Product, ...]


async def find_products(talk: Talk, products: Sequence[Product]) -> Found:
    """One search for all. Raises Rejected where two products in Odoo answer to one."""
    several = {product.key: product for product in products}
    hits = await _hits(talk, list(several.values()))
    ids, missing = {}, []
    for key, product in several.items():
        known = hits.get(_searched(talk, product), [])
        if len(known) > 1:
            raise Rejected(_two(talk, product, known))
        if known:
            ids[key] = int(known[0]["id"])
        else:
            missing.append(product)
    return Found(ids, tuple(missing))


async def ensure_products(talk: Talk, products: Sequence[Product]) -> dict[str, int]:
    """Odoo's product for each; makes missing ones, or raises Rejected as the settings say."""
    found = await find_products(talk, products)
    refuse_missing(talk, found)
    ids, made = dict(found.ids), dict[tuple[str, str], int]()
    for product in found.missing:
        column, value = _searched(talk, product)
        # Two variants with one SKU are one product here, or the next order would meet two that answer to it.
        same = (column, value or product.key)
        if same not in made:
            made[same] = await make_product(talk, product)
        ids[product.key] = made[same]
    return ids


def refuse_missing(talk: Talk, found: Found) -> None:
    """Raises Rejected with the names of what Odoo does not have, where it is not to be made."""
    if not found.missing or talk.line.server.settings.missing_products == "create":
        return
    names = ", ".join(called(talk, product) for product in found.missing[:MOST_NAMED])
    more = len(found.missing) - MOST_NAMED
    names += f" and {more} more" if more > 0 else ""
    one = len(found.missing) == 1
    raise Rejected(
        f"{names} {'is' if one else 'are'} not in Odoo: make {'it' if one else 'them'} there, then replay "
        "(or set `missing_products: create`)"
    )


async def make_product(talk: Talk, product: Product) -> int:
    row = await row_of(talk, product)
    kind = type_columns(product, await columns(talk.line, "product.product"))
    return await talk.load("product.product", {"id": own_id(talk, product), **kind, **row})


async def row_of(talk: Talk, product: Product) -> Row:
    home = await company(talk.line)
    return product_row(product, home.currency, await talk.added("product"))


async def changes_of(
    talk: Talk, products: Sequence[Product], ids: Mapping[str, int]
) -> list[tuple[Product, Row, tuple[str, ...]]]:
    """Those that this connector made, each with its row and what that would change in Odoo's record.

    `ids`: the record of each. All of a product's variants in two questions.
    """
    named = await talk.external_ids("product.product", [ids[product.key] for product in products])
    ours = [product for product in products if named[ids[product.key]] == own_id(talk, product)]
    if not ours:
        return []
    rows = [await row_of(talk, product) for product in ours]
    wanted = sorted({base(column) for row in rows for column in row})
    records = [ids[product.key] for product in ours]
    found = await talk.line.call("product.product", "read", ids=records, fields=wanted)
    standing = {one["id"]: one for one in found}
    return [
        (product, row, tuple(differences(standing[ids[product.key]], row)))
        for product, row in zip(ours, rows, strict=True)
    ]


def own_id(talk: Talk, product: Product) -> str:
    return external(talk.store, "variant", product.key)


def called(talk: Talk, product: Product) -> str:
    """`SKU KET-9 (Kettle)`."""
    column, value = _searched(talk, product)
    word = WORDS[column]
    name = clean(product.name, SHOWN)
    return f"{word} {value} ({name})" if value else f"{name} (without {word})"


def _searched(talk: Talk, product: Product) -> tuple[str, str]:
    """The column and the value that it is looked for by. A service has no barcode."""
    by_barcode = talk.line.server.settings.products == "barcode" and not (product.service and not product.barcode)
    return ("barcode", product.barcode) if by_barcode else ("default_code", product.sku)


async def _hits(talk: Talk, products: Sequence[Product]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    wanted: dict[str, set[str]] = {"default_code": set(), "barcode": set()}
    for product in products:
        column, value = _searched(talk, product)
        if value:
            wanted[column].add(value)
    hits: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for column, values in wanted.items():
        domain = [[column, "in", sorted(values)]]
        found = await talk.every("product.product", domain, READ) if values else []
        for one in found:
            hits.setdefault((column, one[column]), []).append(one)
    return hits


def _two(talk: Talk, product: Product, hits: Sequence[Mapping[str, Any]]) -> str:
    names = ", ".join(f"{clean(one['display_name'], SHOWN)} (id {one['id']})" for one in hits)
    column, value = _searched(talk, product)
    return f"{WORDS[column]} {value} stands at several products in Odoo: {names}. Leave it at one of them, then replay"
