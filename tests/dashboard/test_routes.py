"""`/routes`, `/refused`, `/audit`, the overview: settings masked, Test, pause, let in, who did what, charts."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest

from hub.connector import Context, Receipt, Secret
from hub.errors import Hold, HoldRoute, NotAuthenticated, Outcome, Refusal, Rejected, UnknownStore
from hub.receive import Incoming, Receiving
from hub.replay import pause_route
from hub.store import AUDIT, EVENT, ROUTE_STATE, STAT
from hub.store.stats import HourCount, hourly
from hub.testing.samples import sample, sign, to_bytes
from hub.web.pages import charts
from tests import hubdb
from tests.dashboard.scene import CANARY, HOSTILE, ROUTES, STORES
from tests.dashboard.served import VIEWER, Page, harmless, looking
from tests.hubdb import SECRET, Lab, Still, open_lab, route

shared_url, database_url, lab = hubdb.shared_url, hubdb.database_url, hubdb.lab


class Checked(Still):
    """Says of itself what the test put there."""

    said: ClassVar[str] = ""
    wrong: ClassVar[Exception | None] = None

    class Settings(Still.Settings):
        key: Secret = Secret(f"{CANARY}-key")

    async def check(self, ctx: Context) -> str:
        if self.wrong is not None:
            raise self.wrong
        return self.said


@contextmanager
def saying(said: str = "", wrong: Exception | None = None) -> Iterator[None]:
    Checked.said, Checked.wrong = said, wrong
    try:
        yield
    finally:
        Checked.said, Checked.wrong = "", None


CHECKED = {"one": {"connector": f"{__name__}:Checked", "retry": {"schedule": ["10s"]}}}


@pytest.mark.parametrize("name", ROUTES)
async def test_settings_without_secrets(tmp_path: Path, name: str) -> None:
    """Each setting stands there, each secret as ****; the condition and the hub's own terms too."""
    async with (
        open_lab(tmp_path, f"sqlite:///{tmp_path}/hub.db", ROUTES, stores=STORES) as lab,
        looking(lab.hub) as browser,
    ):
        page = await browser.get(f"/routes/{name}")
        assert CANARY not in page.source
        assert "retry.schedule 10s, 1m, 10m" in page.text
        if name == "erp":
            assert "headers.Authorization ****" in page.text
            assert "signing_secrets ****" in page.text
            assert "ordered yes" in page.text
        if name == "receipts":
            assert "password ****" in page.text
            assert "to orders@shop.example" in page.text
        if name == "team-slack":
            assert "data.total | default(0) >= 100" in page.text


async def test_paused_and_resumed(lab: Lab) -> None:
    """With the reason, by name; a second time nothing changes; both stand in the audit, on the route and apart."""
    async with looking(lab.hub) as browser:
        page = await browser.post("/routes/one/pause", reason="stocktaking <b>")
        assert "The route is paused." in page.text
        assert "by asha: stocktaking <b>" in page.text
        assert "was paused already" in (await browser.post("/routes/one/pause", reason="again")).text
        await lab.order()
        assert "1 wait" in (await browser.get("/")).text
        going = await browser.post("/routes/one/resume", reason="all is <b> counted")
        assert "The route goes on." in going.text
        assert "asha: resume, all is <b> counted" in going.text
        assert "Nothing held the route up." in (await browser.post("/routes/one/resume")).text
        audit = await browser.get("/audit")
        harmless(audit)
        assert "asha pause route one reason stocktaking <b>" in audit.text
        assert "asha resume route one reason all is <b> counted" in audit.text
        assert (await browser.get("/routes/one")).all("button", formaction="/routes/one/pause")
    assert [(line.who, line.action, line.detail["reason"]) for line in await lab.rows(AUDIT)] == [
        ("asha", "pause", "stocktaking <b>"), ("asha", "resume", "all is <b> counted"),
    ]  # fmt: skip


