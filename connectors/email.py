"""Sends mail over SMTP: one message for each event, text and HTML.

SMTP forgets nothing and compares nothing: the same Message-ID twice is two mails. So the delivery's effect is
recorded the moment the server has taken the message, before the connection is closed in good manners.
"""

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator
from email.message import EmailMessage
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import aiosmtplib
from pydantic import ConfigDict, Field, field_validator, model_validator

from connectors.mail_message import HTML, SUBJECT, TEXT, Envelope, build, is_address
from connectors.messages import clean, message_of
from connectors.reach import SHARE, connected, no_tls, tls_context
from hub.connector import (
    Connector,
    Context,
    Event,
    HoldRoute,
    Preview,
    Receipt,
    Rejected,
    Secret,
    Template,
    TemplateError,
    TryAgain,
)  # fmt: skip

DAY = 86400.0
GOODBYE = 2.0
ENHANCED = re.compile(r"([45])\.\d{1,3}\.\d{1,3}(?!\d)")
DAILY_LIMIT = "5.4.5"
UNKNOWN_MECHANISM = 504
SMTP_WRONG_KEY = {530, 534, 535}
SMTP_CLOSING = 421
SMTP_TOO_LARGE = 552
DOMAIN = r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,98}[A-Za-z0-9])?$"


