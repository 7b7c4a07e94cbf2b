"""A few of the faults, short, on SQLite; `make faults` plays them all, on both databases."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from tests.faults.cases import Line, run_case
from tests.faults.catalogue import BY_NAME
from tests.faults.scale import Scale
from tests.faults.stage import SQLITE, Servers
from tests.whole import at_length

QUICK = Scale(load=2, short=0.5, rate=60)
traced = pytest.mark.skipif("strace" not in BY_NAME, reason="needs strace; CI has it")


@pytest.fixture
async def servers() -> AsyncIterator[Servers]:
    async with AsyncExitStack() as stack:
        yield Servers(stack)


async def played(name: str, servers: Servers, without: str | None = None) -> Line:
    return await run_case(BY_NAME[name], SQLITE, QUICK, servers, without)


@pytest.mark.parametrize("name", ["F01 R4", pytest.param("F03 W4", marks=at_length)])
async def test_a_process_killed_in_the_midst_of_its_work_loses_nothing(name: str, servers: Servers) -> None:
    line = await played(name, servers)
    assert line.passed, line


@traced
async def test_nothing_is_answered_before_it_is_flushed(servers: Servers) -> None:
    line = await played("strace", servers)
    assert line.passed, line


@traced
async def test_without_synchronous_full_it_would_be(servers: Servers) -> None:
    line = await played("strace", servers, without="synchronous")
    assert not line.passed
    assert "answered before it was flushed" in str(line)
