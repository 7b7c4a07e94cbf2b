"""What went between a connector and an ERP is written down, played again, and found out when it is no longer true."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from tests.erp.recording import RECORDED, listening_at, recording, replaying
from tests.erp.scenes import first_words
from tests.servers import free_port

KEY = "0123456789abcdef-real"
ROWS = {"fields": ["id", "name"], "data": [["a.b_1", "Åsa 😀 <b>"]]}


class Ledger:
    """An ERP of few words, which knows its key, sets a cookie, and may change between two runs."""

    def __init__(self) -> None:
        self.row: dict[str, Any] = {"id": 7, "write_date": "2026-11-27 10:00:00"}
        self.status = 200

    async def answer(self, request: Request) -> Response:
        cookie = {"Set-Cookie": "session_id=secret"}
        if request.headers.get("authorization") != f"bearer {KEY}":
            return PlainTextResponse("who is there?", 401, cookie)
        if request.url.path == "/none":
            return JSONResponse(None)
        body = await request.body()
        told = {"rows": [self.row], "path": request.url.path, "size": len(body), "key": KEY}
        return JSONResponse(told, self.status, cookie)


@pytest.fixture
async def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
async def upstream(ledger: Ledger) -> AsyncIterator[str]:
    async with listening_at(ledger.answer) as url:
        yield url


async def scene(url: str, key: str, rows: object = ROWS, more: int = 0) -> list[httpx.Response]:
    """What a connector might ask: a body, a path with a query, an answer of null, and a wrong key."""
    async with httpx.AsyncClient(base_url=url, trust_env=False, headers={"Authorization": f"bearer {key}"}) as client:
        return [
            await client.post("/load", json=rows),
            await client.get("/a%2Fb/c?d=%5B1%5D&f=name"),
            await client.post("/none", content=b""),
            await client.get("/key", headers={"Authorization": "bearer wrong"}),
            *[await client.get("/more") for _ in range(more)],
        ]


async def record(
    upstream: str, folder: Path, rows: object = ROWS, *, anew: bool, more: int = 0
) -> list[httpx.Response]:
    async with recording("scene", upstream, {KEY: "recorded-key"}, anew=anew, folder=folder) as proxy:
        return await scene(proxy.url, KEY, rows, more)


async def test_what_was_recorded_is_answered_again_without_the_server(upstream: str, tmp_path: Path) -> None:
    real = await record(upstream, tmp_path, anew=True)
    assert [one.status_code for one in real] == [200, 200, 200, 401]
    async with replaying("scene", tmp_path) as replay:
        again = await scene(replay.url, "recorded-key")
    for one, other in zip(real, again, strict=True):
        assert (one.status_code, one.text.replace(KEY, "recorded-key")) == (other.status_code, compact(other))
        assert one.headers["content-type"] == other.headers["content-type"]


def compact(answer: httpx.Response) -> str:
    """The text of an answer, with JSON as starlette writes it."""
    if "json" not in answer.headers["content-type"]:
        return answer.text
    return json.dumps(answer.json(), ensure_ascii=False, separators=(",", ":"))


async def test_a_recording_holds_ids_and_dates_but_no_key_and_no_header(upstream: str, tmp_path: Path) -> None:
    await record(upstream, tmp_path, anew=True)
    text = (tmp_path / "scene.json").read_text()
    assert KEY not in text
    assert "session_id" not in text
    assert "bearer" not in text
    first, second, third, fourth = json.loads(text)
    assert first == {
        "method": "POST", "path": "/load", "request": ROWS, "status": 200, "kind": None,
        "answer": {
            "rows": [{"id": 7, "write_date": "2026-11-27 10:00:00"}], "path": "/load",
            "size": first["answer"]["size"], "key": "recorded-key",
        },
    }  # fmt: skip
    assert second["path"] == "/a%2Fb/c?d=%5B1%5D&f=name"
    assert (third["request"], third["answer"]) == ("", None)
    assert (fourth["status"], fourth["answer"]) == (401, "who is there?")


def test_a_recording_tells_nothing_of_the_machine_it_was_made_on() -> None:
    recordings = sorted(RECORDED.glob("*.json"))
    assert recordings
    telling = re.compile(r'File \\?"/|/(tmp|root|home|Users)/|session_id|[0-9a-f]{40}|127\.0\.0\.1')
    assert [(one.name, found[0]) for one in recordings for found in telling.finditer(one.read_text())] == []


async def test_values_may_differ_from_run_to_run(upstream: str, ledger: Ledger, tmp_path: Path) -> None:
    await record(upstream, tmp_path, anew=True)
    ledger.row = {"id": 8, "write_date": "2026-11-28 11:11:11"}
    await record(upstream, tmp_path, anew=False)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            "answer's keys",
            "The answer to request 1 (POST /load): keys.rows[0] has these keys in one of the two alone: sku",
        ),
        ("answer's status", "The answer to request 1 (POST /load): status was 200 and is 422"),
        ("request's body", 'Request 1 (POST /load): request.data[0][1] was "Åsa 😀 <b>" and is "Asha"'),
        ("more requests", "4 requests were recorded, 5 were made"),
        ("none recorded", "there is no recording scene"),
    ],
    ids=["keys", "status", "body", "number", "none"],
)
async def test_a_run_that_is_otherwise_names_the_recording(
    upstream: str, ledger: Ledger, tmp_path: Path, change: str, why: str
) -> None:
    if change != "none recorded":
        await record(upstream, tmp_path, anew=True)
    if change == "answer's keys":
        ledger.row["sku"] = "KET-1"
    if change == "answer's status":
        ledger.status = 422
    rows = {**ROWS, "data": [["a.b_1", "Asha"]]} if change == "request's body" else ROWS
    with pytest.raises(AssertionError) as told:
        await record(upstream, tmp_path, rows, anew=False, more=change == "more requests")
    assert why in str(told.value)
    assert "recording scene" in str(told.value)
    assert "`make test-erp ARGS=--record` makes it" in str(told.value)


async def test_a_replay_that_is_asked_something_else_says_so_from_then_on(upstream: str, tmp_path: Path) -> None:
    await record(upstream, tmp_path, anew=True)
    rows = {**ROWS, "data": [["a.b_1", 5]]}
    with pytest.raises(AssertionError, match="the recording scene is stale"):
        async with replaying("scene", tmp_path) as replay:
            answers = await scene(replay.url, "recorded-key", rows)
    assert {one.status_code for one in answers} == {599}
    (told,) = {one.text for one in answers}
    assert told == (
        "the recording scene is stale: `make test-erp ARGS=--record` makes it anew. "
        'Request 1 (POST /load): request.data[0][1] was "Åsa 😀 <b>" and is 5'
    )


async def test_a_replay_tells_of_requests_too_many_and_too_few(upstream: str, tmp_path: Path) -> None:
    await record(upstream, tmp_path, anew=True)
    with pytest.raises(AssertionError, match=r"Request 5 \(GET /more\): only 4 were recorded"):
        async with replaying("scene", tmp_path) as replay:
            assert [one.status_code for one in await scene(replay.url, "recorded-key", more=1)][-2:] == [401, 599]
    with pytest.raises(AssertionError, match="4 recorded requests were not made"):
        async with replaying("scene", tmp_path):
            pass


async def test_a_server_that_is_away_is_told_and_not_recorded(tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    async with recording("scene", nobody, anew=True, folder=tmp_path) as proxy, httpx.AsyncClient() as client:
        answer = await client.get(proxy.url)
    assert answer.status_code == 502
    assert proxy.exchanges == []


async def test_what_a_real_odoo_said_can_be_played_without_it() -> None:
    async with replaying("odoo_first_words") as replay:
        (customer,) = await first_words(replay.url, "recorded-key")
    assert (customer["name"], customer["email"]) == ("Åsa Rao", "asa@example.test")
