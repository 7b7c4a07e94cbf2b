"""Logging in to the dashboard: sessions from login to their end, tries that are slowed, links that work once."""

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from argon2 import extract_parameters
from argon2.profiles import RFC_9106_LOW_MEMORY
from structlog.testing import capture_logs

from hub.store import AUDIT, SESSION, sessions
from hub.store.sessions import IDLE, LONGEST
from hub.web import passwords
from hub.web.auth import Door, marks, network_of, own_path
from hub.web.passwords import Busy, Passwords, hash_of_nothing, hash_password
from hub.web.throttle import Throttle
from tests import hubdb
from tests.browsers import (
    OPERATOR,
    PASSWORD,
    USERS,
    VIEWER,
    browser,
    dashboard_of,
    log_in,
    logged_in,
    staffed_lab,
    token_in,
    user,
    who_is,
)
from tests.hubdb import Lab, config_of, open_lab, route
from tests.operations import ask

shared_url, database_url = hubdb.shared_url, hubdb.database_url

HOUR = 3600.0
MINUTE = 60.0


@pytest.fixture
async def lab(tmp_path: Path, database_url: str) -> AsyncIterator[Lab]:
    async with staffed_lab(tmp_path, database_url) as made:
        yield made


@pytest.fixture
async def sqlite_lab(tmp_path: Path) -> AsyncIterator[Lab]:
    """For what has no SQL of its own."""
    async with staffed_lab(tmp_path, f"sqlite:///{tmp_path}/hub.db") as made:
        yield made


@pytest.fixture
async def local_lab(tmp_path: Path, database_url: str) -> AsyncIterator[Lab]:
    """A hub without users, on loopback."""
    async with open_lab(tmp_path, database_url, dashboard={"port": 0}) as made:
        yield made


def change_users(lab: Lab, tmp_path: Path, users: list[dict[str, str]]) -> None:
    """What another config would say."""
    dashboard = {"port": 0, "users": users}
    lab.hub.config = config_of(tmp_path, lab.hub.config.database.reveal(), {"one": route()}, dashboard=dashboard)


async def test_a_login_gives_a_fresh_session_that_a_logout_ends_on_the_server(lab: Lab) -> None:
    """S25: what somebody else chose is no session."""
    async with dashboard_of(lab) as url, browser(url) as client:
        client.cookies.set("hub", "chosen-by-somebody-else", domain="127.0.0.1")
        assert await who_is(client) == 303
        assert (await log_in(client, OPERATOR)).headers["location"] == "/"
        first = client.cookies["hub"]
        assert first != "chosen-by-somebody-else"
        assert await who_is(client) == 200
        assert (await log_in(client, VIEWER)).status_code == 303
        second = client.cookies["hub"]
        async with browser(url) as thief:
            assert await who_is(thief, Cookie=f"hub={first}") == 303
            assert await who_is(thief, Cookie=f"hub={second}") == 200
            left = await client.post("/logout")
            assert (left.status_code, left.headers["location"]) == (303, "/login")
            assert "hub" not in client.cookies
            assert await who_is(thief, Cookie=f"hub={second}") == 303
    assert await lab.rows(SESSION) == []


async def test_only_hashes_are_stored(lab: Lab) -> None:
    """S25: not the session's token itself."""
    async with dashboard_of(lab) as url, browser(url) as client:
        form = {"name": OPERATOR, "password": PASSWORD}
        await client.post("/login", data=form, headers=[(b"User-Agent", b"Browser\x80/1")])
        row = await lab.row(SESSION)
        assert client.cookies["hub"] not in str(dict(row._mapping))
        assert (len(row.id), row.user, row.role, row.remote) == (64, OPERATOR, "operator", "127.0.0.1")
        assert row.agent == "Browser\ufffd/1"