async def test_a_route_is_resumed_or_paused_with_one_reason(lab: Lab) -> None:
    """One form: paused it offers to go on, with an open breaker both, else to pause; a reason is never needed."""
    offered = {}
    async with looking(lab.hub) as browser:
        for state, way in (("ok", "pause"), ("paused", "resume")):
            page = await browser.get("/routes/one")
            offered[state] = (page.form(f"/routes/one/{way}"), page.all("button", formaction="/routes/one/pause") != [])
            await browser.submit(page, f"/routes/one/{way}")
        await broken(lab)
        page = await browser.get("/routes/one")
        offered["broken"] = (page.form("/routes/one/resume"), page.all("button", formaction="/routes/one/pause") != [])
    assert offered == {
        "ok": ({"reason": [""]}, True), "paused": ({"reason": [""]}, False), "broken": ({"reason": [""]}, True),
    }  # fmt: skip
    assert [(line.action, line.detail["reason"]) for line in await lab.rows(AUDIT)][:2] == [
        ("pause", None), ("resume", None),
    ]  # fmt: skip


async def broken(lab: Lab) -> None:
    await lab.order()
    await lab.finish(await lab.claim_one(), HoldRoute("HTTP 401: no such key", status=401))
    await lab.claim_none()


@pytest.mark.parametrize("path", ["/routes", "/routes/one", "/"])
async def test_a_routes_numbers_lead_to_as_many(lab: Lab, path: str) -> None:
    """Also on a paused route, where what is under way is pending and what waits is held."""
    await lab.orders(3)
    await lab.claim(limit=1)
    await pause_route(lab.hub, "asha", "one", None)
    async with looking(lab.hub) as browser:
        page = await browser.get(path)
        counted = {}
        for status in ("pending", "held"):
            (link,) = {one for one in page.links() if one == f"/deliveries?status={status}&route=one"}
            counted[status] = len((await browser.get(link)).all("input", name="id"))
        assert counted == {"pending": 1, "held": 2}


async def test_a_test_that_passes_lets_an_open_breaker_be_probed(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, CHECKED) as lab, looking(lab.hub) as browser:
        await broken(lab)
        with saying("signed in as <hub>"):
            page = await browser.post("/routes/one/test")
        harmless(page)
        assert "The test passed. signed in as <hub>" in page.text
        assert (await lab.claim_one()).probe
    (line,) = await read_audit(tmp_path, database_url)
    assert (line.who, line.action, line.detail["passed"]) == ("asha", "test", True)


async def read_audit(folder: Path, url: str) -> list[Any]:
    async with open_lab(folder, url, CHECKED) as lab:
        return await lab.rows(AUDIT)


async def test_a_test_that_fails(tmp_path: Path, database_url: str) -> None:
    """The reason without secrets; the breaker waits on."""
    async with open_lab(tmp_path, database_url, CHECKED) as lab, looking(lab.hub) as browser:
        await broken(lab)
        before = (await lab.state()).probe_at
        for wrong, said in (
            (Rejected(f"the key {CANARY}-key is wrong"), "the key **** is wrong"),
            (ValueError(f"{CANARY}-key"), "a fault: ValueError"),
        ):
            with saying(wrong=wrong):
                page = await browser.post("/routes/one/test")
            assert f"The test failed. {said}" in page.text
            assert CANARY not in page.source
        assert (await lab.state()).probe_at == before
        assert CANARY not in str([line.detail for line in await lab.rows(AUDIT)])


async def test_a_result_is_shown_on_its_own_route_alone(tmp_path: Path) -> None:
    routes = CHECKED | {"two": route()}
    async with open_lab(tmp_path, f"sqlite:///{tmp_path}/hub.db", routes) as lab, looking(lab.hub) as browser:
        with saying("all is well"):
            page = await browser.post("/routes/one/test")
        (line,) = await lab.rows(AUDIT)
        assert str(page.url).endswith(f"/routes/one?test={line.id}")
        for path in (f"/routes/two?test={line.id}", "/routes/one?test=aud_none", "/routes/one"):
            assert "all is well" not in (await browser.get(path)).text


