"""A JSON REST API behind the ERP connector's interface."""

from connectors.erp.backend import Backend, Session
from connectors.erp.rest.settings import RestSettings
from connectors.erp.settings import Settings
from hub.connector import Context


class RestBackend(Backend):
    """One REST API under one route's settings."""

    def __init__(self, rest: RestSettings, settings: Settings) -> None:
        self._rest = rest
        self._settings = settings

    async def session(self, ctx: Context) -> Session:
        raise NotImplementedError

    async def check(self, ctx: Context) -> str:
        raise NotImplementedError