@pytest.mark.parametrize(
    ("users", "stays"),
    [
        (USERS, True),
        ([user(OPERATOR, password="another password"), USERS[1]], False),
        ([USERS[0] | {"role": "viewer"}, USERS[1]], False),
        ([USERS[1]], False),
        ([], False),
    ],
    ids=["same", "password", "role", "user", "all users"],
)
async def test_what_the_config_takes_away_ends_sessions(
    sqlite_lab: Lab, tmp_path: Path, users: list[dict[str, str]], stays: bool
) -> None:
    """S25: another password, another role, no such user."""
    async with dashboard_of(sqlite_lab) as url, logged_in(url, OPERATOR) as client:
        change_users(sqlite_lab, tmp_path, users)
        assert await who_is(client) == (200 if stays else 303)


async def test_the_sessions_of_a_hub_without_users_end_when_it_gets_some(local_lab: Lab, tmp_path: Path) -> None:
    async with dashboard_of(local_lab) as url, browser(url) as client:
        link = (await ask(local_lab, "login.link"))["url"]
        await client.post("/login", data={"token": token_in(link)})
        assert await who_is(client) == 200
        change_users(local_lab, tmp_path, [user("local")])
        assert await who_is(client) == 303


async def test_a_session_ends_twelve_hours_after_it_was_used_last(lab: Lab) -> None:
    """S25: the idle bound."""
    async with dashboard_of(lab) as url, logged_in(url, OPERATOR) as client:
        for _ in range(3):
            lab.later(11.9 * HOUR)
            assert await who_is(client) == 200
        lab.later(12 * HOUR)
        assert await who_is(client) == 303


async def test_a_session_ends_after_seven_days_however_it_is_used(lab: Lab) -> None:
    """S25: the absolute bound."""
    async with dashboard_of(lab) as url, logged_in(url, OPERATOR) as client:
        for _ in range(16):
            lab.later(LONGEST.total_seconds() / 16 - 1)
            assert await who_is(client) == 200
        lab.later(16)
        assert await who_is(client) == 303
        assert len(await lab.rows(SESSION)) == 1
        await log_in(client, OPERATOR)
        assert len(await lab.rows(SESSION)) == 1, "what has expired is forgotten at a login"


async def test_the_last_use_is_written_once_a_minute(lab: Lab) -> None:
    async with dashboard_of(lab) as url, logged_in(url, OPERATOR) as client:
        begun = (await lab.row(SESSION)).seen_at
        await who_is(client)
        assert (await lab.row(SESSION)).seen_at == begun
        # Nor when two requests at once both found it old.
        (row, soon) = (await lab.row(SESSION), begun + timedelta(seconds=59))
        await lab.write(lambda connection: sessions.touch(connection, soon, row.id))
        assert (await lab.row(SESSION)).seen_at == begun
        lab.later(61)
        await who_is(client)
        assert (await lab.row(SESSION)).seen_at > begun


async def test_one_sees_and_ends_ones_own_sessions_alone(lab: Lab) -> None:
    async with (
        dashboard_of(lab) as url,
        logged_in(url, VIEWER, user_agent="the first") as first,
        logged_in(url, VIEWER, user_agent="the <second>") as second,
        logged_in(url, VIEWER, user_agent="the third" + "w" * 300) as third,
        logged_in(url, OPERATOR, user_agent="another's") as other,
    ):
        page = (await first.get("/account")).text
        assert [name in page for name in ("the first", "the &lt;second&gt;", "the third", "another")] == [True] * 3 + [
            False
        ]
        assert ("w" * 100 in page, "w" * 200 in page) == (True, False)
        rows = await lab.rows(SESSION)
        own = [row for row in rows if row.user == VIEWER]
        assert [f'<time datetime="{row.created_at:%Y-%m-%dT%H:%M:%SZ}">' in page for row in own] == [True] * 3
        of = {row.agent: row.id for row in rows}
        for wanted in (of["the <second>"], of["another's"], "nothing", ""):
            assert (await first.post("/account", data={"end": wanted})).headers["location"] == "/account"
        assert [await who_is(one) for one in (first, second, third, other)] == [200, 303, 200, 200]
        await first.post("/account", data={"end": "others"})
        assert [await who_is(one) for one in (first, third, other)] == [200, 303, 200]