class Email(Connector):
    """Sends a mail about each event through a mail server."""

    class Settings(Connector.Settings):
        model_config = ConfigDict(hide_input_in_errors=True)

        host: Annotated[str, Field(description="The mail server.", min_length=1)]
        port: Annotated[int, Field(description="587 for STARTTLS, 465 for TLS.", ge=1, le=65535)] = 587
        security: Annotated[
            Literal["starttls", "tls", "none"],
            Field(description="none only on a network of your own: mail and password go in the clear."),
        ] = "starttls"
        username: Annotated[str | None, Field(description="The account; left out, none is used.")] = None
        password: Annotated[Secret | None, Field(description="Its password, often an app password.")] = None
        sender: Annotated[str, Field(alias="from", description="The address it comes from.")]
        from_name: Annotated[str, Field(description="The name beside it.")] = "Litekart"
        to: Annotated[tuple[str, ...], Field(description="Who gets it.", min_length=1, max_length=50)]
        reply_to: Annotated[
            Template | None,
            Field(
                description="Where answers go, such as {{ data.customer.email | default('', true) }}; left out if none."
            ),
        ] = None
        message_id_domain: Annotated[
            str | None, Field(description="The domain of Message-IDs; left out, the sender's.", pattern=DOMAIN)
        ] = None
        subject: Annotated[Template, Field(description="The subject.")] = Template(SUBJECT)
        text: Annotated[Template, Field(description="The text part.")] = Template(TEXT)
        html: Annotated[Template, Field(description="The HTML part; values are escaped.")] = Template(HTML)
        ca_file: Annotated[
            Path | None, Field(description="Trust the certificates in this file instead of the system's.")
        ] = None

        @field_validator("sender")
        @classmethod
        def _one_address(cls, address: str) -> str:
            if not is_address(address):
                raise ValueError("must be one plain address such as shop@example.com")
            return address

        @field_validator("to")
        @classmethod
        def _addresses(cls, to: tuple[str, ...]) -> tuple[str, ...]:
            for address in to:
                if not is_address(address):
                    raise ValueError(f"{address!r} is no plain address such as ops@example.com")
            once: dict[tuple[str, str], str] = {}
            for address in to:
                local, _, domain = address.rpartition("@")
                once.setdefault((local, domain.lower()), address)
            return tuple(once.values())

        @model_validator(mode="after")
        def _complete(self) -> Self:
            if (self.username is None) != (self.password is None):
                raise ValueError("username and password belong together")
            return self

        def doubts(self) -> list[str]:
            if (self.port, self.security) == (465, "starttls"):
                return ["port 465 usually takes TLS from the first byte: set security: tls, or port: 587 for starttls"]
            if (self.port, self.security) == (587, "tls"):
                return ["port 587 usually begins in the clear: set security: starttls, or port: 465 for tls"]
            return []

        @property
        def domain(self) -> str:
            return self.message_id_domain or self.sender.rpartition("@")[2]

    settings: Settings

    async def deliver(self, event: Event, ctx: Context) -> Receipt:
        if done := await ctx.effects.get("message"):
            return Receipt(f"already sent: {done.value}")
        reply_to, note = self._reply_to(event, ctx)
        message = self._message(event, ctx, reply_to)
        async with self._session(ctx) as client:
            refused, answer = await self._hand_over(client, message)
            await ctx.effects.put("message", message["Message-ID"])
        return Receipt(self._done(refused) + note, answer=answer)

    async def check(self, ctx: Context) -> str:
        """Connects, secures the line, signs in and says NOOP. Sends nothing."""
        async with self._session(ctx) as client:
            await client.noop()
        who = f" as {self.settings.username}" if self.settings.username else " without signing in"
        return f"{self._place} takes mail{who}"

    async def preview(self, event: Event, ctx: Context) -> Preview:
        reply_to, note = self._reply_to(event, ctx)
        message = self._message(event, ctx, reply_to)
        html = message.get_body(("html",))
        assert html is not None
        title = f"Mail to {', '.join(self.settings.to)}: {message['Subject']}{note}"
        return Preview(title, html.get_content(), "text/html")

    def _reply_to(self, event: Event, ctx: Context) -> tuple[str, str]:
        """The address for answers, or none and the note that says why: a mail without one is better than no mail."""
        if self.settings.reply_to is None:
            return "", ""
        try:
            address = ctx.render(self.settings.reply_to, message=_words(event, ctx)).strip()
        except TemplateError as error:
            return "", f"; without Reply-To: {error}"
        if is_address(address):
            return address, ""
        return "", f"; without Reply-To: the template `reply_to` gives {'no plain address' if address else 'nothing'}"

    def _message(self, event: Event, ctx: Context, reply_to: str) -> EmailMessage:
        names = _words(event, ctx)
        settings = self.settings
        envelope = Envelope(settings.sender, settings.from_name, settings.to, reply_to, settings.domain)
        return build(
            event,
            ctx.key,
            envelope,
            subject=ctx.render(settings.subject, message=names),
            text=ctx.render(settings.text, message=names),
            html=ctx.render(settings.html, html=True, message=names),
        )

    async def _hand_over(
        self, client: "_Client", message: EmailMessage
    ) -> tuple[dict[str, aiosmtplib.SMTPResponse], str]:
        """Who was refused, and what the server answered. Before DATA nothing was sent, and the reason says so."""
        try:
            async with asyncio.timeout_at(client.until):
                return await client.send_message(message)
        except aiosmtplib.SMTPSenderRefused as error:
            raise _sender_refusal(error) from None
        except (aiosmtplib.SMTPRecipientsRefused, aiosmtplib.SMTPResponseException) as error:
            raise _refusal(error) from None
        except aiosmtplib.SMTPNotSupported as error:
            raise Rejected(f"the mail server cannot carry this message: {error.message}") from None
        except TimeoutError:
            sent = "it may have arrived" if client.began else "nothing was sent"
            raise TryAgain(f"{self._place} did not answer in time; {sent}", destination=True) from None
        except aiosmtplib.SMTPException:
            if client.began:
                raise
            raise TryAgain(f"{self._place} hung up before anything was sent", destination=True) from None

    def _done(self, refused: dict[str, aiosmtplib.SMTPResponse]) -> str:
        everyone = len(self.settings.to)
        if not refused:
            return f"mailed to {', '.join(self.settings.to)}"
        notes = "; ".join(f"{address}: {_told(code, text)}" for address, (code, text) in refused.items())
        return f"mailed to {everyone - len(refused)} of {everyone} recipients; refused: {notes}"

    @property
    def _place(self) -> str:
        return f"{self.settings.host}:{self.settings.port}"

    @cached_property
    def _tls(self) -> ssl.SSLContext | None:
        if self.settings.security == "none":
            return None
        try:
            return tls_context(self.settings.ca_file)
        except OSError as error:
            reason = error.strerror or error
            raise HoldRoute(f"ca_file {self.settings.ca_file} cannot be used: {reason}") from None

    @contextlib.asynccontextmanager
    async def _session(self, ctx: Context) -> AsyncIterator["_Client"]:
        """A connection that is secured and signed in. What fails before that has sent nothing."""
        until = asyncio.get_running_loop().time() + ctx.timeout * SHARE
        tls = self._tls
        sock = await connected(ctx, self.settings.host, self.settings.port)
        client = _Client(
            hostname=self.settings.host,
            sock=sock,
            use_tls=self.settings.security == "tls",
            start_tls=False,
            tls_context=tls,
            local_hostname=self.settings.domain,
            timeout=ctx.timeout,
        )
        client.until = until
        try:
            await self._enter(client)
            yield client
            with contextlib.suppress(aiosmtplib.SMTPException):
                await client.quit(timeout=GOODBYE)
        finally:
            client.close()

    async def _enter(self, client: "_Client") -> None:
        try:
            async with asyncio.timeout_at(client.until):
                await client.connect()
                await client.ehlo()
                if self.settings.security == "starttls":
                    await self._secure(client)
                if self.settings.username is not None and self.settings.password is not None:
                    await _sign_in(client, self.settings.username, self.settings.password)
        except aiosmtplib.SMTPResponseException as error:
            raise _of_the_route(_reply(error.code, error.message)) from None
        except TimeoutError:
            raise TryAgain(f"{self._place} did not answer in time; nothing was sent", destination=True) from None
        except (aiosmtplib.SMTPException, OSError) as error:
            cause = error if isinstance(error, ssl.SSLError) else error.__cause__
            raise no_tls(self._place, cause) from None

    async def _secure(self, client: aiosmtplib.SMTP) -> None:
        if not client.supports_extension("starttls"):
            raise HoldRoute(f"{self._place} offers no STARTTLS; its port for TLS is usually 465, with security: tls")
        await client.starttls()
        await client.ehlo()


