"""How a method of a model is called: by JSON-2 (Odoo 19 and newer) or JSON-RPC (older), found out by asking the server.

Sends once and never retries. Odoo renames arguments between versions: JSON-2 knows them by name alone, so those of 19
are used here, and over JSON-RPC they go by their place.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import httpx

from connectors.erp.odoo.answers import NOT_THERE, Denied, Missing, Refused, not_odoo, of_json2, of_rpc
from connectors.erp.odoo.settings import OdooSettings
from hub.connector import HoldRoute, TryAgain

JSON2_SINCE = 19
OLDEST = 14
HAS_ACCESS_SINCE = 18
KEPT_FOR = timedelta(minutes=10)
"""How long what was learned of the server holds: a merchant who changes something there need not restart the hub."""

PLACES: dict[str, tuple[str, ...]] = {
    "load": ("fields", "data"),
    "search": ("domain",),
    "search_read": ("domain", "fields"),
    "read": ("fields",),
    "fields_get": ("allfields", "attributes"),
    "check_object_reference": ("module", "xml_id"),
    "has_access": ("operation",),
    "check_access_rights": ("operation", "raise_exception"),
}
OPERATIONS = {
    "load": "create", "search": "read", "search_read": "read", "read": "read", "get_external_id": "read",
    "unlink": "unlink",
}  # fmt: skip
DOING = {"read": "read", "create": "make", "write": "change", "unlink": "delete"}


@dataclass
class Server:
    """What is known of one Odoo, as long as the route lives. `worked`: it has answered rightly at least once."""

    settings: OdooSettings
    version: int | None = None
    uid: int | None = None
    worked: bool = False
    kept: dict[tuple[str, ...], Any] = field(default_factory=dict)
    kept_at: datetime | None = None

    def forget(self) -> None:
        """Ask again for all that was learned: it contradicts what the server says now."""
        self.version, self.uid = None, None
        self.kept.clear()


@dataclass
class Line:
    """One delivery's line to the server. `context` goes with every call."""

    server: Server
    http: httpx.AsyncClient
    context: dict[str, Any] = field(default_factory=lambda: {"tz": "UTC"})

    async def call(
        self, model: str, method: str, *, ids: Sequence[int] | None = None, more: Mapping[str, Any] | None = None,
        expected: str = "", **named: Any,
    ) -> Any:  # fmt: skip
        """The value that the method gives back: of the records `ids`, of the model where that is None.

        `more` is added to the context; `expected` is an exception's name that is an answer too. Raises Refused,
        HoldRoute, TryAgain; the HTTP error flies for bare statuses.
        """
        context = {**self.context, **(more or {})}
        try:
            answer = await self._send(model, method, ids, {**named, "context": context})
        except Denied as denied:
            raise await self.right_or_rule(denied, model, OPERATIONS.get(method, "write")) from None
        except Refused as refused:
            if refused.name != expected:
                # Perhaps a field or a price list is no longer there: the next attempt asks anew.
                self.server.kept.clear()
            raise
        except (Missing, HoldRoute):
            self.server.forget()
            raise
        self.server.worked = True
        return answer

    async def may(self, model: str, operation: str) -> bool:
        """Whether the user may `read`, `create`, `write` or `unlink` records of the model at all."""
        if await self.version() >= HAS_ACCESS_SINCE:
            return bool(await self.call(model, "has_access", ids=[], operation=operation))
        return bool(await self.call(model, "check_access_rights", operation=operation, raise_exception=False))

    async def version(self) -> int:
        """The server's major version, asked for once."""
        if self.server.version is None:
            self.server.version = await self._asked_version()
        if self.server.version < OLDEST:
            raise HoldRoute(f"this is Odoo {self.server.version}: {OLDEST} is the oldest that is known here")
        return self.server.version

    async def user(self) -> int:
        """The id of the key's user."""
        if self.server.uid is None:
            if await self.by_json2():
                self.server.uid = (await self.call("res.users", "context_get"))["uid"]
            else:
                self.server.uid = await self._logged_in()
        return self.server.uid or 0

    async def by_json2(self) -> bool:
        """Whether it is spoken to by JSON-2."""
        return await self.version() >= JSON2_SINCE and self.server.settings.protocol == "auto"

    async def _send(self, model: str, method: str, ids: Sequence[int] | None, named: dict[str, Any]) -> Any:
        if await self.by_json2():
            body = named if ids is None else {"ids": list(ids), **named}
            response = await self.http.post(
                f"{self.server.settings.url}/json/2/{model}/{method}", json=body, headers=self._headers()
            )
            return of_json2(response, self.server.worked)
        # What stands behind one that is left out can only go by its name.
        places = [named.pop(name) for name in itertools.takewhile(named.__contains__, PLACES.get(method, ()))]
        given = places if ids is None else [list(ids), *places]
        settings, uid = self.server.settings, await self.user()
        key = settings.api_key.reveal()
        return await self._rpc("object", "execute_kw", [settings.database, uid, key, model, method, given, named])

    def _headers(self) -> dict[str, str]:
        settings = self.server.settings
        named = {"X-Odoo-Database": settings.database} if settings.database else {}
        return {"Authorization": f"bearer {settings.api_key.reveal()}", **named}

    async def _logged_in(self) -> int:
        settings = self.server.settings
        if not settings.login or not settings.database:
            raise HoldRoute(f"Odoo {self.server.version} by JSON-RPC needs `login` and `database`")
        named = [settings.database, settings.login, settings.api_key.reveal(), {}]
        try:
            uid = await self._rpc("common", "authenticate", named)
        except TryAgain as away:
            # A database that does not exist is told as one that is away.
            if self.server.worked or not away.destination:
                raise
            raise HoldRoute(f"{NOT_THERE} ({away.reason})") from None
        if not isinstance(uid, int) or not uid:
            raise HoldRoute(
                f"Odoo does not let {settings.login} in: `login` is another one, or the API key is wrong, has expired "
                "or was revoked"
            )
        return uid

    async def _rpc(self, service: str, method: str, arguments: list[Any]) -> Any:
        params = {"service": service, "method": method, "args": arguments}
        document = {"jsonrpc": "2.0", "method": "call", "params": params, "id": 1}
        response = await self.http.post(f"{self.server.settings.url}/jsonrpc", json=document)
        return of_rpc(response, self.server.worked)

    async def _asked_version(self) -> int:
        response = await self.http.get(f"{self.server.settings.url}/web/version")
        try:
            if response.status_code == 404:
                return _major(await self._rpc("common", "version", []), "server_version_info")
            return _major(response.json() if response.is_success else None, "version_info")
        except ValueError:
            raise not_odoo(response, self.server.worked) from None

    async def right_or_rule(self, refused: Refused, model: str, *operations: str) -> Refused | HoldRoute:
        """A missing right stops all deliveries; a rule, or what is wrong with one record, only this one."""
        for operation in operations:
            try:
                lacking = not await self.may(model, operation)
            except Denied:
                lacking = True
            if lacking:
                who = self.server.settings.login or "the key's user"
                told = f"{who} may not {DOING[operation]} {model}: {refused.reason}"
                return HoldRoute(told, status=refused.status)
        return refused


def _major(document: Any, member: str) -> int:
    """Raises ValueError for what is no version: Odoo Online's reads `saas~18`."""
    info = document.get(member) if isinstance(document, dict) else None
    first = str(info[0]) if isinstance(info, list) and info else ""
    return int(first.rpartition("~")[2])
