"""The webhook connector: the kit, what it sends, and how it signs."""

from typing import Any

from connectors.webhook import Webhook
from hub.testing import ConnectorTests


class TestWebhook(ConnectorTests):
    connector_class = Webhook
    changing_headers = frozenset({"webhook-timestamp", "webhook-signature"})

    def settings(self, url: str) -> dict[str, Any]:
        return {
            "url": f"{url}/hooks/canary-in-the-path",
            "headers": {"Authorization": "Bearer canary-in-a-header"},
            "signing_secrets": ["whsec_Y2FuYXJ5LWluLWEtc2VjcmV0", "canary-plain-secret"],
        }
