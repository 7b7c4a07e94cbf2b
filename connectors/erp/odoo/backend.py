"""Odoo behind the ERP connector's interface."""

from connectors.erp.backend import Backend, Session
from connectors.erp.odoo.settings import OdooSettings
from connectors.erp.settings import Settings
from hub.connector import Context


class OdooBackend(Backend):
    """One Odoo server under one route's settings."""

    def __init__(self, odoo: OdooSettings, settings: Settings) -> None:
        self._odoo = odoo
        self._settings = settings

    async def session(self, ctx: Context) -> Session:
        raise NotImplementedError

    async def check(self, ctx: Context) -> str:
        raise NotImplementedError
