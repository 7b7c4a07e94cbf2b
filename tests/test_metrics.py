"""/metrics: its names and labels, numbers that are the database's, and who may see them."""

from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Connection

from hub import catch_up
from hub.connector import Receipt
from hub.errors import Hold, HoldRoute, Outcome, Rejected, TryAgain
from hub.replay import pause_route
from hub.store.catch_up import polled
from hub.store.refusals import count_refusals
from hub.store.stats import add_counts, hour_of
from hub.web.metrics import MEASURES
from tests import hubdb
from tests.browsers import browser, dashboard_of, user
from tests.hubdb import SECRET, Lab, document, open_lab, route

shared_url, database_url = hubdb.shared_url, hubdb.database_url
TOKEN = "the metrics token of these tests".replace(" ", "-")
ROUTES = {name: route() for name in ("one", "two", "odd")} | {"still": route(events=["none"])}
ENDS: list[Receipt | Outcome] = [
    Receipt("done"), Receipt("done"), TryAgain("a reason-canary"), Rejected("a reason-canary"), Hold("a reason-canary"),
]  # fmt: skip
# A store that is caught up on.
KEYED = {"main": {"url": "http://shop.test", "webhook_secrets": [SECRET], "api_key": "the-key-of-these-tests"}}
Labels = dict[str, str]


@pytest.fixture
async def lab(tmp_path: Path, database_url: str) -> AsyncIterator[Lab]:
    dashboard = {"port": 0, "users": [user("asha")], "metrics_token": TOKEN}
    server = {"port": 0, "trusted_proxies": ["127.0.0.1"]}
    async with open_lab(tmp_path, database_url, ROUTES, dashboard=dashboard, server=server, stores=KEYED) as made:
        made.stand_still()
        yield made


async def scraped(lab: Lab) -> list[tuple[str, Labels, float]]:
    """Every sample of one scrape: name, labels, number."""
    async with dashboard_of(lab) as url, browser(url) as nobody:
        answer = await nobody.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(answer.text)
    return [(one.name, one.labels, one.value) for family in families for one in family.samples]


def numbers(samples: list[tuple[str, Labels, float]], name: str) -> dict[Any, float]:
    """The samples of that name: by the values of their labels, in the order in which MEASURES has them."""
    (measure,) = (one for one in MEASURES if name in one.samples)
    return {
        tuple(labels[label] for label in measure.labels): number for found, labels, number in samples if found == name
    }


async def polled_before(lab: Lab, seconds: float) -> None:
    """The store was polled so many seconds ago."""

    def polls(connection: Connection) -> None:
        at = lab.hub.now() - timedelta(seconds=seconds)
        for resource in catch_up.RESOURCES:
            polled(connection, at, "main", resource, at)

    await catch_up.begin(lab.hub)
    await lab.write(polls)


async def some_of_everything(lab: Lab) -> None:
    """Events of types that are known and that are not, attempts with every end, refusals, routes in every state."""
    types = ["order.placed", "order.placed", "order.updated", "made.up", "made.otherwise"]
    events = [document(kind, orderId=f"ord_canary_{number}") for number, kind in enumerate(types)]
    await lab.deliver_events(*events)
    for claimed, result in zip((await lab.claim("one")).claims, ENDS, strict=True):
        await lab.finish(claimed, result)
    await lab.finish((await lab.claim("two")).claims[0], HoldRoute("a reason-canary"))
    await pause_route(lab.hub, "asha", "odd", "a reason-canary")
    refusals = Counter({("main", "VALIDATION_ERROR"): 2, ("?", "NOT_FOUND"): 3})
    await lab.write(lambda connection: count_refusals(connection, lab.hub.now(), [refusals]))
    caught = {(hour_of(lab.hub.now()), "caught_up", "main", "order.placed"): 3}
    await lab.write(lambda connection: add_counts(connection, caught))
    await polled_before(lab, 10)
    lab.later(4)


async def test_a_scrape_has_the_listed_names_with_the_listed_labels(lab: Lab) -> None:
    await some_of_everything(lab)
    found = {(name, frozenset(labels)) for name, labels, _ in await scraped(lab)}
    assert found == {(name, frozenset(measure.labels)) for measure in MEASURES for name in measure.samples}


