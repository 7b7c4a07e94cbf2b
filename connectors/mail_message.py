"""How a mail about an event is built: the default templates, the headers, and bytes that stay the same.

Everything that differs between two buildings of one message (boundary, date, id) is taken from the event and the
delivery's key. Headers are RFC 5322's, with Auto-Submitted (RFC 3834) and Exchange's X-Auto-Response-Suppress.
"""

import hashlib
import re
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from urllib.parse import quote

from connectors.messages import clean
from hub.connector import Event

SUBJECT = "{{ message.summary }}"

TEXT = """{{ message.summary }}
{% for fact in message.facts %}
{{ fact.label }}: {{ fact.value }}
{%- endfor %}

--
Store {{ message.store }}, {{ message.type }}, {{ message.time }}, event {{ message.id }}
"""

HTML = """<!DOCTYPE html>
<html lang="en"><body style="margin:0;padding:24px;background:#f4f4f5;font-family:Arial,sans-serif;color:#18181b">
<div style="max-width:560px;margin:0 auto;padding:24px;background:#ffffff;border-radius:8px">
<h1 style="margin:0 0 8px;font-size:20px">{{ message.title }}</h1>
<p style="margin:0 0 16px;font-size:15px">{{ message.summary }}</p>
<table role="presentation" style="width:100%;border-collapse:collapse;font-size:14px">
{%- for fact in message.facts %}
<tr><td style="padding:6px 12px 6px 0;color:#71717a;vertical-align:top">{{ fact.label }}</td>
<td style="padding:6px 0">{{ fact.value }}</td></tr>
{%- endfor %}
</table>
<p style="margin:24px 0 0;font-size:12px;color:#a1a1aa">Store {{ message.store }}, {{ message.type }},
{{ message.time }}, event {{ message.id }}</p>
</div></body></html>
"""

SUBJECT_LENGTH = 200
LONGEST_KEY = 64
NOT_IN_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
NOT_IN_AN_ADDRESS = re.compile(r'[\s<>"(),:;\\\[\]]')


@dataclass(frozen=True)
class Envelope:
    """Who writes to whom. Addresses are plain (`ops@example.test`), names may hold anything."""

    sender: str
    sender_name: str
    to: tuple[str, ...]
    reply_to: str
    domain: str


def build(event: Event, key: str, envelope: Envelope, subject: str, text: str, html: str) -> EmailMessage:
    """The mail, the same at each call: multipart/alternative, text first."""
    message = EmailMessage(policy=SMTP)
    message["From"] = _address(envelope.sender, envelope.sender_name)
    message["To"] = [_address(address) for address in envelope.to]
    if envelope.reply_to:
        message["Reply-To"] = _address(envelope.reply_to)
    message["Subject"] = clean(subject, SUBJECT_LENGTH)
    message["Date"] = event.received_at
    message["Message-ID"] = message_id(key, envelope.domain)
    if event.entity:
        message["References"] = thread_id(event, envelope.domain)
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"
    message["X-Litekart-Event"] = clean(event.id)
    message["X-Litekart-Event-Type"] = clean(event.type, 50)
    message.set_content(_body(text))
    message.add_alternative(_body(html), subtype="html")
    message.set_boundary(f"=={_digest(key)}==")
    return message


def message_id(key: str, domain: str) -> str:
    """`<key@domain>`; a key that would be too long for one line stands there as its hash."""
    left = quote(key, safe="!#$&'*+-/=?^_`{|}~.")
    return f"<{left if len(left) <= LONGEST_KEY else _digest(key)}@{domain}>"


def thread_id(event: Event, domain: str) -> str:
    """A parent that all mails about one entity share. Short: Python folds what is longer into encoded words."""
    return f"<{_digest(f'{domain} {event.store} {event.entity}')}@litekart-hub.invalid>"


def is_address(text: str) -> bool:
    """One plain address in ASCII, `local@domain`, that is safe on an SMTP command line."""
    local, at, domain = text.rpartition("@")
    plain = text.isascii() and text.isprintable() and not NOT_IN_AN_ADDRESS.search(text)
    return bool(at and local and domain) and plain and len(text) <= 254 and "@" not in local


def _address(address: str, name: str = "") -> Address:
    return Address(display_name=clean(name), addr_spec=address)


def _body(text: str) -> str:
    """`text` with one kind of line end and without what a mail cannot carry."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return NOT_IN_TEXT.sub(" ", lines).encode("utf-8", "replace").decode()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
