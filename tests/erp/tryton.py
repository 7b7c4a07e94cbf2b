"""A real Tryton 8.2 from PyPI, before PostgreSQL: an ERP with a REST interface that is not shaped like Odoo's."""

from collections.abc import Sequence
from pathlib import Path

from tests.erp.packages import HERE, environment, made_once
from tests.erp.serving import DATABASE, HOST, Erp

MODULES = ["sale", "purchase", "stock_supply", "purchase_request"]
SETUP = HERE / "tryton_setup.py"
CONFIG = """\
[database]
uri = postgresql://tryton@/?host={socket}
path = {files}

[web]
listen = {host}:{port}
"""


class Tryton(Erp):
    """Tryton 8.2 with sales, purchases and stock; its REST interface is at `{url}/{database}/rest/`."""

    name = "tryton"
    # Asked for a key, it has its database and its modules.
    health = f"/{DATABASE}/rest/model/party.party"
    healthy = 401

    def __init__(self, python: Path, port: int = 0) -> None:
        super().__init__(port)
        self._python = python
        self._config = self.folder / "trytond.conf"

    def program(self, name: str, *words: str) -> list[str]:
        """A command of one of its environment's programs, with its config written."""
        self._config.write_text(CONFIG.format(socket=self.postgres.folder, files=self.files, host=HOST, port=self.port))
        return [str(self._python.with_name(name)), *words]

    def command(self) -> Sequence[str]:
        return self.program("trytond", "-c", str(self._config))

    async def make(self, cache: Path) -> None:
        """A database with its modules, a company and the integration user, kept as the template: a minute."""
        self.prepare()
        await self.admit()
        await self.postgres.run(f"CREATE DATABASE {DATABASE} OWNER tryton")
        password = self.folder / "password"
        password.write_text("not-used-again\n")
        admin = ["--all", "--email", "admin@example.test", "--activate-dependencies", "-u", *MODULES]
        command = self.program("trytond-admin", "-c", str(self._config), "-d", DATABASE, *admin)
        await self.ran(["/usr/bin/env", f"TRYTONPASSFILE={password}", *command])
        self.output.unlink()
        await self.ran(self.program("python", "-I", str(SETUP), DATABASE, str(self._config), self.login))
        (cache / "key").write_text(self.output.read_text().split()[-1])
        await self.keep(cache)

    async def begin(self, cache: Path) -> None:
        self.key = (cache / "key").read_text()
        await super().begin(cache)


async def open_tryton(port: int = 0) -> Tryton:
    """A running Tryton, to be closed. Lacking where this machine cannot have one."""
    python = environment("tryton.lock")
    made_of = [*MODULES, SETUP.read_text(), (python.parents[1] / "made").read_text()]
    with made_once("tryton-database", *made_of) as (cache, missing):
        if missing:
            maker = Tryton(python)
            try:
                await maker.make(cache)
            finally:
                maker.close()
    tryton = Tryton(python, port)
    try:
        await tryton.begin(cache)
    except BaseException:
        tryton.close()
        raise
    return tryton
