"""For authors of connectors, tests and the demo: the conformance kit, and real counterparts on loopback.

The mail server stands in hub.testing.smtp, since it needs the extra `testing`.
"""

from hub.testing.bench import Bench, MemoryEffects, open_bench
from hub.testing.conformance import HTTP_ANSWERS, ConnectorTests
from hub.testing.samples import EVENT_TYPES, StoreDouble, event_of, sample, sign
from hub.testing.sink import Answer, HttpSink, Inbox, Received
from hub.testing.slack import SlackMessage, SlackServer

__all__ = [
    "EVENT_TYPES", "HTTP_ANSWERS", "Answer", "Bench", "ConnectorTests", "HttpSink", "Inbox", "MemoryEffects",
    "Received", "SlackMessage", "SlackServer", "StoreDouble", "event_of", "open_bench", "sample", "sign",
]  # fmt: skip
