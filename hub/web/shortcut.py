"""The short way of a webhook that came in one piece: from the parser to the writer, and its answer straight back.

ASGI's scope, messages and task, and Starlette's layers, cost more than all that the hub does with an event. So what
is plainly a webhook of a store that is there does without them; all else, and all that is refused, goes the long way.
"""

import asyncio
from typing import NamedTuple

import structlog

from hub.errors import Refusal, Unavailable
from hub.receive import Incoming, Receiving
from hub.store.events import Kept
from hub.web.webhooks import AGAIN, UNAVAILABLE, answer_to, error_of, refuse_early

PREFIX = b"/webhooks/"

log = structlog.get_logger()


class Answer(NamedTuple):
    """An answer in JSON: status, body, and headers beside its type and length."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Begun(NamedTuple):
    """A webhook that is with the writer."""

    incoming: Incoming
    kept: "asyncio.Future[Kept]"


class Shortcut:
    """`begin`, and once `kept` is done `answer`, or `explain` where there is none."""

    def __init__(self, receiving: Receiving) -> None:
        self._receiving = receiving

    def begin(self, url: bytes, headers: list[tuple[bytes, bytes]], body: bytes) -> Begun | None:
        """Hand a whole POST to the writer. None: it is to go the long way, where it is seen as if it came in now."""
        if not url.startswith(PREFIX):
            return None
        incoming = Incoming(url[len(PREFIX) :].decode("ascii", "replace"), body, headers, None)
        try:
            refuse_early("POST", headers)
            return Begun(incoming, self._receiving.begin(incoming))
        except (Refusal, Unavailable):
            return None

    def answer(self, begun: Begun) -> Answer | None:
        """The answer to what is kept; None where it is not."""
        if begun.kept.exception() is not None:
            return None
        kept = begun.kept.result()
        self._receiving.kept(begun.incoming, kept)
        return Answer(200, answer_to(kept))

    async def explain(self, begun: Begun) -> Answer:
        """The answer to what could not be kept; a refusal is remembered first."""
        try:
            return Answer(200, answer_to(await self._receiving.finish(*begun)))
        except Refusal as refusal:
            return Answer(refusal.status, error_of(refusal))
        except Unavailable as trouble:
            log.warning("event.unavailable", reason=str(trouble))
            return Answer(503, UNAVAILABLE, (AGAIN,))