class _Client(aiosmtplib.SMTP):
    """aiosmtplib's client that knows how far it came: `began` with DATA, and `until` when it must have answered."""

    began = False
    until: float

    async def data(self, *message: Any, **options: Any) -> aiosmtplib.SMTPResponse:
        self.began = self.is_connected
        return await super().data(*message, **options)

    async def rcpt(self, *recipient: Any, **options: Any) -> aiosmtplib.SMTPResponse:
        try:
            return await super().rcpt(*recipient, **options)
        except aiosmtplib.SMTPRecipientRefused as error:
            if error.code == SMTP_CLOSING:
                # Said of the connection, which is closed by now: the next command would only find it cut.
                raise aiosmtplib.SMTPResponseException(error.code, error.message) from None
            raise


async def _sign_in(client: aiosmtplib.SMTP, username: str, password: Secret) -> None:
    """One mechanism is tried, another only if the server does not know it: each failure counts at the server."""
    offered = client.server_auth_methods
    logins = [
        login
        for name, login in (
            ("plain", client.auth_plain), ("login", client.auth_login), ("cram-md5", client.auth_crammd5),
        )
        if name in offered
    ]  # fmt: skip
    if not logins:
        raise HoldRoute("the mail server takes no user name and password here; with TLS or STARTTLS it may")
    for login in logins:
        try:
            await login(username, password.reveal())
        except aiosmtplib.SMTPAuthenticationError as error:
            if error.code == UNKNOWN_MECHANISM and login is not logins[-1]:
                continue
            raise _login_refusal(error) from None
        return


def _words(event: Event, ctx: Context) -> dict[str, Any]:
    """What templates know as `message`."""
    return message_of(event, ctx.fetched, ctx.admin_url).names()


def _login_refusal(error: aiosmtplib.SMTPAuthenticationError) -> TryAgain | HoldRoute:
    reason = f"the mail server refused the sign-in: {_told(error.code, error.message)}"
    if error.code < 500:
        return TryAgain(reason, status=error.code, destination=True)
    return HoldRoute(reason, status=error.code)


def _sender_refusal(error: aiosmtplib.SMTPSenderRefused) -> TryAgain | HoldRoute | Rejected:
    """The sender is the config's, so what is said of it holds for all mails. A size is this mail's own (RFC 1870)."""
    reply = _reply(error.code, error.message)
    return reply if error.code == SMTP_TOO_LARGE else _of_the_route(reply)


def _of_the_route(reply: TryAgain | HoldRoute | Rejected) -> TryAgain | HoldRoute:
    """A refusal for good before anything was said of the message: the next one would meet it too."""
    return HoldRoute(reply.reason, status=reply.status) if isinstance(reply, Rejected) else reply


def _refusal(
    error: aiosmtplib.SMTPRecipientsRefused | aiosmtplib.SMTPResponseException,
) -> TryAgain | HoldRoute | Rejected:
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return _reply(error.code, error.message)
    notes = "; ".join(f"{refusal.recipient}: {_told(refusal.code, refusal.message)}" for refusal in error.recipients)
    reason = f"no recipient was accepted: {notes}"
    replies = [_reply(refusal.code, refusal.message, reason) for refusal in error.recipients]
    return min(replies, key=lambda reply: (HoldRoute, TryAgain, Rejected).index(type(reply)))


def _reply(code: int, text: str, reason: str | None = None) -> TryAgain | HoldRoute | Rejected:
    """What a reply means. Its enhanced code (RFC 3463) wins where it disagrees with the first digit."""
    reason = reason or f"the mail server answered {_told(code, text)}"
    enhanced = ENHANCED.match(text)
    if enhanced and enhanced[0] == DAILY_LIMIT:
        return TryAgain(reason, DAY, status=code, destination=True)
    if code in SMTP_WRONG_KEY:
        return HoldRoute(reason, status=code)
    for_now = enhanced[1] == "4" if enhanced else code < 500
    if for_now:
        return TryAgain(reason, status=code, destination=True)
    return Rejected(reason, status=code)


def _told(code: int, text: str) -> str:
    return f"{code} {clean(text, 1000)}"