async def refuse(lab: Lab, refusal: Refusal, remote: str, store: str = "main", count: int = 1) -> None:
    receiving = Receiving(lab.hub)
    body = to_bytes(sample("order.placed"))
    for _ in range(count):
        receiving.remember(refusal, Incoming(store, body, [(b"x-litekart-signature", b"0" * 64)], remote))
    await receiving.flush()


async def test_the_overview_names_who_is_refused_most(lab: Lab) -> None:
    """In the last hour; by cause and sender."""
    await lab.alive()
    await refuse(lab, UnknownStore("there is no store of that name"), "198.51.100.1", "mian", 2)
    lab.later(3_700)
    await refuse(lab, NotAuthenticated("the signature is missing or wrong"), "203.0.113.9", count=14)
    await refuse(lab, NotAuthenticated("the signature is missing or wrong"), "203.0.113.8", count=2)
    await lab.alive()
    async with looking(lab.hub) as browser:
        page = await browser.get("/")
        assert "Wrong signature, 14 in the last hour from 203.0.113.9, for main" in page.text
        assert "Wrong signature, 2 in the last hour from 203.0.113.8" in page.text
        assert "198.51.100.1" not in page.text


async def test_refused_says_what_is_likely_wrong(lab: Lab) -> None:
    """Both rings, filtered; each with cause and remedy; the other ring stays out."""
    await refuse(lab, NotAuthenticated("the signature is missing or wrong"), "203.0.113.9")
    receiving = Receiving(lab.hub)
    body = b'{"event": "order.placed", "data": 1}'
    with pytest.raises(Refusal):
        await receiving.receive(signed(body))
    async with looking(lab.hub) as browser:
        page = await browser.get("/refused?signed=1")
        assert "must be an object" in page.text
        assert "Wrong signature" not in page.text
        one = await browser.get(next(link for link in page.links() if link.startswith("/refused/")))
        assert "What to do: The details name the field." in one.text
        assert '"order.placed"' in one.text
        page = await browser.get("/refused?signed=0")
        assert "must be an object" not in page.text
        one = await browser.get(next(link for link in page.links() if link.startswith("/refused/")))
        assert "keep both there" in one.text


def signed(body: bytes, secret: str = SECRET) -> Incoming:
    return Incoming("main", body, [(b"x-litekart-signature", sign(body, secret).encode())], "203.0.113.7")


async def test_let_in_after_the_secret_was_added(tmp_path: Path, database_url: str) -> None:
    """First refused again with what is still wrong; with today's config taken, once, and written down."""
    body = to_bytes(sample("order.placed"))
    new = "a secret that was added later"
    async with open_lab(tmp_path, database_url) as lab, looking(lab.hub) as browser:
        receiving = Receiving(lab.hub)
        with pytest.raises(NotAuthenticated):
            await receiving.receive(signed(body, new))
        await receiving.flush()
        path = next(link for link in (await browser.get("/refused")).links() if link.startswith("/refused/"))
        page = await browser.get(path)
        still = await browser.submit(page, f"{path}/let-in", 409)
        assert "still refused: the signature is missing or wrong" in still.text
        assert await lab.rows(EVENT) == []
    both = {"main": {"url": "http://shop.test", "webhook_secrets": [SECRET, new]}}
    async with open_lab(tmp_path, database_url, stores=both) as lab, looking(lab.hub) as browser:
        page = await browser.submit(await browser.get(path), f"{path}/let-in")
        assert "Let in as an event of its own." in page.text
        assert page.url.path.startswith("/events/evt_")
        assert "It was let in as an event." in (await browser.get(path)).text
        assert "let in" in (await browser.get("/refused")).text
        (line,) = await lab.rows(AUDIT)
        assert (line.who, line.action, line.detail["refused"]) == ("asha", "let in", path.rpartition("/")[2])