async def test_a_person_ends_all_sessions_of_a_user(lab: Lab) -> None:
    async with dashboard_of(lab) as url, logged_in(url, VIEWER) as one, logged_in(url, VIEWER) as two:
        assert await ask(lab, "sessions.end", user=VIEWER, who="root") == {"user": VIEWER, "ended": 2}
        assert [await who_is(client) for client in (one, two)] == [303, 303]
    line = await lab.row(AUDIT)
    assert (line.who, line.action, line.detail) == ("root", "sessions.end", {"user": VIEWER, "ended": 2})


# ---- cookies


async def test_over_https_the_cookie_is_bound_to_it(sqlite_lab: Lab) -> None:
    """S25: `__Host-`, HttpOnly, Secure, SameSite."""
    async with dashboard_of(sqlite_lab) as url, browser(url) as client:
        plain = (await log_in(client, OPERATOR)).headers["set-cookie"]
        over_tls = {"X-Forwarded-Proto": "https"}
        secure = (await client.post("/login", data={"name": OPERATOR, "password": PASSWORD}, headers=over_tls)).headers[
            "set-cookie"
        ]
        for cookie, name, more in ((plain, "hub", set()), (secure, "__Host-hub", {"secure"})):
            (pair, *flags) = [part.strip() for part in cookie.split(";")]
            assert pair.startswith(f"{name}=")
            assert len(pair.partition("=")[2]) == 43
            assert {flag.lower() for flag in flags} == {"httponly", "samesite=lax", "path=/", "max-age=604800"} | more
        token = secure.partition("=")[2].partition(";")[0]
        async with browser(url) as other:
            assert await who_is(other, Cookie=f"__Host-hub={token}", **over_tls) == 200
            assert await who_is(other, Cookie=f"hub={token}", **over_tls) == 303
            gone = await other.post("/logout", headers={"Cookie": f"__Host-hub={token}", **over_tls})
            assert "Secure" in gone.headers["set-cookie"]


# ---- passwords


async def test_a_wrong_name_and_a_wrong_password_read_alike(sqlite_lab: Lab) -> None:
    """S26: by what is answered."""
    async with dashboard_of(sqlite_lab) as url, browser(url) as client:
        with capture_logs() as lines:
            answers = [await log_in(client, name, "wrong password") for name in (OPERATOR, "nobody")]
        (known, unknown) = [
            (one.status_code, one.text.replace(name, "…"), sorted(set(one.headers) - {"date"}))
            for one, name in zip(answers, (OPERATOR, "nobody"), strict=True)
        ]
        assert known == unknown
        assert known[0] == 401
        assert "hub=" not in str(answers[0].headers)
        # A password that was typed as a name is not for the log.
        assert [(line["event"], line["user"]) for line in lines] == [
            ("login.refused", OPERATOR),
            ("login.refused", None),
        ]


def test_a_hash_that_is_none_fits_no_password() -> None:
    assert not passwords.matches("no hash at all", "x")


def test_no_password_has_the_hash_of_nobody() -> None:
    made = hash_of_nothing(RFC_9106_LOW_MEMORY)
    assert extract_parameters(made) == extract_parameters(hash_password(PASSWORD)) == RFC_9106_LOW_MEMORY
    assert not passwords.matches(made, "")
    assert hash_of_nothing(RFC_9106_LOW_MEMORY) != made


def test_an_accent_may_be_typed_in_two_ways() -> None:
    assert passwords.matches(hash_password("résumé of the shop"), "re\u0301sume\u0301 of the shop")


