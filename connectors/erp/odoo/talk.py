"""One delivery's talk with Odoo: the line to the server, whose records these are, and the columns to be added."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from connectors.erp.odoo.answers import Refused, loaded
from connectors.erp.odoo.known import columns
from connectors.erp.odoo.rows import Added, Render, Row, base, table
from connectors.erp.odoo.transport import Line
from hub.connector import Rejected

MODELS = {
    "order": "sale.order",
    "line": "sale.order.line",
    "customer": "res.partner",
    "address": "res.partner",
    "product": "product.product",
}
"""What each of the settings' `fields` adds columns to."""

PATHS_SINCE = 18


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

    async def load(self, model: str, row: Row, several: str = "", lines: Sequence[Row] = ()) -> int:
        """Make or change a record, with its lines in the column `several`, by external id: all or nothing."""
        fields, data = table(row, several, lines)
        return loaded(await self.line.call(model, "load", fields=fields, data=data))[0]

    async def find(self, external_id: str) -> int | None:
        """The record that has it, without the rights of an administrator; uses up no number of a sequence."""
        module, _, name = external_id.partition(".")
        try:
            found = await self.line.call("ir.model.data", "check_object_reference", module=module, xml_id=name)
        except Refused as refused:
            if refused.name != "builtins.ValueError":
                raise
            return None
        return int(found[1]) if found[1] else None

    async def external_ids(self, model: str, ids: Sequence[int]) -> dict[int, str]:
        """Those that records have, "" for none."""
        found = await self.line.call(model, "get_external_id", ids=ids) if ids else {}
        return {int(key): str(value or "") for key, value in found.items()}

    async def url(self, model: str, record: int) -> str:
        """Where a person sees it."""
        address = self.line.server.settings.url
        if await self.line.version() >= PATHS_SINCE:
            return f"{address}/odoo/{model}/{record}"
        return f"{address}/web#id={record}&model={model}&view_type=form"
