"""A mail server to send to: aiosmtpd in the caller's loop, with TLS, sign-in and scripted replies.

Needs the extra `testing` (aiosmtpd), so it is imported by name: `from hub.testing.smtp import MailServer`.
"""

import asyncio
import logging
import ssl
from collections import defaultdict, deque
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from typing import Any, ClassVar, Self

from aiosmtpd.smtp import MISSING, SMTP, AuthResult, LoginPassword

from hub.testing.conformance import ConnectorTests
from hub.testing.sink import Inbox

DROP = "drop"
HANG = "hang"
STAGES = ("CONNECT", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "QUIT")


@dataclass(frozen=True)
class Mail:
    """One message as it was taken: the envelope, the parsed message, its bytes, who had signed in."""

    sender: str
    to: tuple[str, ...]
    message: EmailMessage
    content: bytes
    user: str | None


@dataclass
class Visit:
    """One connection: what was asked in it, in order (`AUTH`, `MAIL`, …), and the last content read."""

    commands: list[str] = field(default_factory=list)
    content: bytes = b""


class MailServer:
    """`async with MailServer() as server:` listens on a free port of 127.0.0.1 (`server.port`).

    `tls` offers STARTTLS, with `implicit` TLS from the first byte. `users` (name to password) makes signing in
    a duty. `reply(stage, text)` lines up a reply for the next time that stage is reached (STAGES; DROP cuts the
    connection there, HANG never answers; for DATA: after the message was read). `refuse(address, text)` holds
    for ever. Taken messages are in `mails`, every connection in `visits`.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        implicit: bool = False,
        users: dict[str, str] | None = None,
        port: int = 0,
    ) -> None:
        self.mails: Inbox[Mail] = Inbox()
        self.visits: list[Visit] = []
        self.users = users or {}
        self.port = port
        self.tls = tls
        self.implicit = implicit
        self._replies: dict[str, deque[str]] = defaultdict(deque)
        self._refused: dict[str, str] = {}
        self._sessions: set[_Session] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    def reply(self, stage: str, *texts: str) -> None:
        assert stage in STAGES, f"{stage} is none of {STAGES}"
        self._replies[stage].extend(texts)

    def refuse(self, address: str, text: str) -> None:
        self._refused[address] = text

    async def wait(self, count: int, timeout: float = 10.0) -> list[Mail]:
        return await self.mails.wait(count, timeout)

    async def __aenter__(self) -> Self:
        # aiosmtpd warns of its own use of its own deprecated attribute at every sign-in.
        logging.getLogger("mail.log").setLevel(logging.ERROR)
        loop = asyncio.get_running_loop()
        wrapped = self.tls if self.implicit else None
        self._server = await loop.create_server(lambda: _Session(self), "127.0.0.1", self.port, ssl=wrapped)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: Any) -> None:
        assert self._server is not None
        self._server.close()
        tasks = [task for session in list(self._sessions) if (task := session.end())]
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _scripted(self, stage: str, address: str = "") -> str | None:
        if self._replies[stage]:
            return self._replies[stage].popleft()
        return self._refused.get(address)


class _Session(SMTP):
    """One connection. The hooks are aiosmtpd's; CONNECT, which has none, is caught where replies leave."""

    def __init__(self, server: MailServer) -> None:
        self._mail_server = server
        self._visit = Visit()
        self._greeted = False
        super().__init__(
            self,
            hostname="mail.example.test",
            ident="SMTP",
            loop=asyncio.get_running_loop(),
            tls_context=None if server.implicit else server.tls,
            require_starttls=server.tls is not None and not server.implicit,
            auth_require_tls=False,
            auth_exclude_mechanism=() if server.users else ("LOGIN", "PLAIN"),
            authenticator=self._authenticate_user,
        )

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if self not in self._mail_server._sessions:
            self._mail_server._sessions.add(self)
            self._mail_server.visits.append(self._visit)

    def connection_lost(self, error: Exception | None) -> None:
        self._mail_server._sessions.discard(self)
        super().connection_lost(error)

    def end(self) -> "asyncio.Task[None] | None":
        """Cuts the connection; the task that served it."""
        task: asyncio.Task[None] | None = self._handler_coroutine
        if task is not None:
            task.cancel()
        self._cut()
        return task

    def _cut(self) -> None:
        for transport in (self.transport, self._original_transport):
            if isinstance(transport, asyncio.WriteTransport):
                transport.abort()

    async def push(self, status: Any) -> None:
        if not self._greeted:
            self._greeted = True
            status = await self._answer("CONNECT", status)
        await super().push(status)

    async def handle_EHLO(
        self, server: Any, session: Any, envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        scripted = await self._answer("EHLO", None)
        if not self._mail_server.users:
            responses = [line for line in responses if not line.startswith("250-AUTH")]
        return [scripted] if scripted else responses

    async def handle_AUTH(self, server: Any, session: Any, envelope: Any, args: list[str]) -> Any:
        return await self._answer("AUTH", MISSING)

    async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        signed_in = session.authenticated or not self._mail_server.users
        status: str = await self._answer("MAIL", "250 OK" if signed_in else "530 5.7.0 Authentication required")
        if status.startswith("2"):
            envelope.mail_from = address
            envelope.mail_options.extend(options)
        return status

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        status: str = await self._answer("RCPT", "250 OK", address)
        if status.startswith("2"):
            envelope.rcpt_tos.append(address)
        return status

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        content = bytes(envelope.original_content)
        self._visit.content = content
        status: str = await self._answer("DATA", "250 2.0.0 Ok: queued as 4F2A")
        if status.startswith("2"):
            message = BytesParser(policy=default).parsebytes(content)
            assert isinstance(message, EmailMessage)
            mail = Mail(envelope.mail_from, tuple(envelope.rcpt_tos), message, content, session.auth_data)
            await self._mail_server.mails.add(mail)
        return status

    async def handle_QUIT(self, server: Any, session: Any, envelope: Any) -> str:
        status: str = await self._answer("QUIT", "221 Bye")
        return status

    async def _answer(self, stage: str, usual: Any, address: str = "") -> Any:
        """The scripted reply of a stage, else the usual one; DROP and HANG do not come back."""
        self._visit.commands.append(stage)
        scripted = self._mail_server._scripted(stage, address)
        if scripted == DROP:
            self._cut()
        if scripted in {DROP, HANG}:
            await asyncio.get_running_loop().create_future()
        return usual if scripted is None else scripted

    def _authenticate_user(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        user = data.login.decode("utf-8", "replace")
        if self._mail_server.users.get(user, "").encode() != data.password:
            return AuthResult(success=False, handled=False)
        return AuthResult(success=True, auth_data=user)


class MailConnectorTests(ConnectorTests):
    """The kit for connectors that speak SMTP: each situation as the reply that stands for it.

    The server asks for `user` and `password`; `settings` gets `smtp://127.0.0.1:<port>`.
    """

    user: ClassVar[str] = "hub@example.test"
    password: ClassVar[str] = "smtp-canary-password"
    replies: ClassVar[dict[str, tuple[str, str]]] = {
        "200": ("DATA", "250 2.0.0 Ok"),
        "302": ("RCPT", "451 4.4.4 Unable to route just now"),
        "400": ("DATA", "554 5.6.0 Message refused"),
        "401": ("AUTH", "535 5.7.8 Authentication credentials invalid"),
        "403": ("DATA", "450 4.7.1 Not accepted from you just now"),
        "404": ("RCPT", "450 4.1.1 Mailbox not known just now"),
        "409": ("DATA", "452 4.3.1 Insufficient storage"),
        "410": ("RCPT", "550 5.1.1 No such user"),
        "422": ("DATA", "550 5.6.1 Content not supported"),
        "429": ("RCPT", "450 4.2.1 Too many messages, try later"),
        "500": ("DATA", "451 4.3.0 Local error in processing"),
        "503": ("MAIL", "421 4.3.2 Shutting down"),
        "timeout": ("DATA", HANG),
        "dropped": ("DATA", DROP),
    }

    def counterpart(self) -> MailServer:
        return MailServer(users={self.user: self.password})

    def arrange(self, counterpart: MailServer, situation: str) -> None:
        counterpart.reply(*self.replies[situation])

    def sent(self, counterpart: MailServer) -> list[bytes]:
        return [visit.content for visit in counterpart.visits if _tried(visit)]


def _tried(visit: Visit) -> bool:
    """It came to send: it began a mail, or went after its sign-in had failed."""
    return "MAIL" in visit.commands or visit.commands[-1:] == ["AUTH"]