async def test_passwords_are_looked_at_two_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    counting, under_way, most = threading.Lock(), 0, 0
    really = passwords.matches

    def counted(known: str, password: str) -> bool:
        nonlocal under_way, most
        with counting:
            under_way += 1
            most = max(most, under_way)
        fits = really(known, password)
        with counting:
            under_way -= 1
        return fits

    monkeypatch.setattr(passwords, "matches", counted)
    door = Passwords([])
    assert await asyncio.gather(*(door.check("asha", PASSWORD) for _ in range(8))) == [None] * 8
    assert most <= 2


async def test_nor_does_anybody_wait_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "MOST_WAITING", 0)
    with pytest.raises(Busy):
        await Passwords([]).check("asha", PASSWORD)


async def test_a_busy_login_says_when_to_come_back(sqlite_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "MOST_WAITING", 0)
    async with dashboard_of(sqlite_lab) as url, browser(url) as client:
        answer = await log_in(client, OPERATOR)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "5")


async def test_a_login_is_a_form(sqlite_lab: Lab) -> None:
    async with dashboard_of(sqlite_lab) as url, browser(url) as client:
        for kind in ("multipart/form-data; boundary=x", "application/json", "text/plain"):
            answer = await client.post("/login", content=b"name=asha&password=x", headers={"Content-Type": kind})
            assert answer.status_code == 415


NONSENSE = {
    b"": 401, b"name=asha": 401, b"password=x": 401, b"\xff\xfe": 400, b"name=%ff%00&password=%ed%a0%80": 401,
    b"&=" * 3000: 400,
}  # fmt: skip


async def test_a_login_that_makes_no_sense_is_refused(sqlite_lab: Lab) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    async with dashboard_of(sqlite_lab) as url, browser(url) as client:
        answers = {body: await client.post("/login", content=body, headers=form) for body in NONSENSE}
    assert {body: answer.status_code for body, answer in answers.items()} == NONSENSE


# ---- tries


async def refused(client: httpx.AsyncClient, name: str, address: str) -> int:
    answer = await client.post("/login", data={"name": name, "password": "x"}, headers={"X-Forwarded-For": address})
    if answer.status_code == 429:
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert "too many tries" in answer.text.lower()
    return answer.status_code


async def test_an_account_has_ten_tries_a_minute_from_wherever(sqlite_lab: Lab) -> None:
    """S26: one user from many addresses."""
    async with dashboard_of(sqlite_lab) as url, browser(url) as client:
        for name in (OPERATOR, "nobody"):
            tried = [await refused(client, name, f"203.0.{n}.7") for n in range(40)]
            assert tried == [401] * 10 + [429] * 30
        assert (await log_in(client, OPERATOR)).status_code == 429, "nor with the right password"
        assert await refused(client, VIEWER, "203.0.113.7") == 401
        sqlite_lab.later(60)
        assert (await log_in(client, OPERATOR)).status_code == 303


async def test_who_tries_without_end_does_not_keep_the_owner_out(sqlite_lab: Lab) -> None:
    """S26: where the owner has come from before."""
    async with dashboard_of(sqlite_lab) as url, browser(url) as client:
        assert (await log_in(client, OPERATOR)).status_code == 303
        for n in range(20):
            await refused(client, OPERATOR, f"203.0.{n}.7")
        assert await refused(client, OPERATOR, "203.0.113.7") == 429
        assert (await log_in(client, OPERATOR)).status_code == 303


async def test_an_address_has_thirty_tries_a_minute_for_whatever(sqlite_lab: Lab) -> None:
    """S26: many users from one address."""
    async with dashboard_of(sqlite_lab) as url, browser(url) as client:
        tried = [await refused(client, f"name{n}", "203.0.113.7") for n in range(40)]
        assert tried == [401] * 30 + [429] * 10
        assert await refused(client, "name", "203.0.113.8") == 401
        sqlite_lab.later(60)
        assert await refused(client, "name", "203.0.113.7") == 401