async def test_pages_of_refused_and_audit(lab: Lab) -> None:
    """Each stands on one page, newest first."""
    await refuse(lab, NotAuthenticated("no"), "203.0.113.9", count=70)
    async with looking(lab.hub) as browser:
        for _ in range(60):
            await lab.write(lambda connection: add_line(connection, lab))
        for path, prefix, count in (("/refused", "/refused/ref_", 70),):
            page = await browser.get(path)
            seen = [link for link in page.links() if link.startswith(prefix)]
            while older := page.all("a", rel="next"):
                page = await browser.get(older[0]["href"])
                seen += [link for link in page.links() if link.startswith(prefix)]
            assert len(seen) == len(set(seen)) == count
            assert seen == sorted(seen, reverse=True)
        first = await browser.get("/audit?by=asha")
        assert "Nobody did anything like that" in first.text
        assert cells(await browser.get("/audit?by=ravi&action=pause")) == 60


def add_line(connection: Any, lab: Lab) -> None:
    connection.execute(
        AUDIT.insert().values(
            id=f"aud_{lab.made:020}", at=lab.hub.now(), who="ravi", action="pause", detail={"route": HOSTILE[0]}
        )
    )
    lab.made += 1


def cells(page: Page) -> int:
    return len(page.all("td", **{"data-label": "Who"}))


async def test_the_overview_puts_first_what_needs_someone(tmp_path: Path, database_url: str) -> None:
    """Dead ones by route and reason with list and preview, the open breaker, what is held; a calm word when none."""
    async with open_lab(tmp_path, database_url) as lab, looking(lab.hub) as browser:
        await lab.alive()
        assert "Nothing." in (await browser.get("/")).text
        rows = await lab.orders(4)
        results: list[Receipt | Outcome] = [
            Rejected("HTTP 422: bad", status=422),
            Rejected("HTTP 422: bad", status=422),
            Hold("ask"),
            Receipt("y"),
        ]
        for claimed, result in zip((await lab.claim()).claims, results, strict=True):
            await lab.finish(claimed, result)
        page = await browser.get("/")
        assert "2 dead on one status_422" in page.text
        assert "1 held on one" in page.text
        listed = await browser.get("/deliveries?status=dead&route=one&error_key=status_422")
        assert "/deliveries?status=dead&route=one&error_key=status_422" in page.links()
        assert rows[0].id in listed.source
        preview = next(link for link in page.links() if link.startswith("/deliveries/preview"))
        assert "Replay 2 deliveries?" in (await browser.get(preview)).text
        await broken(lab)
        assert "The breaker of one is open" in (await browser.get("/")).text
    async with open_lab(tmp_path, database_url) as lab, looking(lab.hub, VIEWER) as browser:
        page = await browser.get("/")
        assert "2 dead on one" in page.text
        assert not [link for link in page.links() if "preview" in link]


async def test_a_route_that_is_behind_is_listed_with_its_age_unless_it_is_paused(lab: Lab) -> None:
    await lab.order()
    lab.later(90)
    await lab.alive()
    async with looking(lab.hub) as browser:
        assert "one is behind Its oldest due delivery waits for 1 min" in (await browser.get("/")).text
        await pause_route(lab.hub, "asha", "one", None)
        assert "is behind" not in (await browser.get("/")).text


def test_every_outcome_that_is_counted_is_drawn() -> None:
    docs = (Path(__file__).parents[2] / "docs" / "operate.md").read_text()
    told = docs.partition("Outcomes of `litekart_hub_attempts_total`:")[2].partition(". No label")[0]
    assert set(re.findall(r"`(\w+)`", told)) == set(charts.OUTCOMES)


async def test_without_a_worker_the_overview_says_so(lab: Lab) -> None:
    async with looking(lab.hub) as browser:
        assert "delivered: start hub up" in (await browser.get("/")).text


NOON = datetime(2026, 11, 23, 12, 34, tzinfo=UTC)
HOURS = charts.hours_until(NOON)


