"""What a route fetches, seen at the destinations: a real hub, the store's double, a mail server and a Slack."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from hub.config import load_config
from hub.process import Caller, local_hub
from hub.testing import HttpSink, SlackServer
from hub.testing.smtp import Mail, MailServer
from hub.testing.store import API_KEY, StoreApi
from tests.e2e.ledger import PATIENCE
from tests.hubs import SECRET, config_of, hub_process, route, write_config
from tests.servers import eventually

FETCHED = ["order", "customer"]
# What no order of the double reaches.
PICKY = "order.total >= 1000000"


def routes_to(mail: MailServer, slack: SlackServer, sink: HttpSink) -> dict[str, Any]:
    mailing = {"host": "127.0.0.1", "port": mail.port, "security": "none", "from": "a@shop.test", "to": ["b@shop.test"]}
    events = {"events": ["order.placed"], "timeout": "30s", "with": FETCHED}
    return {
        "mail": {"connector": "email", "settings": mailing} | events,
        "slack": {"connector": "slack", "settings": {"webhook_url": slack.webhook_url}} | events,
        "picky": route(sink.url) | events | {"when": PICKY},
    }


@asynccontextmanager
async def told_by(folder: Path, store: StoreApi, routes: dict[str, Any]) -> AsyncIterator[Caller]:
    """A hub to which the double sends its webhooks."""
    shop = {
        "url": store.url, "api_key": API_KEY, "webhook_secrets": [SECRET],
        "admin_url": "https://shop.test/admin/orders/{id}",
    }  # fmt: skip
    config = write_config(folder, config_of(routes, stores={"main": shop}))
    async with hub_process(config, "up") as hub, local_hub(load_config(config)) as ask:
        await store.configure(webhooks=f"{hub.url}/webhooks/main", secret=SECRET)
        yield ask


async def ended(ask: Caller, entity: str, route: str, outcome: str) -> dict[str, Any]:
    """The delivery of that order on that route, once its attempt ended so."""

    async def found() -> Any:
        listed = (await ask("deliveries", {"entity": entity, "route": route}))["deliveries"]
        whole = [await ask("show", {"id": one["id"]}) for one in listed]
        return next((one for one in whole if [end["outcome"] for end in one["attempted"]] == [outcome]), None)

    one: dict[str, Any] = await eventually(found, PATIENCE, f"{route}: {entity} did not end as {outcome}")
    return one


def part_of(mail: Mail, kind: str) -> str:
    part = mail.message.get_body((kind,))
    assert part is not None
    return str(part.get_content())


async def test_messages_tell_what_the_store_knows_and_conditions_turn_on_it(tmp_path: Path) -> None:
    async with StoreApi(orders=3) as store, MailServer() as mail, SlackServer() as slack, HttpSink() as sink:
        async with told_by(tmp_path, store, routes_to(mail, slack, sink)) as ask:
            order = await store.place_order()
            (written,), (posted,) = await mail.mails.wait(1, PATIENCE), await slack.messages.wait(1, PATIENCE)
            text, html = part_of(written, "plain"), part_of(written, "html")
            blocks = str(posted.blocks)
            name, total = f"{order['first_name']} {order['last_name']}", f"{order['total']:,.2f} EUR"
            summary = f"New order {order['order_no']} from {name}: {total}"
            link = f"https://shop.test/admin/orders/{order['id']}"
            assert (written.message["Subject"], posted.text) == (summary, summary)
            for shown in (text, blocks):
                for line in order["line_items"]:
                    assert f"{line['quantity']} × {line['name']}" in shown
                for part in (order["email"], total, link):
                    assert part in shown
            assert f'<a href="{link}"' in html

            entity = f"order:{order['id']}"
            skipped = await ended(ask, entity, "picky", "skip")
            reason = f"when: order.total is {order['total']} ({PICKY})"
            assert (skipped["status"], skipped["last_error"]) == ("skipped", reason)
            # Once for all three, unless this machine takes seconds between one route and the next.
            assert len(await store.calls_to("GET", f"*/orders/{order['id']}")) < 3
            assert len(await store.calls_to("GET", f"*/customers/{order['customer_id']}")) < 3

            # Now the store takes no more: the condition waits for the next hour, the messages do not.
            await store.configure(limit=1)
            order = await store.place_order()
            entity = f"order:{order['id']}"
            waiting = await ended(ask, entity, "picky", "not_now")
            assert (waiting["status"], waiting["budget"] - waiting["attempts"]) == ("pending", 6)
            sent = [await ended(ask, entity, name, "delivered") for name in ("mail", "slack")]
            assert all("; without the order: " in one["attempted"][0]["note"] for one in sent)
            (_, written), (_, posted) = await mail.mails.wait(2, PATIENCE), await slack.messages.wait(2, PATIENCE)
            bare = f"New order {order['id']} from {order['customer_id']}: {order['total']:,.2f}"
            assert (written.message["Subject"], posted.text) == (bare, bare)
        assert len(sink.received) == 0
