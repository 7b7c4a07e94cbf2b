"""One delivery's talk with a JSON REST API: what is asked and written, in which order.

What is there is looked up before anything is made, and what the ERP says is there already is looked up again: so a
crash between writing and recording finds what was made. An order goes in one request, with all its rows or none.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any

from connectors.erp.backend import Session
from connectors.erp.records import Customer, Note, Order, Product, Record, State, Write, Written
from connectors.erp.rest.bodies import evaluated, fingerprint_of, json_of, path_of
from connectors.erp.rest.names import OMIT, Names, plain
from connectors.erp.rest.pointer import Astray, value_at, value_or_none
from connectors.erp.rest.server import Answer, Server
from connectors.erp.rest.settings import Call, LookUp, OrderThing, Step, Thing
from connectors.erp.together import side_by_side
from hub.connector import Context, Rejected, Skip, TryAgain

LONGEST_ID = 200
LONGEST_NUMBER = 100


@dataclass(frozen=True)
class Standing:
    """A record as it stands in the ERP: its id, what was answered about it, whether it was made now."""

    id: str
    found: Any
    made: bool = False


@dataclass(frozen=True)
class Subject:
    """What a request is about: its action in the settings, the store's key for it, the words for a person."""

    action: str
    key: str
    words: str
    names: Names

    @property
    def idempotency(self) -> str:
        return f"{self.action}-{self.key}"