async def test_the_numbers_are_those_of_the_database(lab: Lab) -> None:
    await some_of_everything(lab)
    await lab.keep(document(orderId="ord_waiting"))
    samples = await scraped(lab)
    of = {name: numbers(samples, name) for measure in MEASURES for name in measure.samples}
    assert of["litekart_hub_events_total"] == {
        ("main", "order.placed"): 2, ("main", "order.updated"): 1, ("main", "other"): 2,
    }  # fmt: skip
    assert of["litekart_hub_refused_total"] == {("main", "VALIDATION_ERROR"): 2, ("?", "NOT_FOUND"): 3}
    ended = {name: number for (route, name), number in of["litekart_hub_attempts_total"].items() if route == "one"}
    assert ended == {"delivered": 2, "try_again": 1, "dead": 1, "held": 1}
    assert of["litekart_hub_attempt_seconds_count"]["one",] == len(ENDS)
    assert of["litekart_hub_attempt_seconds_sum"]["one",] == pytest.approx(0.007 * len(ENDS))
    now = {status: of["litekart_hub_deliveries"]["one", status] for status in ("pending", "held", "dead")}
    assert now == {"pending": 1, "held": 1, "dead": 1}
    assert of["litekart_hub_oldest_due_seconds"]["still",] == 0
    assert of["litekart_hub_oldest_due_seconds"]["odd",] >= 4
    assert of["litekart_hub_waiting_for_fan_out"] == {(): 1}
    assert {key for key, number in of["litekart_hub_route_state"].items() if number} == {
        ("one", "ok"), ("two", "broken"), ("odd", "paused"), ("still", "ok"),
    }  # fmt: skip
    assert of["litekart_hub_caught_up_total"] == {("main", "order.placed"): 3}
    assert of["litekart_hub_store_polled_seconds"] == {("main",): 14}
    assert of["litekart_hub_workers"] == {(): 1}
    assert of["litekart_hub_database_bytes"][()] > 50_000


async def test_a_route_that_is_gone_and_a_worker_that_is_silent_show(lab: Lab) -> None:
    await some_of_everything(lab)
    del lab.hub.config.routes["two"]
    lab.later(60)
    samples = await scraped(lab)
    assert numbers(samples, "litekart_hub_route_state")["two", "gone"] == 1
    assert numbers(samples, "litekart_hub_workers") == {(): 0}


async def test_trouble_of_storage_and_redis_shows(lab: Lab) -> None:
    well = await scraped(lab)
    lab.hub.writer.trouble, lab.hub.bells.away_since = "the disk is full", lab.hub.now()
    ill = await scraped(lab)
    for name in ("litekart_hub_storage_ok", "litekart_hub_redis_up"):
        assert (numbers(well, name), numbers(ill, name)) == ({(): 1}, {(): 0})


async def test_nothing_of_a_person_and_no_secret_is_in_them(lab: Lab) -> None:
    await some_of_everything(lab)
    async with dashboard_of(lab) as url, browser(url) as nobody:
        text = (await nobody.get("/metrics")).text
    assert "litekart_hub_events_total" in text
    assert [word for word in ("canary", "made.up", "asha", TOKEN, hubdb.SECRET) if word in text] == []


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
async def test_from_elsewhere_they_need_the_token(lab: Lab, scheme: str) -> None:
    async with dashboard_of(lab) as url, browser(url, X_Forwarded_For="203.0.113.9") as other:
        refused = await other.get("/metrics")
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        for wrong in (
            "",
            scheme,
            f"{scheme} {TOKEN}x",
            f"{scheme} {TOKEN[:-1]}",
            f"Basic {TOKEN}",
            TOKEN,
        ):
            assert (await other.get("/metrics", headers={"Authorization": wrong})).status_code == 401, wrong
        # As bytes: what is not ASCII is wrong too, and no fault.
        assert (await other.get("/metrics", headers={b"Authorization": b"Bearer \xff\xe9"})).status_code == 401
        allowed = await other.get("/metrics", headers={"Authorization": f"{scheme} {TOKEN}"})
        assert (allowed.status_code, "litekart_hub_workers" in allowed.text) == (200, True)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "127.0.0.1"},
        {"X-Real-IP": "203.0.113.9"},
        {"Via": "1.1 Caddy"},
        {"Forwarded": "for=127.0.0.1"},
        {"Host": "hub.example.com"},
        {"Host": "[bad"},
    ],
    ids=str,
)
async def test_what_a_proxy_or_another_site_brings_to_this_machine_is_not_local(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    """Also where the proxy is not listed as trusted, so that every request seems to be from here."""
    async with (
        open_lab(tmp_path, f"sqlite:///{tmp_path}/hub.db", dashboard={"port": 0}) as lab,
        dashboard_of(lab) as url,
        browser(url) as nobody,
    ):
        assert (await nobody.get("/metrics")).status_code == 200
        assert (await nobody.get("/metrics", headers=headers)).status_code in {400, 401}
        # Without a token in the config none fits.
        none = headers | {"Authorization": "Bearer None"}
        assert (await nobody.get("/metrics", headers=none)).status_code in {400, 401}


@pytest.mark.parametrize("token", ["fifteen-letters", "with a space in the middle", "mit-ümlaut-darin-1234"])
def test_a_token_that_is_short_or_cannot_be_sent_is_refused(tmp_path: Path, token: str) -> None:
    with pytest.raises(ValueError, match="metrics_token"):
        hubdb.config_of(tmp_path, "sqlite:///hub.db", {}, dashboard={"metrics_token": token})
