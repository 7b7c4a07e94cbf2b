"""How a mail about an event is built: the default templates, the headers, and bytes that stay the same.

Everything that differs between two buildings of one message (boundary, date, id) is taken from the event and the
delivery's key. Headers are RFC 5322's, with Auto-Submitted (RFC 3834) and Exchange's X-Auto-Response-Suppress.

Python's `email` decodes encoded words (RFC 2047, `=?utf-8?q?…?=`) in what a header is set to, and puts what comes
out, line ends included, onto the wire (cpython#121650). So all text goes through `header_text`, and `build` looks
at each header once more.
"""

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from urllib.parse import quote

from connectors.messages import LINE_ENDERS, clean_line, cut
from hub.connector import Event, Rejected

SUBJECT = "{{ message.summary }}"

TEXT = """{{ message.summary }}

{% for fact in message.facts %}
{{ fact.label }}: {{ fact.value }}
{% endfor %}
{% if message.link %}
In the store: {{ message.link }}
{% endif %}
{{ "\n" if message.facts or message.link else "" }}--
Store {{ message.store }}, {{ message.type }}, {{ message.time }}, event {{ message.id }}
"""

HTML = """<!DOCTYPE html>
<html lang="en"><body style="margin:0;padding:24px;background:#f4f4f5;font-family:Arial,sans-serif;color:#18181b">
<div style="max-width:560px;margin:0 auto;padding:24px;background:#ffffff;border-radius:8px">
<h1 dir="auto" style="margin:0 0 8px;font-size:20px">{{ message.title }}</h1>
<p dir="auto" style="margin:0 0 16px;font-size:15px">{{ message.summary }}</p>
<table role="presentation" style="width:100%;border-collapse:collapse;font-size:14px">
{%- for fact in message.facts %}
<tr><td style="padding:6px 12px 6px 0;color:#71717a;vertical-align:top">{{ fact.label }}</td>
<td dir="auto" style="padding:6px 0">{{ fact.value }}</td></tr>
{%- endfor %}
</table>
{%- if message.link %}
<p style="margin:16px 0 0;font-size:14px"><a href="{{ message.link }}" style="color:#1d4ed8">Open in the store</a></p>
{%- endif %}
<p style="margin:24px 0 0;font-size:12px;color:#a1a1aa">Store {{ message.store }}, {{ message.type }},
{{ message.time }}, event {{ message.id }}</p>
</div></body></html>
"""

SUBJECT_LENGTH = 200
HEADER_LENGTH = 300
NAME_LENGTH = 60
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
    """The mail, the same at each call: multipart/alternative, text first. Raises Rejected."""
    message = EmailMessage(policy=SMTP)
    message["From"] = _address(envelope.sender, envelope.sender_name)
    message["To"] = [_address(address) for address in envelope.to]
    if envelope.reply_to:
        message["Reply-To"] = _address(envelope.reply_to)
    message["Subject"] = header_text(subject, SUBJECT_LENGTH)
    message["Date"] = event.received_at
    message["Message-ID"] = message_id(key, envelope.domain)
    if event.entity:
        message["References"] = thread_id(event, envelope.domain)
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"
    message["X-Litekart-Event"] = header_text(event.id)
    message["X-Litekart-Event-Type"] = header_text(event.type, 50)
    _refuse_what_is_no_line(message)
    message.set_content(_body(text))
    message.add_alternative(_body(html), subtype="html")
    message.set_boundary(f"=={_digest(key)}==")
    return message


def header_text(text: str, length: int = HEADER_LENGTH) -> str:
    """`text` as a header may hold it: one line, and nothing in it that `email` would decode."""
    return cut(clean_line(text, length).replace("=?", "= ?"), length)


def message_id(key: str, domain: str) -> str:
    """`<key@domain>`; a key that would be too long for one line stands there as its hash."""
    left = quote(key, safe="!#$&'*+-/=?^_`{|}~.")
    return f"<{left if len(left) <= LONGEST_KEY else _digest(key)}@{domain}>"


def thread_id(event: Event, domain: str) -> str:
    """A parent that all mails about one entity share. Short: Python folds what is longer into encoded words."""
    return f"<{_digest(f'{domain} {event.store} {event.entity}')}@litekart-hub.invalid>"


def is_address(text: str) -> bool:
    """One plain address in ASCII, `local@domain`, that is safe on an SMTP command line and in a header."""
    local, at, domain = text.rpartition("@")
    plain = text.isascii() and text.isprintable() and not NOT_IN_AN_ADDRESS.search(text) and "=?" not in text
    if not (at and local and domain and plain and len(text) <= 254 and "@" not in local):
        return False
    try:
        return Address(addr_spec=text).addr_spec == text
    except (ValueError, MessageError, IndexError):
        return False


def _address(address: str, name: str = "") -> Address:
    """The name is kept short, and without `"` and `\\`: folding what is longer, `email` loses the quotes around it."""
    plain = header_text(name, NAME_LENGTH).replace('"', "'").replace("\\", "/")
    return Address(display_name=plain, addr_spec=address)


def _refuse_what_is_no_line(message: EmailMessage) -> None:
    """The second line of defence: no header with a line end or a control in it leaves, however it came there."""
    for name, value in message.items():
        if any(unicodedata.category(character) in LINE_ENDERS | {"Cs"} for character in str(value)):
            raise Rejected(f"the mail's header {name} would hold a control character")


def _body(text: str) -> str:
    """`text` with one kind of line end and without what a mail cannot carry."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return NOT_IN_TEXT.sub(" ", lines).encode("utf-8", "replace").decode()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