async def test_the_charts_and_their_table(tmp_path: Path, database_url: str) -> None:
    """What was counted in the last 24 hours, by hour; what is older is not."""
    async with open_lab(tmp_path, database_url) as lab, looking(lab.hub) as browser:
        hour = lab.hub.now().replace(minute=0, second=0, microsecond=0)
        rows = [
            (hour, "event", "main", "order.placed", 1_234), (hour - timedelta(hours=23), "event", "main", "<b>", 5),
            (hour - timedelta(hours=24), "event", "main", "order.placed", 9_999),
            (hour, "delivery", "one", "delivered", 7), (hour, "delivery", "two", "delivered", 3),
            (hour, "delivery", "one", "dead", 2), (hour, "refused", "main", "NOT_FOUND", 4),
        ]  # fmt: skip
        names = ("hour", "kind", "name", "label", "count")
        await lab.write(lambda c: c.execute(STAT.insert(), [dict(zip(names, row, strict=True)) for row in rows]))
        page = await browser.get("/")
        harmless(page)
        assert "Events by type 1,239 in 24 hours" in page.text
        assert "Attempts by outcome 12 in 24 hours" in page.text
        assert "order.placed 1,234" in page.text
        assert "10 delivered, 2 dead" in page.text
        assert len(page.all("svg", role="img")) == 2
        counted = await lab.hub.database.read(lambda connection: hourly(connection, hour))
        assert {(one.kind, one.label, one.count) for one in counted} == {
            ("event", "order.placed", 1_234), ("delivery", "delivered", 7), ("delivery", "delivered", 3),
            ("delivery", "dead", 2),
        }  # fmt: skip


def test_bars_stand_on_the_ground_and_fit() -> None:
    counts = [
        HourCount(HOURS[-1], "delivery", "one", "delivered", 30),
        HourCount(HOURS[-1], "delivery", "one", "dead", 9),
    ]
    drawn = charts.outcomes_chart(counts, HOURS)
    (bar,) = [one for one in drawn.bars if one.total]
    ground = charts.HEIGHT - charts.BOTTOM
    assert [piece.style for piece in bar.pieces] == ["o-delivered", "o-dead"]
    assert bar.pieces[0].y + bar.pieces[0].height == pytest.approx(ground)
    assert bar.pieces[1].y + bar.pieces[1].height == pytest.approx(bar.pieces[0].y, abs=0.2)
    assert bar.pieces[1].y >= charts.TOP
    assert drawn.lines[-1] == (charts.TOP, 40)
    assert bar.x + bar.width <= charts.WIDTH


def test_many_types_share_the_last_colour() -> None:
    counts = [HourCount(HOURS[0], "event", "main", f"type{number}", number) for number in range(1, 21)]
    drawn = charts.events_chart(counts, HOURS)
    assert [one.name for one in drawn.series] == [*(f"type{number}" for number in range(20, 13, -1)), charts.REST]
    assert drawn.total == sum(range(21)) == sum(one.total for one in drawn.series)
    assert sum(drawn.bars[0].numbers) == drawn.total


@pytest.mark.parametrize(
    ("number", "top"), [(0, 2), (1, 2), (2, 2), (3, 4), (7, 8), (9, 10), (11, 20), (61, 80), (999, 1000)]
)
def test_the_scale_ends_at_a_round_number(number: int, top: int) -> None:
    assert charts.round_up(number) == top


async def test_a_route_that_is_gone(tmp_path: Path, database_url: str) -> None:
    """Its page and lists are there as long as something waits, and what waits can be cancelled."""
    async with open_lab(tmp_path, database_url, {"one": route(), "old": route()}) as lab:
        await lab.orders(2)
    async with open_lab(tmp_path, database_url) as lab, looking(lab.hub) as browser:
        page = await browser.get("/")
        assert "2 wait for old" in page.text
        assert "Nothing goes along it any more" in (await browser.get("/routes/old")).text
        preview = await browser.get(next(link for link in page.links() if "all=cancel" in link))
        assert "2 cancelled." in (await browser.submit(preview, "/deliveries/cancel")).text
        assert "wait for old" not in (await browser.get("/")).text
        assert await lab.rows(ROUTE_STATE)
