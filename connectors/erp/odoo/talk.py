"""One delivery's talk with Odoo: the line to the server, whose records these are, and the columns to be added."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.erp.odoo.answers import Refused, TooLong, loaded
from connectors.erp.odoo.known import MODELS, base, columns, company
from connectors.erp.odoo.rows import Added, Render, Row, table
from connectors.erp.odoo.transport import KEPT_FOR, Line, Server
from hub.connector import Context, Rejected

PATHS_SINCE = 18
UNKNOWN_ID = "builtins.ValueError"
AT_ONCE = 200
"""Records in one answer, at first: an answer may hold so much and no more."""


@dataclass(frozen=True)
class Talk:
    """`render` fills in the templates of further columns."""

    line: Line
    store: str
    render: Render

    async def added(self, kind: str) -> Added:
        """The columns that the settings add for `kind`, each of them known to this Odoo. Raises Rejected."""
        wanted: Mapping[str, str] = getattr(self.line.server.settings.fields, kind)
        setting = f"fields.{kind}"
        if wanted:
            known = await columns(self.line, MODELS[kind])
            for name in wanted:
                if base(name) not in known:
                    raise Rejected(f"`{setting}` names {name}: this Odoo has no such column in {MODELS[kind]}")
        return Added(wanted, self.render, setting)

    async def load(
        self, model: str, row: Row, several: str = "", lines: Sequence[Row] = (), more: Mapping[str, Any] | None = None
    ) -> int:
        """Make or change a record, with its lines in the column `several`, by external id: all or nothing. `more` is
        added to the context."""
        fields, data = table(row, several, lines)
        answer = await self.line.call(model, "load", more=more, fields=fields, data=data)
        try:
            return loaded(answer)[0]
        except Refused as refused:
            # A right that is missing is told as if the row were wrong.
            self.line.server.kept.clear()
            raise await self.line.right_or_rule(refused, model, "create", "write") from None

    async def find(self, external_id: str) -> int | None:
        """The record that has it, an archived one too, without the rights of an administrator; uses up no number of a
        sequence."""
        module, _, name = external_id.partition(".")
        try:
            found = await self.line.call(
                "ir.model.data", "check_object_reference", expected=UNKNOWN_ID, more={"active_test": False},
                module=module, xml_id=name,
            )  # fmt: skip
        except Refused as refused:
            if refused.name != UNKNOWN_ID:
                raise
            return None
        return int(found[1]) if found[1] else None

    async def external_ids(self, model: str, ids: Sequence[int]) -> dict[int, str]:
        """Those that records have, "" for none."""
        known: dict[int, str] = {}
        size = AT_ONCE
        while len(known) < len(ids):
            part = ids[len(known) : len(known) + size]
            try:
                found = await self.line.call(model, "get_external_id", ids=part)
            except TooLong:
                size = _smaller(size)
                continue
            known |= {one: str(found.get(str(one)) or "") for one in part}
        return known

    async def every(self, model: str, domain: list[Any], fields: Sequence[str]) -> list[dict[str, Any]]:
        """All records that the domain names, in the order of their ids, so many at a time as an answer holds."""
        found: list[dict[str, Any]] = []
        size = AT_ONCE
        while True:
            try:
                part = await self.line.call(
                    model, "search_read", domain=domain, fields=list(fields), order="id", offset=len(found), limit=size
                )
            except TooLong:
                size = _smaller(size)
                continue
            found += part
            if len(part) < size:
                return found

    async def url(self, model: str, record: int) -> str:
        """Where a person sees it."""
        address = self.line.server.settings.url
        if await self.line.version() >= PATHS_SINCE:
            return f"{address}/odoo/{model}/{record}"
        return f"{address}/web#id={record}&model={model}&view_type=form"


async def begun(server: Server, ctx: Context) -> Talk:
    """A delivery's talk. What was learned of the server more than ten minutes ago is asked for anew."""
    now = ctx.now()
    if server.kept_at is None or now - server.kept_at > KEPT_FOR:
        server.forget()
        server.kept_at = now
    line = Line(server, ctx.http)
    if server.settings.company is not None:
        line.context["allowed_company_ids"] = [(await company(line)).id]
    return Talk(line, ctx.store, ctx.render)


def _smaller(size: int) -> int:
    """A quarter. Raises Rejected where even one record is too long."""
    if size == 1:
        raise Rejected("a record in Odoo is longer than what is taken of one answer")
    return max(1, size // 4)
