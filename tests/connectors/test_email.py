"""The mail connector: the kit over STARTTLS, the message itself, and what each reply of a server leads to."""

import ssl
from pathlib import Path
from typing import Any

from connectors.email import Email
from hub.testing.smtp import MailConnectorTests, MailServer

TLS = Path(__file__).parent / "tls"


def server_tls() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(TLS / "server.pem")
    return context


class TestEmail(MailConnectorTests):
    connector_class = Email

    def settings(self, url: str) -> dict[str, Any]:
        return {
            "host": "127.0.0.1",
            "port": int(url.rpartition(":")[2]),
            "username": self.user,
            "password": self.password,
            "from": "shop@example.test",
            "to": ["ops@example.test"],
            "ca_file": str(TLS / "ca.pem"),
        }

    def counterpart(self) -> MailServer:
        return MailServer(tls=server_tls(), users={self.user: self.password})