def test_the_addresses_of_one_ipv6_network_are_one() -> None:
    assert network_of("2001:db8:1:2:3:4:5:6") == network_of("2001:db8:1:2::1") != network_of("2001:db8:1:3::1")
    assert [network_of(one) for one in ("203.0.113.7", "unknown")] == ["203.0.113.7", "unknown"]


def test_what_is_counted_stays_small_whatever_is_sent(tmp_path: Path) -> None:
    throttle = Throttle(most=3, keys=100)
    assert [throttle.wait("asha", 0.0) for _ in range(4)] == [0.0, 0.0, 0.0, MINUTE]
    for n in range(10_000):
        assert throttle.wait(f"{n} {'x' * 100_000}", n / 1000) == 0.0
        assert len(throttle) <= 100
    assert throttle.wait("asha", 10.0) == 50.0, "the flood has not pushed out who is slowed"
    assert throttle.wait("asha", MINUTE) == 0.0


def test_a_clock_that_was_set_back_shuts_nobody_out() -> None:
    throttle = Throttle(most=1)
    assert throttle.wait("asha", 1_000.0) == 0.0
    assert throttle.wait("asha", 10.0) == 0.0
    assert throttle.wait("asha", 11.0) == 59.0


def test_tries_that_are_refused_do_not_count(tmp_path: Path) -> None:
    door = Door(config_of(tmp_path, "sqlite:///hub.db", {}))
    for second in range(59):
        door.wait("203.0.113.7", float(second), "asha")
    assert door.wait("203.0.113.7", 60.0, "asha") == 0.0


# ---- links


async def test_a_link_logs_in_once_and_not_by_being_looked_at(local_lab: Lab) -> None:
    async with dashboard_of(local_lab) as url, browser(url) as client, browser(url) as other:
        link = (await ask(local_lab, "login.link"))["url"]
        assert link.startswith(f"{url}/login?token=")
        for _ in range(2):
            page = await client.get(link, headers={"Sec-Fetch-Site": "none"})
            assert f'name="token" value="{token_in(link)}"' in page.text
            assert await who_is(client) == 303
        await client.head(link)
        assert token_in(link) not in str([dict(row._mapping) for row in await local_lab.rows(SESSION)])
        form = {"token": token_in(link), "next": "/account"}
        assert (await client.post("/login", data=form)).headers["location"] == "/account"
        assert await who_is(client) == 200
        again = await other.post("/login", data=form)
        assert (again.status_code, "used before or has expired" in again.text) == (403, True)
        assert await who_is(other) == 303


async def test_a_link_that_many_press_at_once_lets_one_in(local_lab: Lab) -> None:
    async with dashboard_of(local_lab) as url, browser(url) as client:
        form = {"token": token_in((await ask(local_lab, "login.link"))["url"])}
        answers = await asyncio.gather(*(client.post("/login", data=form) for _ in range(12)))
    assert sorted(answer.status_code for answer in answers) == [303] + [403] * 11
    assert len(await local_lab.rows(SESSION, SESSION.c.kind == "session")) == 1


async def test_an_unknown_link_logs_nobody_in(local_lab: Lab) -> None:
    async with dashboard_of(local_lab) as url, browser(url) as client:
        for token in (b"", b"unknown", b"x" * 10_000, b"\xed\xa0\x80", b"\x00"):
            answer = await client.post("/login", data={"token": token})
            assert (answer.status_code, "hub" in client.cookies) == (403, False)


