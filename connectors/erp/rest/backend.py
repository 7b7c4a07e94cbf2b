"""A JSON REST API as a backend of the connector `erp`: its sessions, and whether it can work."""

from typing import Any
from urllib.parse import urlsplit

from connectors.erp.backend import Backend, Session
from connectors.erp.records import Record
from connectors.erp.rest.bodies import as_json, filled, path_of
from connectors.erp.rest.names import OMIT, Names, plain
from connectors.erp.rest.pointer import Astray, value_at
from connectors.erp.rest.server import Answer, Server, words_of
from connectors.erp.rest.session import RestSession
from connectors.erp.rest.settings import Call, RestSettings
from connectors.erp.sample import PRODUCT, SAMPLE
from connectors.reach import reach
from hub.connector import Context, Rejected, TemplateError


class RestBackend(Backend):
    """Any ERP that the settings describe."""

    def __init__(self, rest: RestSettings) -> None:
        self._server = Server(rest)
        self._settings = rest

    async def session(self, ctx: Context) -> Session:
        return RestSession(self._server, ctx)

    async def check(self, ctx: Context) -> str:
        asked = self._settings.check
        if asked is None:
            place = await reach(ctx, self._settings.url)
            said = f"{place} can be reached; rest.check names no request, so only a real order shows whether it works"
        else:
            said = self._told(await self._server.send(ctx, asked, {"omit": OMIT}, "rest.check"))
        if left := self._settings.left_out():
            said += f"; not set, so not done: {', '.join(left)}"
        return said + self._tried(ctx)

    def _told(self, answer: Answer) -> str:
        asked = self._settings.check
        place = urlsplit(self._settings.url).netloc
        if asked is None or asked.who is None:
            return f"{place} answers {answer.asked}"
        try:
            who = words_of(value_at(answer.document, asked.who))[:100]
        except Astray as error:
            raise Rejected(f"{answer.asked} names nobody where rest.check.who says: {error}") from None
        return f"{place} answers {answer.asked}: {who}"

    def _tried(self, ctx: Context) -> str:
        """What fails where the templates are filled in with an order that is made up: a wrong name is seen now.

        It is told and no more: a template may know the store's own currencies alone.
        """
        for action in ("customer", "product", "order", "note"):
            call: Call | None = getattr(getattr(self._settings, action), "create", None)
            if call is None:
                continue
            names, place = self._made_up(action), f"rest.{action}.create"
            try:
                path_of(ctx, call, names, place)
                as_json(filled(ctx, call.body, names, f"{place}.body"))
            except TemplateError as error:
                return f"; with a made-up order in {SAMPLE.currency}: {error}"
        return ""

    def _made_up(self, action: str) -> Names:
        ids: dict[str, Any] = {"customer": "1", "order": "1", "products": {PRODUCT.key: "1"}}
        if self._settings.customer is not None:
            ids |= dict.fromkeys(self._settings.customer.also, "1")
        order = plain(SAMPLE)
        about: dict[str, Names] = {
            "customer": {"customer": order["customer"]},
            "product": {"product": plain(PRODUCT)},
            "order": {"order": order, "customer": order["customer"]},
            "note": {"note": order["notes"][0], "record": plain(Record("1", "S1"))},
        }
        return {**about[action], "ids": ids, "omit": OMIT}
