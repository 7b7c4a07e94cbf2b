"""One real Odoo and one real Tryton for a test run; recordings of what was said to them.

Where this machine cannot have them, their tests are left out with the reason; CI (WHOLE=1) leaves nothing out.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeVar

import pytest

from tests.erp.odoo import Odoo, open_odoo
from tests.erp.packages import Lacking, home
from tests.erp.recording import Recorder, recording
from tests.erp.serving import Erp
from tests.erp.tryton import Tryton, open_tryton
from tests.whole import WHOLE

FETCHED_WITHIN = 1800
AnErp = TypeVar("AnErp", bound=Erp)
Recording = Callable[..., AbstractAsyncContextManager[Recorder]]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", action="store_true", help="write the recordings anew instead of comparing with them")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test of a run waits for its server, which on a new machine has to be fetched and made."""
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(FETCHED_WITHIN))


def started(opening: Callable[[], Awaitable[AnErp]]) -> Iterator[AnErp]:
    """A running ERP, ended afterwards."""

    async def opened() -> AnErp:
        return await opening()

    try:
        erp = asyncio.run(opened())
    except Lacking as missing:
        if WHOLE:
            raise
        pytest.skip(f"no real ERP: {missing}")
    try:
        yield erp
    finally:
        erp.close()


@pytest.fixture(scope="session")
def shared_odoo() -> Iterator[Odoo]:
    yield from started(open_odoo)


@pytest.fixture(scope="session")
def shared_tryton() -> Iterator[Tryton]:
    yield from started(open_tryton)


@pytest.fixture
async def odoo(shared_odoo: Odoo) -> Odoo:
    """A running Odoo 19, with what the tests before have left in its database; `await odoo.fresh()` empties it."""
    await shared_odoo.mend()
    return shared_odoo


@pytest.fixture
async def tryton(shared_tryton: Tryton) -> Tryton:
    """A running Tryton 8.2, with what the tests before have left in its database; `await tryton.fresh()` empties it."""
    await shared_tryton.mend()
    return shared_tryton


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Recording:
    """`async with record(name, erp) as proxy`: a scene before the real server, by way of `proxy.url`.

    With --record it is written to `recorded/{name}.json`, else compared with that. The ERP's key is written as
    `recorded-key`, its address as `http://erp.test`; `more` gives what else is real, and what is written for it.
    """
    anew = request.config.getoption("--record")

    def before(name: str, erp: Erp, more: Mapping[str, str] | None = None) -> AbstractAsyncContextManager[Recorder]:
        stands_for = {erp.key: "recorded-key", erp.url: "http://erp.test", str(home()): "/erp", **(more or {})}
        return recording(name, erp.url, stands_for, anew=anew)

    return before