async def test_a_link_that_was_asked_for_lasts_ten_minutes_and_that_of_the_start_a_day(local_lab: Lab) -> None:
    with capture_logs() as lines:
        async with dashboard_of(local_lab) as url, browser(url) as client:
            (at_start,) = [line["url"] for line in lines if line["event"] == "dashboard.link"]
            asked = (await ask(local_lab, "login.link"))["url"]
            local_lab.later(10 * MINUTE)
            assert (await client.post("/login", data={"token": token_in(asked)})).status_code == 403
            local_lab.later(23.8 * HOUR)
            assert (await client.post("/login", data={"token": token_in(at_start)})).status_code == 303
    async with dashboard_of(local_lab):
        local_lab.later(24 * HOUR)
        assert (await ask(local_lab, "login.link"))["until"]
        assert {row.kind for row in await local_lab.rows(SESSION)} == {"link"}
        assert len(await local_lab.rows(SESSION)) == 1, "what has expired is forgotten"


async def test_a_session_is_no_link_and_a_link_no_session(local_lab: Lab) -> None:
    async with dashboard_of(local_lab) as url, browser(url) as client, browser(url) as other:
        link = token_in((await ask(local_lab, "login.link"))["url"])
        assert await who_is(other, Cookie=f"hub={link}") == 303
        await client.post("/login", data={"token": link})
        assert (await other.post("/login", data={"token": client.cookies["hub"]})).status_code == 403
        assert await who_is(client) == 200


async def test_where_there_are_users_no_link_logs_in(local_lab: Lab, tmp_path: Path) -> None:
    link = ""
    async with dashboard_of(local_lab) as url, browser(url) as client:
        link = (await ask(local_lab, "login.link"))["url"]
        change_users(local_lab, tmp_path, USERS)
        assert 'name="token"' not in (await client.get(link)).text
        assert (await client.post("/login", data={"token": token_in(link)})).status_code == 401
    assert marks(local_lab.hub.config).keys() == {OPERATOR, VIEWER}


# ---- where to go on


OWN = ["/", "/events", "/events?q=ord_1&before=3", "/events/evt_1#a", "/a//b", "/%2f%2fevil.test", "/é"]
FOREIGN: list[Any] = [
    None, "", "//evil.test", "///evil.test", "/\\evil.test", "\\\\evil.test", "https://evil.test/", "evil.test",
    "javascript:alert(1)", "/\t/evil.test", "/\n/evil.test", "/ok\r\nSet-Cookie: a=b", "\t//evil.test", " /x", "/x y",
    "/\x00", "/a\\b", "/" + "x" * 3000, "@evil.test", ".evil.test", "//", "/\x85/",
]  # fmt: skip


@pytest.mark.parametrize("path", OWN)
def test_the_login_goes_on_to_pages_of_ours(path: str) -> None:
    assert own_path(path) == path


@pytest.mark.parametrize("path", FOREIGN)
def test_the_login_goes_on_to_nowhere_else(path: str | None) -> None:
    assert own_path(path) == "/"


async def test_what_was_asked_for_is_shown_after_the_login(sqlite_lab: Lab) -> None:
    async with dashboard_of(sqlite_lab) as url, browser(url) as client:
        asked = await client.get("/account?a=1&b=%2F%2Fx&c=%22%3E")
        login = httpx.URL(url).join(asked.headers["location"])
        assert (asked.status_code, login.path) == (303, "/login")
        page = (await client.get(login)).text
        assert 'name="next" value="/account?a=1&amp;b=%2F%2Fx&amp;c=%22%3E"' in page
        entered = await log_in(client, OPERATOR, next=login.params["next"])
        assert entered.headers["location"] == "/account?a=1&b=%2F%2Fx&c=%22%3E"
        for foreign in FOREIGN[1:8]:
            shown = (await client.get("/login", params={"next": foreign})).text
            assert 'name="next" value="/"' in shown
            assert (await log_in(client, OPERATOR, next=foreign)).headers["location"] == "/"
        strange = await client.get("//evil.test/x", headers={"Cookie": "hub=x"})
        assert (strange.status_code, strange.headers["location"]) == (303, "/login?next=/x")


def test_the_bounds_are_what_the_readme_says() -> None:
    assert (IDLE.total_seconds(), LONGEST.total_seconds()) == (12 * HOUR, 7 * 24 * HOUR)