class RestSession(Session):
    """See the module. `kind` is the action that `_orders` gives."""

    kind = "order"

    def __init__(self, server: Server, ctx: Context) -> None:
        self._server = server
        self._settings = server.settings
        self._ctx = ctx
        self._found: dict[str, Any] = {}

    async def find_order(self, order: Order, known: str | None) -> Record | None:
        thing = self._orders()
        if known is not None:
            if thing.read is not None:
                record = await self._reread(known)
                if record is not None:
                    return record
            elif thing.look_up is None:
                return Record(known, known)
        if thing.look_up is None:
            return None
        ids: dict[str, Any] = {}
        if _mentions(thing.look_up, "ids.customer") and self._settings.customer is not None:
            customer = await self._hit(self._settings.customer, self._customer(order.customer))
            if customer is None:
                return None
            ids = {"customer": customer.id}
        hit = await self._hit(thing, _about_order(order, ids))
        return None if hit is None else self._record(hit.id, hit.found)

    async def write_order(self, order: Order, record: Record | None, last: str | None) -> Written:
        thing, fingerprint = self._orders(), await self._order_fingerprint(order)
        if record is not None and fingerprint == last:
            return Written(record, fingerprint, changed=False)
        ids = await self._ids_for(order)
        about = _about_order(order, ids)
        if record is None:
            standing = await self._made(thing, about)
            record = await self._as_told(standing)
            if standing.made:
                return Written(record, fingerprint, remarks=self._remarks(order, standing.found))
        if thing.update is None:
            left = "what changed in the store was not written: rest.order.update is not set"
            return Written(record, fingerprint, changed=False, remarks=(left,))
        found = await self._found_of(record)
        standing = await self._changed(thing, about, Standing(record.id, found))
        written = self._record(record.id, standing.found) if standing.found is not found else record
        return Written(written, fingerprint, remarks=self._remarks(order, standing.found))

    async def confirm(self, record: Record) -> Record:
        if record.state == "confirmed":
            return record
        if self._settings.confirm is None:
            raise Rejected("rest.confirm is not set: set it, or `confirm: never`")
        return await self._stepped(record, "confirm", self._settings.confirm, "confirmed")

    async def cancel(self, record: Record) -> Record:
        if record.state == "cancelled":
            return record
        if self._settings.cancel is None:
            raise Rejected(f"{record.number} stays as it is in the ERP: rest.cancel is not set; cancel it there")
        return await self._stepped(record, "cancel", self._settings.cancel, "cancelled")

    async def note(self, record: Record, note: Note) -> None:
        thing = self._settings.note
        if thing is None:
            raise Rejected("rest.note is not set: set it, or `notes: false`")
        names = {"note": plain(note), "record": plain(record), "ids": {"order": record.id}}
        if thing.look_up is not None:
            answer = await self._send(thing.look_up, names, "note.look_up")
            if not answer.nothing and matching(self._ctx, thing.look_up, answer, names, "rest.note.look_up"):
                return
        await self._send(thing.create, names, "note.create", f"note-{note.key}")

    async def write_customer(self, customer: Customer, last: str | None) -> Written:
        thing, about = self._thing("customer"), self._customer(customer)
        fingerprint = fingerprint_of(await self._print(thing, about))
        if fingerprint == last and thing.look_up is not None:
            hit = await self._hit(thing, about)
            if hit is not None:
                return Written(Record(hit.id, hit.id), fingerprint, changed=False)
        standing = await self._upserted(thing, about)
        return Written(Record(standing.id, standing.id), fingerprint)

    async def write_products(self, products: Sequence[Product], last: str | None) -> Written:
        thing, about = self._thing("product"), [self._product(product) for product in products]
        if not about:
            raise Rejected("there is no product to write")
        fingerprint = fingerprint_of(*[await self._print(thing, one) for one in about])
        if fingerprint == last and thing.look_up is not None:
            hits = [await self._hit(thing, one) for one in about]
            if hits[0] is not None and None not in hits:
                return Written(Record(hits[0].id, about[0].words), fingerprint, changed=False)
        standings = [await self._upserted(thing, one) for one in about]
        return Written(Record(standings[0].id, products[0].sku or standings[0].id), fingerprint)

    async def plan_order(self, order: Order, record: Record | None) -> list[Write]:
        thing, writes, ids = self._orders(), [], self._unknown_ids(order)
        if self._settings.customer is not None:
            about = self._customer(order.customer)
            writes += await self._planned(self._settings.customer, about, ids, "customer")
        if self._settings.product is not None:
            for product in _products_of(order):
                about = self._product(product)
                writes += await self._planned(
                    _left_as_it_is(self._settings.product), about, ids["products"], product.key
                )
        about = _about_order(order, ids)
        found = None if record is None else Standing(record.id, await self._found_of(record))
        return [*writes, *await self._plan(thing, about, found)]

    async def plan_customer(self, customer: Customer) -> list[Write]:
        return await self._planned(self._thing("customer"), self._customer(customer), {}, "")

    async def plan_products(self, products: Sequence[Product]) -> list[Write]:
        thing = self._thing("product")
        return [write for one in products for write in await self._planned(thing, self._product(one), {}, "")]

    def _orders(self) -> OrderThing:
        if self._settings.order is None:
            raise Skip("rest.order is not set: no orders are written")
        return self._settings.order

    def _thing(self, action: str) -> Thing:
        thing: Thing | None = getattr(self._settings, action)
        if thing is None:
            raise Skip(f"rest.{action} is not set: no {action}s are written")
        return thing

    def _customer(self, customer: Customer) -> Subject:
        return Subject("customer", customer.key, f"the customer {customer.email or customer.name}", _one(customer))

    def _product(self, product: Product) -> Subject:
        return Subject("product", product.key, f"the product {product.sku or product.name}", _one(product))

    async def _send(self, request: Any, names: Names, place: str, key: str | None = None) -> Answer:
        return await self._server.send(self._ctx, request, {**names, "omit": OMIT}, f"rest.{place}", key)

    async def _ids_for(self, order: Order) -> dict[str, Any]:
        """The ERP's ids of the order's customer, changed or made, and of its products, made where they are missing."""
        ids: dict[str, Any] = {"products": {}}
        customer = self._settings.customer
        if customer is not None:
            standing = await self._upserted(customer, self._customer(order.customer))
            ids["customer"] = standing.id
            ids |= {name: value_or_none(standing.found, pointer) for name, pointer in customer.also.items()}
        if self._settings.product is not None:
            thing, products = _left_as_it_is(self._settings.product), list(_products_of(order))
            standings = await side_by_side(lambda product: self._upserted(thing, self._product(product)), products)
            ids["products"] = {one.key: it.id for one, it in zip(products, standings, strict=True)}
        return ids

    async def _upserted(self, thing: Thing, about: Subject) -> Standing:
        hit = await self._hit(thing, about)
        standing = hit or await self._made(thing, about)
        if standing.made or thing.update is None:
            return standing
        return await self._changed(thing, about, standing)

    async def _hit(self, thing: Thing, about: Subject) -> Standing | None:
        """What the look-up finds. Raises Rejected, which names both, where it finds two."""
        if thing.look_up is None:
            return None
        place = f"{about.action}.look_up"
        answer = await self._send(thing.look_up, about.names, place)
        if answer.nothing:
            return None
        hits = matching(self._ctx, thing.look_up, answer, about.names, f"rest.{place}")
        ids = [_id_at(hit, thing.id, answer, f"rest.{about.action}.id") for hit in hits]
        if len(ids) > 1:
            more = f", and {len(ids) - 2} more" if len(ids) > 2 else ""
            raise Rejected(f"{about.words} is in the ERP twice: {ids[0]} and {ids[1]}{more}; make them one there")
        if not ids:
            return None
        if about.action == "order":
            self._found[ids[0]] = hits[0]
        return Standing(ids[0], hits[0])

    async def _made(self, thing: Thing, about: Subject) -> Standing:
        """Made now; or what was there already, where the ERP says so. Raises Rejected, TryAgain."""
        if thing.create is None:
            raise _not_made(about)
        answer = await self._send(thing.create, about.names, f"{about.action}.create", about.idempotency)
        if answer.already_there is None:
            standing = self._written(thing, thing.create, answer, about)
            if standing is not None:
                return standing
        hit = await self._hit(thing, about)
        if hit is None:
            raise answer.already_there or TryAgain(
                f"{answer.asked} answered {answer.status}, but the look-up does not find {about.words}"
            )
        return Standing(hit.id, hit.found, made=answer.already_there is None)

    def _written(self, thing: Thing, call: Call, answer: Answer, about: Subject) -> Standing | None:
        """What was written, by its answer; None where only a look-up can tell. Raises Rejected."""
        if answer.document is None and thing.look_up is None and call.method == "PUT":
            return Standing(about.key, None, made=True)
        try:
            record = value_at(answer.document, call.record)
            return Standing(_identity(value_at(record, call.id or thing.id)), record, made=True)
        except Astray as error:
            if thing.look_up is not None:
                return None
            said = f" ({answer.text})" if answer.text else ""
            raise Rejected(
                f"{answer.asked} answered {answer.status}, but no id where rest.{about.action} says: {error}{said}; "
                "it may have been written"
            ) from None

    async def _changed(self, thing: Thing, about: Subject, standing: Standing) -> Standing:
        assert thing.update is not None
        names = _with_id(about, standing)
        answer = await self._send(thing.update, names, f"{about.action}.update", f"{about.idempotency}-update")
        record = value_or_none(answer.document, thing.update.record)
        return standing if record is None else Standing(standing.id, record)

    async def _reread(self, known: str) -> Record | None:
        """The order of that id as it stands now; None if it is gone."""
        read = self._orders().read
        assert read is not None
        answer = await self._send(read, {"ids": {"order": known}}, "order.read")
        if answer.nothing:
            return None
        try:
            found = value_at(answer.document, read.record)
        except Astray as error:
            raise Rejected(f"{answer.asked} holds no record where rest.order.read.record says: {error}") from None
        self._found[known] = found
        return self._record(known, found)

    async def _found_of(self, record: Record) -> Any:
        if record.id not in self._found and self._orders().read is not None:
            await self._reread(record.id)
        return self._found.get(record.id)

    async def _as_told(self, standing: Standing) -> Record:
        """The order just made; read back where the answer has no number of it."""
        thing = self._orders()
        told = any(_line(value_or_none(standing.found, pointer)) for pointer in thing.number)
        if thing.read is None or told or not thing.number:
            return self._record(standing.id, standing.found)
        return await self._reread(standing.id) or self._record(standing.id, standing.found)

    def _record(self, found_id: str, found: Any) -> Record:
        thing = self._orders()
        numbers = (_line(value_or_none(found, pointer)) for pointer in thing.number)
        number = next(filter(None, numbers), found_id)
        state, described = self._state(found, number)
        record = Record(found_id, number, state, described)
        if thing.url is None:
            return record
        names = {"record": plain(record), "found": found, "ids": {"order": found_id}}
        return replace(record, url=str(evaluated(self._ctx, thing.url, names, f"rest.{self.kind}.url"))[:2000] or None)

    def _state(self, found: Any, number: str) -> tuple[State, str]:
        words = self._orders().state
        told = None if words is None else value_or_none(found, words.at)
        if words is None or told is None:
            return "draft", ""
        described = _line(told)
        known: tuple[tuple[State, tuple[Any, ...]], ...] = (
            ("draft", words.draft),
            ("confirmed", words.confirmed),
            ("cancelled", words.cancelled),
        )
        for state, values in known:
            if described.casefold() in {str(value).casefold() for value in values}:
                return state, described
        raise Rejected(f"{number} is {described} in the ERP: rest.{self.kind}.state does not say what that means")

    async def _stepped(self, record: Record, action: str, steps: Sequence[Step], state: State) -> Record:
        names = {"record": plain(record), "found": await self._found_of(record), "ids": {"order": record.id}}
        for number, step in enumerate(steps):
            place = f"{action}[{number}]"
            if step.when is not None and not evaluated(self._ctx, step.when, names, f"rest.{place}.when"):
                continue
            await self._send(step, names, place, f"{action}-{number}-{record.id}")
        if self._orders().read is None:
            return replace(record, state=state, described="")
        return await self._reread(record.id) or replace(record, state=state, described="")

    def _remarks(self, order: Order, found: Any) -> tuple[str, ...]:
        pointer = self._orders().total
        told = None if pointer is None else value_or_none(found, pointer)
        try:
            total = None if told is None else Decimal(str(told))
        except InvalidOperation:
            total = None
        if total is None or order.total is None or total == order.total:
            return ()
        return (f"its total is {total} in the ERP and {order.total} in the store",)

    def _unknown_ids(self, order: Order) -> dict[str, Any]:
        """Words in place of the ids that only the ERP knows."""
        customer = self._settings.customer
        also = {} if customer is None else {name: f"the customer's {name}" for name in customer.also}
        products = {product.key: f"the id of {product.sku or product.name}" for product in _products_of(order)}
        return {**also, "customer": "the customer's id", "products": products}

    async def _order_fingerprint(self, order: Order) -> str:
        """Over the order's and its customer's values; ids are words in it, so that learning them changes nothing."""
        prints = [await self._print(self._orders(), _about_order(order, self._unknown_ids(order)))]
        if self._settings.customer is not None:
            prints.append(await self._print(self._settings.customer, self._customer(order.customer)))
        return fingerprint_of(*prints)

    async def _print(self, thing: Thing, about: Subject) -> str:
        tree = about.names if thing.create is None else thing.create.body
        return await self._body(tree, about.names, f"rest.{about.action}.create.body")

    async def _body(self, tree: Any, names: Names, place: str) -> str:
        return await json_of(self._ctx, tree, {**names, "omit": OMIT}, place)

    async def _planned(self, thing: Thing, about: Subject, ids: dict[str, Any], name: str) -> list[Write]:
        hit = await self._hit(thing, about)
        if hit is not None:
            ids[name] = hit.id
        return await self._plan(thing, about, hit)

    async def _plan(self, thing: Thing, about: Subject, hit: Standing | None) -> list[Write]:
        call, names, what = thing.create, about.names, "new"
        if hit is not None:
            call, names, what = thing.update, _with_id(about, hit), "update"
        if call is None and hit is None:
            raise _not_made(about)
        if call is None:
            return []
        place = f"rest.{about.action}.{'create' if hit is None else 'update'}"
        path = path_of(self._ctx, call, {**names, "omit": OMIT}, place)
        rows = json.loads(await self._body(call.body, names, f"{place}.body"))
        return [Write(f"{call.method} {path}", rows, (what,))]


