"""A JSON REST API as a backend of the connector `erp`: its sessions, and whether it can work."""

from typing import Any
from urllib.parse import urlsplit

from connectors.erp.backend import Backend, Session
from connectors.erp.rest.bodies import as_json, filled, path_of
from connectors.erp.rest.names import CUSTOMER, OMIT, PRODUCT, SAMPLE, plain
from connectors.erp.rest.pointer import Astray, value_at
from connectors.erp.rest.server import Answer, Server, words_of
from connectors.erp.rest.session import RestSession
from connectors.erp.rest.settings import Call, RestSettings
from connectors.erp.settings import Settings
from connectors.reach import reach
from hub.connector import Context, Rejected, TemplateError


class RestBackend(Backend):
    """Any ERP that the settings describe."""

    def __init__(self, rest: RestSettings, settings: Settings) -> None:
        self._server = Server(rest)
        self._settings = rest

    async def session(self, ctx: Context) -> Session:
        return RestSession(self._server, ctx)

    async def check(self, ctx: Context) -> str:
        self._try_templates(ctx)
        asked = self._settings.check
        if asked is None:
            place = await reach(ctx, self._settings.url)
            said = f"{place} can be reached; rest.check names no request, so only a real order shows whether it works"
        else:
            said = self._told(await self._server.send(ctx, asked, {"omit": OMIT}, "rest.check"))
        left = self._settings.left_out()
        return f"{said}; not set, so not done: {', '.join(left)}" if left else said

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

    def _try_templates(self, ctx: Context) -> None:
        """Fill in what is sent with an order that is made up: a wrong name is found now. Raises Rejected."""
        order = plain(SAMPLE)
        ids: dict[str, Any] = {"customer": "1", "order": "1", "product": "1", "products": {PRODUCT.key: "1"}}
        if self._settings.customer is not None:
            ids |= dict.fromkeys(self._settings.customer.also, "1")
        names = {"order": order, "customer": plain(CUSTOMER), "product": plain(PRODUCT), "ids": ids, "omit": OMIT}
        record = {"id": "1", "number": "S1", "state": "draft", "described": "", "url": None}
        names |= {"record": record, "note": order["notes"][0]}
        for action in ("customer", "product", "order", "note"):
            call: Call | None = getattr(getattr(self._settings, action), "create", None)
            if call is None:
                continue
            about = _names_of(action)
            try:
                path_of(ctx, call, {name: names[name] for name in about}, f"rest.{action}.create")
                as_json(filled(ctx, call.body, {name: names[name] for name in about}, f"rest.{action}.create.body"))
            except TemplateError as error:
                raise Rejected(str(error)) from None


def _names_of(action: str) -> set[str]:
    about = {"note": {"note", "record"}, "order": {"order", "customer"}}.get(action, {action})
    return {"ids", "omit", *about}
