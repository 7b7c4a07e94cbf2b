"""A destination that refuses, and the people who are told of it: in Slack, and by mail."""

import re
from pathlib import Path
from typing import Any

import pytest

from hub.alerts import raise_alerts
from hub.connector import Context, Event, Receipt
from hub.errors import Rejected
from hub.store import ALERT, DELIVERY, EVENT
from hub.testing import Answer, HttpSink, SlackServer
from hub.testing.smtp import MailServer
from hub.worker import running
from tests.e2e.ledger import PATIENCE
from tests.e2e.shop import open_shop
from tests.hubdb import Lab, Puppet, document, open_lab
from tests.hubdb import route as puppet
from tests.hubs import route
from tests.servers import eventually


def mail_to(server: MailServer) -> dict[str, Any]:
    settings = {"host": "127.0.0.1", "port": server.port, "security": "none", "from": "hub@shop.example"}
    return {"connector": "email", "events": ["none"], "settings": settings | {"to": ["ops@shop.example"]}}


async def test_what_dies_is_told_in_slack_and_by_mail(tmp_path: Path) -> None:
    async with HttpSink() as sink, SlackServer() as slack, MailServer() as mail:
        sink.default = Answer(410)
        chat = {"connector": "slack", "events": ["none"], "settings": {"webhook_url": slack.webhook_url}}
        routes = {"orders": route(sink.url), "chat": chat, "mail": mail_to(mail)}
        dashboard = {"port": 0, "public_url": "https://hub.example"}
        async with open_shop(tmp_path, routes, alerts=["chat", "mail"], dashboard=dashboard) as shop:
            event = await shop.place("orders", orderId="ord_1042")
            await shop.became(event, "dead", "orders")
            (posted,) = await slack.messages.wait(1, PATIENCE)
            (written,) = await mail.wait(1, PATIENCE)
            assert posted.text.startswith("1 delivery on route orders is dead since ")
            assert "Order: ord_1042." in posted.text
            assert posted.blocks[0]["text"]["text"] == "litekart-hub: deliveries are dead on orders"
            link = "https://hub.example/deliveries?status=dead&route=orders"
            subject, content = str(written.message["Subject"]), written.message.get_body(("plain",))
            assert subject.startswith("1 delivery on route orders is dead since ")
            assert content is not None
            assert link in content.get_content()
            assert "What to do: Mend the cause, then `hub replay --status dead --route orders`" in content.get_content()
            listed = (await shop.run("events", "--store", "hub"))["events"]
            assert [(one["type"], one["entity"]) for one in listed] == [("hub.delivery.dead", "route:orders")]
            for told in ("chat", "mail"):
                await shop.became(listed[0]["id"], "delivered", told)
            again = await shop.place("orders", orderId="ord_1043")
            await shop.became(again, "dead", "orders")
        assert (len(slack.messages), len(mail.mails)) == (1, 1)


async def test_the_rest_of_the_hour_is_one_message_and_what_becomes_of_alerts_is_told_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker at work, whose clock goes forward; one of the two ways of the alerts refuses them all."""

    async def refuse(event: Event, ctx: Context) -> Receipt:
        raise Rejected("HTTP 410: gone")

    monkeypatch.setitem(Puppet.acts, "orders", refuse)
    async with HttpSink() as sink, SlackServer() as slack:
        sink.default = Answer(410)
        chat = {"connector": "slack", "events": ["none"], "settings": {"webhook_url": slack.webhook_url}}
        routes = {"orders": puppet("Puppet"), "chat": chat, "broken": route(sink.url, events=["none"])}
        more = {"dashboard": {"port": 0, "public_url": "https://hub.example"}, "network": {"allow": ["127.0.0.1:*"]}}
        url = f"sqlite:///{tmp_path}/hub.db"
        async with open_lab(tmp_path, url, routes, alerts=["chat", "broken"], **more) as lab, running(lab.hub):

            async def dead(count: int, on: str) -> bool:
                return len(await lab.rows(DELIVERY, DELIVERY.c.status == "dead", DELIVERY.c.route == on)) == count

            await lab.keep(document(orderId="ord_1041"))
            await slack.messages.wait(1, PATIENCE)
            for number in (1042, 1043, 1044):
                await lab.keep(document(orderId=f"ord_{number}"))
            await eventually(lambda: dead(4, "orders"), PATIENCE)
            # All are put by before the hour is over.
            await eventually(lambda: told_of(lab, 3), PATIENCE)
            lab.later(3600)
            first, summary = await slack.messages.wait(2, PATIENCE)
            assert first.text.startswith("1 delivery on route orders is dead since ")
            says = r"3 more deliveries on route orders died since \d\d:\d\d UTC: HTTP 410: gone\. Orders: (.*?)\. Open "
            assert sorted(re.findall(says, summary.text)[0].split(", ")) == ["ord_1042", "ord_1043", "ord_1044"]
            assert "https://hub.example/deliveries?status=dead&amp;route=orders" in summary.text
            await eventually(lambda: dead(2, "broken"), PATIENCE)
            assert await raise_alerts(lab.hub) == 0
            kinds = [(row.type, row.entity) for row in await lab.rows(EVENT, EVENT.c.store == "hub")]
            assert kinds == [("hub.delivery.dead", "route:orders")] * 2


async def told_of(lab: Lab, count: int) -> bool:
    return [row._mapping["count"] for row in await lab.rows(ALERT)] == [count]
