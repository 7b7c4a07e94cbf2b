"""The Slack connector: the kit on both its ways, Slack's rules, and what each of Slack's refusals leads to."""

from typing import Any

from connectors.slack import Slack
from hub.testing import ConnectorTests, SlackServer

SECRET = "hooks-canary-XXXXXXXX"
TOKEN = "xoxb-canary-token"


class TestSlackWebhook(ConnectorTests):
    connector_class = Slack

    def settings(self, url: str) -> dict[str, Any]:
        return {"webhook_url": f"{url}/services/T0000000/B0000000/{SECRET}"}

    def counterpart(self) -> SlackServer:
        return SlackServer(webhook_secret=SECRET)


class TestSlackBot(ConnectorTests):
    connector_class = Slack

    def settings(self, url: str) -> dict[str, Any]:
        return {"token": TOKEN, "channel": "C0123456", "api_url": f"{url}/api"}

    def counterpart(self) -> SlackServer:
        return SlackServer(token=TOKEN)

    def sent(self, counterpart: SlackServer) -> list[bytes]:
        """Messages alone: the check's auth.test is none."""
        return [content for content in super().sent(counterpart) if b"chat.postMessage" in content]
