"""A real Odoo 19: Debian's package, unpacked, with its Python packages from PyPI, before PostgreSQL."""

import base64
import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from tests.erp.packages import Lacking, debian_package, environment, made_once
from tests.erp.serving import DATABASE, HOST, TEMPLATE, Erp

PACKAGE, VERSION = "odoo-19", "19.0"
MODULES = "sale_management,purchase_stock,sale_stock"
# What an integration user needs, and no more.
GROUPS = [
    "base.group_user", "base.group_partner_manager", "product.group_product_manager",
    "sales_team.group_sale_salesman_all_leads", "purchase.group_purchase_user", "stock.group_stock_user",
]  # fmt: skip
ADMIN = "admin"
# As Odoo keeps a key: PBKDF2 in passlib's notation, found by the key's first digits.
ROUNDS, INDEX = 6000, 8
CONFIG = """\
[options]
db_host = {socket}
db_user = odoo
db_name = {database}
dbfilter = ^{database}$
addons_path = {library}/odoo/addons
data_dir = {files}
http_interface = {host}
http_port = {port}
workers = 0
max_cron_threads = 0
list_db = False
without_demo = True
"""


class Odoo(Erp):
    """Odoo 19 with sales, purchases and stock. `key` is good for JSON-2, and as the password of JSON-RPC."""

    name = "odoo"
    health = "/web/health?db_server_status=1"

    def __init__(self, program: Path, python: Path, port: int = 0) -> None:
        super().__init__(port)
        self._program = program
        self._python = python
        self._admin_key = ""

    def command(self) -> Sequence[str]:
        library = self._program / "usr/lib/python3/dist-packages"
        config = self.folder / "odoo.conf"
        config.write_text(
            CONFIG.format(
                socket=self.postgres.folder, database=DATABASE, library=library, files=self.files, host=HOST,
                port=self.port,
            )
        )  # fmt: skip
        odoo = [str(self._python), str(self._program / "usr/bin/odoo"), "-c", str(config)]
        return ["/usr/bin/env", f"PYTHONPATH={library}", *odoo]

    # ---- keys

    async def new_key(self, expires: datetime | None = None, login: str = Erp.login, database: str = DATABASE) -> str:
        """A further API key of a user, which may have expired already. `fresh` forgets it."""
        key = secrets.token_hex(20)
        ends = expires.replace(tzinfo=None) if expires else None
        await self.sql(
            "INSERT INTO res_users_apikeys (name, user_id, expiration_date, key, index)"
            " SELECT 'tests', id, $2, $3, $4 FROM res_users WHERE login = $1",
            login, ends, kept(key), key[:INDEX], database=database,
        )  # fmt: skip
        return key

    async def revoke(self, key: str) -> None:
        """End a key, as its user's "delete" does."""
        await self.sql("DELETE FROM res_users_apikeys WHERE index = $1", key[:INDEX])

    # ---- an administrator

    async def admin(self, model: str, method: str, **named: Any) -> Any:
        """What a method answers to an administrator, by JSON-2. AssertionError with Odoo's message if it refuses."""
        async with httpx.AsyncClient(trust_env=False, timeout=120) as client:
            bearer = {"Authorization": f"bearer {self._admin_key}"}
            answer = await client.post(f"{self.url}/json/2/{model}/{method}", json=named, headers=bearer)
        assert answer.is_success, f"{model}/{method}: {answer.status_code} {answer.text[:400]}"
        return answer.json()

    # ---- its making

    async def make(self, cache: Path) -> None:
        """A database with its modules and the integration user, kept as the template: a minute."""
        self.prepare()
        await self.admit()
        await self.ran([*self.command(), "-d", DATABASE, "-i", MODULES, "--stop-after-init"])
        self._admin_key = await self.new_key(login=ADMIN)
        await self.start()
        await self._make_user()
        await self.sql("DELETE FROM res_users_apikeys")
        await self.keep(cache)

    async def _make_user(self) -> None:
        wanted = [group.split(".") for group in GROUPS]
        domain: list[Any] = ["|"] * (len(wanted) - 1)
        domain += [term for module, name in wanted for term in ("&", ["module", "=", module], ["name", "=", name])]
        found = await self.admin("ir.model.data", "search_read", domain=domain, fields=["res_id"])
        assert len(found) == len(wanted)
        groups = [row["res_id"] for row in found]
        user = {"name": "Litekart Hub", "login": self.login, "group_ids": [[6, 0, groups]]}
        await self.admin("res.users", "create", vals_list=[user])

    async def renew(self) -> None:
        if not self.key:
            self._admin_key = await self.new_key(login=ADMIN, database=TEMPLATE)
            self.key = await self.new_key(database=TEMPLATE)
        await super().renew()


def kept(key: str) -> str:
    """What the database holds of a key."""
    salt = secrets.token_bytes(16)
    digest = hashlib.pbkdf2_hmac("sha512", key.encode(), salt, ROUNDS)
    salted, hashed = (base64.b64encode(part, b"./").decode().rstrip("=") for part in (salt, digest))
    return f"$pbkdf2-sha512${ROUNDS}${salted}${hashed}"


async def open_odoo(port: int = 0) -> Odoo:
    """A running Odoo, to be closed. Lacking where this machine cannot have one."""
    with made_once("odoo-program", PACKAGE) as (program, missing):
        if missing:
            debian_package(PACKAGE, program)
            release = program / "usr/lib/python3/dist-packages/odoo/release.py"
            if f"version_info = ({VERSION.replace('.', ', ')}" not in release.read_text():
                raise Lacking(f"this machine's mirror of Debian has another {PACKAGE} than {VERSION}")
    python = environment("odoo.lock")
    made_of = [MODULES, *GROUPS, (program / "made").read_text(), (python.parents[1] / "made").read_text()]
    with made_once("odoo-database", *made_of) as (cache, missing):
        if missing:
            maker = Odoo(program, python)
            try:
                await maker.make(cache)
            finally:
                maker.close()
    odoo = Odoo(program, python, port)
    try:
        await odoo.begin(cache)
    except BaseException:
        odoo.close()
        raise
    return odoo
