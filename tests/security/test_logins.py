"""A thousand tries at the dashboard's login: few reach a hash, none tells who is known, the owner still comes in (S26).

In-process, where the network hides no difference; what a browser and a proxy do is in tests/test_auth.py.
"""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median

import httpx
import pytest
from argon2 import PasswordHasher
from starlette.applications import Starlette

from hub.web import passwords
from hub.web.auth import TRIES_OF_ACCOUNT, TRIES_OF_ADDRESS
from hub.web.dashboard import create_dashboard
from tests.browsers import FROM_A_PAGE, OPERATOR, PASSWORD, VIEWER, log_in, staffed_lab
from tests.hubdb import Lab

WRONG = "a wrong password"
# As long a name as the user has.
NOBODY = "omar"
HOME = "198.51.100.7"
TRIES = 1_000
# A hundred tries in a minute of the hub's clock.
EVERY = 0.6
MINUTE = 60.0
ROUNDS = 31


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    """Its clock stands but for `later`."""
    async with staffed_lab(tmp_path, f"sqlite:///{tmp_path}/hub.db") as made:
        made.stand_still()
        yield made


class Doorstep:
    """Who stands before one dashboard, from wherever. `hashed`: when a wrong password was held against a hash."""

    def __init__(self, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
        self.app: Starlette = create_dashboard(lab.hub)
        self.hashed: list[float] = []
        really = passwords.matches

        def noted(known: str, password: str) -> bool:
            if password == WRONG:
                self.hashed.append(lab.hub.now().timestamp())
            return really(known, password)

        monkeypatch.setattr(passwords, "matches", noted)

    async def knock(self, name: str, address: str, password: str = WRONG) -> httpx.Response:
        """One try from there."""
        transport = httpx.ASGITransport(self.app, client=(address, 40_000))
        async with httpx.AsyncClient(transport=transport, base_url="http://hub", headers=FROM_A_PAGE) as client:
            return await log_in(client, name, password)

    def most_in_a_minute(self) -> int:
        return max(sum(1 for at in self.hashed if begun <= at < begun + MINUTE) for begun in self.hashed)


@pytest.fixture
def doorstep(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Doorstep:
    return Doorstep(lab, monkeypatch)


def address_no(number: int) -> str:
    return f"203.0.{number // 250}.{number % 250}"


def told(answer: httpx.Response, name: str) -> tuple[int, str, list[tuple[str, str]]]:
    """What an answer says, but for the name that was typed."""
    return answer.status_code, answer.text.replace(name, "…"), sorted(answer.headers.items())


async def test_s26_a_thousand_tries_for_one_user_from_everywhere(lab: Lab, doorstep: Doorstep) -> None:
    """S26: ten a minute reach the hash; the owner comes in, meanwhile from where they were, later from anywhere."""
    assert (await doorstep.knock(OPERATOR, HOME, PASSWORD)).status_code == 303
    lab.later(MINUTE)
    statuses = []
    for number in range(TRIES):
        statuses.append((await doorstep.knock(OPERATOR, address_no(number))).status_code)
        if number % 100 == 99:
            assert (await doorstep.knock(OPERATOR, HOME, PASSWORD)).status_code == 303
        lab.later(EVERY)
    assert set(statuses) == {401, 429}
    assert len(doorstep.hashed) == statuses.count(401) == TRIES_OF_ACCOUNT * TRIES * EVERY / MINUTE
    assert doorstep.most_in_a_minute() == TRIES_OF_ACCOUNT == 10
    assert (await doorstep.knock(VIEWER, "192.0.2.1", PASSWORD)).status_code == 303, "it is nobody else's matter"
    lab.later(MINUTE)
    assert (await doorstep.knock(OPERATOR, "192.0.2.1", PASSWORD)).status_code == 303


async def test_s26_a_thousand_tries_for_many_users_from_one_address(lab: Lab, doorstep: Doorstep) -> None:
    """S26: thirty a minute reach the hash; other addresses are not slowed, and that one not for ever."""
    statuses = []
    for number in range(TRIES):
        statuses.append((await doorstep.knock(f"name{number}", "203.0.113.7")).status_code)
        lab.later(EVERY)
    assert set(statuses) == {401, 429}
    assert len(doorstep.hashed) == statuses.count(401) == TRIES_OF_ADDRESS * TRIES * EVERY / MINUTE
    assert doorstep.most_in_a_minute() == TRIES_OF_ADDRESS == 30
    assert (await doorstep.knock(OPERATOR, HOME, PASSWORD)).status_code == 303
    lab.later(MINUTE)
    assert (await doorstep.knock(OPERATOR, "203.0.113.7", PASSWORD)).status_code == 303


async def test_s26_no_answer_tells_who_is_known(doorstep: Doorstep) -> None:
    """S26: neither to the first tries nor to those that are too many."""
    answers = {
        name: [told(await doorstep.knock(name, address_no(number)), name) for number in range(15)]
        for name in (OPERATOR, NOBODY)
    }
    assert answers[OPERATOR] == answers[NOBODY]
    assert [status for status, _, _ in answers[NOBODY]] == [401] * 10 + [429] * 5


async def test_s26_a_name_that_nobody_has_costs_what_a_known_one_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S26: medians within 10 %, of the processor's time for a whole request, where a hash takes some milliseconds.

    Of two equal costs one measurement in some may differ by more than that on a busy machine, where others push memory
    out of the processor's cache; of unequal ones none comes near. So it is made anew up to five times.
    """
    dear = PasswordHasher(time_cost=2, memory_cost=4_096, parallelism=1).hash(PASSWORD)
    users = [{"name": OPERATOR, "role": "operator", "password": dear}]
    async with staffed_lab(tmp_path, f"sqlite:///{tmp_path}/hub.db", users) as lab:
        lab.stand_still()
        spent = await alike(lab, Doorstep(lab, monkeypatch))
    assert abs(median(spent[OPERATOR]) / median(spent[NOBODY]) - 1) < 0.1


async def alike(lab: Lab, doorstep: Doorstep) -> dict[str, list[float]]:
    """The first of five measurements whose medians are alike, else the last."""
    for _ in range(5):
        spent = await spent_on((OPERATOR, NOBODY), lab, doorstep)
        if abs(median(spent[OPERATOR]) / median(spent[NOBODY]) - 1) < 0.1:
            break
    return spent


async def spent_on(names: tuple[str, str], lab: Lab, doorstep: Doorstep) -> dict[str, list[float]]:
    """Seconds of the processor for each of many tries, the names taking turns at being first."""
    spent: dict[str, list[float]] = {name: [] for name in names}
    for number in range(ROUNDS):
        for name in names if number % 2 else reversed(names):
            begun = time.process_time()
            assert (await doorstep.knock(name, HOME)).status_code == 401
            spent[name].append(time.process_time() - begun)
        lab.later(MINUTE)
    return spent
