"""A destination that refuses, and the people who are told of it: in Slack, and by mail."""

from pathlib import Path
from typing import Any

from hub.testing import Answer, HttpSink, SlackServer
from hub.testing.smtp import MailServer
from tests.e2e.ledger import PATIENCE
from tests.e2e.shop import open_shop
from tests.hubs import route


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
            assert posted.text.startswith("1 delivery on route orders died since ")
            assert "Order: ord_1042." in posted.text
            assert posted.blocks[0]["text"]["text"] == "litekart-hub: deliveries are dead on orders"
            link = "https://hub.example/deliveries?status=dead&route=orders"
            subject, content = str(written.message["Subject"]), written.message.get_body(("plain",))
            assert subject.startswith("1 delivery on route orders died since ")
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