def _not_made(about: Subject) -> Rejected:
    return Rejected(f"{about.words} is not in the ERP, and rest.{about.action}.create is not set: make it there")


def _left_as_it_is(thing: Thing) -> Thing:
    """The thing as an order needs it: a product that is there is not changed by the order that sells it."""
    return thing.model_copy(update={"update": None})


def _one(record: Customer | Product) -> dict[str, Any]:
    name = "customer" if isinstance(record, Customer) else "product"
    return {name: plain(record), "ids": {}}


def _about_order(order: Order, ids: dict[str, Any]) -> Subject:
    made = plain(order)
    names = {"order": made, "customer": made["customer"], "ids": ids}
    return Subject("order", order.id, f"the order {order.number}", names)


def _with_id(about: Subject, standing: Standing) -> dict[str, Any]:
    ids = {**about.names["ids"], about.action: standing.id}
    return {**about.names, "ids": ids, "found": standing.found}


def _products_of(order: Order) -> Iterator[Product]:
    """Each product of its lines once."""
    return iter({line.product.key: line.product for line in order.lines}.values())


def matching(ctx: Context, look_up: LookUp, answer: Answer, names: Names, place: str) -> list[Any]:
    """The hits of a look-up's answer. Raises Rejected where none can stand."""
    try:
        hits = value_at(answer.document, look_up.hits)
    except Astray as error:
        raise Rejected(f"{answer.asked} has nothing where {place}.hits says: {error}") from None
    if isinstance(hits, Mapping):
        hits = [hits]
    if not isinstance(hits, list):
        raise Rejected(f"{answer.asked} has no list where {place}.hits says, at {look_up.hits or 'its top'}")
    wanted = {
        pointer: _folded(evaluated(ctx, template, {**names, "omit": OMIT}, f"{place}.match"))
        for pointer, template in look_up.match.items()
    }
    return [hit for hit in hits if all(_folded(value_or_none(hit, at)) == value for at, value in wanted.items())]


def _folded(value: Any) -> str:
    return "" if value is None else str(value).strip().casefold()


def _id_at(hit: Any, pointer: str, answer: Answer, place: str) -> str:
    try:
        return _identity(value_at(hit, pointer))
    except Astray as error:
        raise Rejected(f"a hit of {answer.asked} has no id where {place} says: {error}") from None


def _identity(value: Any) -> str:
    """An id as text. Raises Astray for what is none."""
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value) or len(str(value)) > LONGEST_ID:
        raise Astray("what stands there is neither a text nor a whole number")
    return str(value)


def _line(value: Any) -> str:
    """A single value as one short line; empty for anything else."""
    if value is None or isinstance(value, Mapping | list):
        return ""
    return "".join(letter for letter in " ".join(str(value).split()) if letter.isprintable())[:LONGEST_NUMBER]


def _mentions(look_up: LookUp, name: str) -> bool:
    return name in str(look_up.model_dump())
