"""One request to a JSON REST API, and what its answer means by the settings."""

import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlencode

import httpx

from connectors.erp.rest.bodies import json_of, path_of, query_of
from connectors.erp.rest.names import Names
from connectors.erp.rest.pointer import value_or_none
from connectors.erp.rest.settings import Call, LookUp, Read, Request, RestSettings, Step
from hub.connector import Context, HoldRoute, Rejected, TryAgain, answer_text

WRONG_KEY = {401, 407}
LEFT_TO_THE_HUB = {408, 421, 423, 425, 429, *range(500, 600)}
"""Statuses that it reads as worth another try, with the answer's Retry-After."""
WORDS = 300
TEXTS = ("message", "detail", "description", "title", "error", "reason", "msg")
UNSEEN = re.compile(r"<(style|script|head)\b.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
TAG = re.compile(r"<[^<>]{1,500}>")


@dataclass(frozen=True)
class Answer:
    """What was answered: `document` is None where there was no content; `nothing`: a status that says that there is
    none; `already_there`: one that says that it was written before, and what it means if that is not so. `asked` reads
    `POST /orders`."""

    asked: str
    status: int
    document: Any = None
    nothing: bool = False
    already_there: Exception | None = None
    text: str = ""


class Server:
    """The API under one route's settings."""

    def __init__(self, settings: RestSettings) -> None:
        self.settings = settings

    async def send(self, ctx: Context, request: Request, names: Names, place: str, key: str | None = None) -> Answer:
        """The answer to one request; `key` is what it is for, the same at each try: None for one that writes nothing.

        Raises TryAgain, HoldRoute, Rejected, the HTTP error or TemplateError.
        """
        path = path_of(ctx, request, names, place)
        query = query_of(ctx, request, names, place)
        body = None if request.body is None else await json_of(ctx, request.body, names, f"{place}.body")
        response = await ctx.http.request(
            request.method,
            self._url(path, query),
            headers=self._headers(ctx, key, body is not None),
            content=None if body is None else body.encode("utf-8", "replace"),
        )
        return self._read(response, request, f"{request.method} {path}")

    def _url(self, path: str, query: list[tuple[str, str]]) -> str:
        auth = self.settings.auth
        if auth is not None and auth.query is not None:
            query = [*query, (auth.query.name, auth.query.value.reveal())]
        told = urlencode(query, errors="replace", quote_via=quote)
        return f"{self.settings.url}{path}{'?' if told else ''}{told}"

    def _headers(self, ctx: Context, key: str | None, has_body: bool) -> dict[str, str]:
        headers = {name: value.reveal() for name, value in self.settings.headers.items()}
        headers |= {"Accept": "application/json"} | self._access
        if has_body:
            headers["Content-Type"] = "application/json"
        if key is not None and self.settings.idempotency_header is not None:
            headers[self.settings.idempotency_header] = quote(f"{ctx.key}-{key}", safe="-_.")
        return headers

    @cached_property
    def _access(self) -> dict[str, str]:
        auth = self.settings.auth
        if auth is None or auth.query is not None:
            return {}
        if auth.bearer is not None:
            return {"Authorization": f"Bearer {auth.bearer.reveal()}"}
        if auth.header is not None:
            return {auth.header.name: auth.header.value.reveal()}
        assert auth.basic is not None
        made = httpx.BasicAuth(auth.basic.username, auth.basic.password.reveal())
        signed = next(made.auth_flow(httpx.Request("GET", self.settings.url)))
        return {"Authorization": signed.headers["authorization"]}

    def _read(self, response: httpx.Response, request: Request, asked: str) -> Answer:
        status = response.status_code
        if isinstance(request, LookUp | Read) and status in request.nothing:
            return Answer(asked, status, nothing=True)
        if isinstance(request, Call) and status in request.already_there:
            return Answer(asked, status, already_there=self._failure(response, asked))
        done = request.done if isinstance(request, Call | Step) else range(200, 300)
        if status not in done:
            raise self._failure(response, asked)
        return Answer(asked, status, _document(response, asked), text=self._words(response))

    def _failure(self, response: httpx.Response, asked: str) -> Exception:
        status, words = response.status_code, self._words(response)
        reason = f"{asked}: HTTP {status}" + (f": {words}" if words else "")
        if status in WRONG_KEY:
            return HoldRoute(f"the ERP does not take the key: {reason}", status=status)
        if 300 <= status < 400:
            return TryAgain(
                f"{reason}; it sends elsewhere, and the hub does not follow: correct rest.url", status=status
            )
        if status in self.settings.try_again and status in LEFT_TO_THE_HUB:
            return httpx.HTTPStatusError(reason, request=response.request, response=response)
        if status in self.settings.try_again or status == 403 or self._passes(response):
            return TryAgain(reason, status=status)
        return Rejected(reason, status=status)

    def _passes(self, response: httpx.Response) -> bool:
        """Whether the answer itself says that it may work next time."""
        told = _parsed(response)
        return any(
            str(value_or_none(told, pointer)) in values for pointer, values in self.settings.try_again_if.items()
        )

    def _words(self, response: httpx.Response) -> str:
        """What the answer says to people, on one line and without secrets of the settings."""
        told = _parsed(response)
        found = [value_or_none(told, pointer) for pointer in self.settings.error_text]
        text = next(filter(None, map(words_of, found)), "")
        if not text and told is None:
            text = words_of(answer_text(response)[: 20 * WORDS])
        return self._without_secrets(text)[:WORDS]

    def _without_secrets(self, text: str) -> str:
        auth = self.settings.auth
        known = list(self.settings.headers.values())
        if auth is not None:
            pairs = [pair.value for pair in (auth.header, auth.query) if pair is not None]
            known += [*pairs, *filter(None, [auth.bearer, auth.basic.password if auth.basic else None])]
        for secret in known:
            text = text.replace(secret.reveal(), "****")
        return text


def _parsed(response: httpx.Response) -> Any:
    """The answer's JSON, decimals as Decimal; None if it is none."""
    try:
        return json.loads(response.content, parse_float=Decimal)
    except (ValueError, RecursionError):
        return None


def _document(response: httpx.Response, asked: str) -> Any:
    if response.extensions.get("cut"):
        raise TryAgain(f"{asked}: the answer is longer than the hub reads: ask for less of it", destination=True)
    if not response.content.strip():
        return None
    try:
        return json.loads(response.content, parse_float=Decimal)
    except (ValueError, RecursionError):
        kind = response.headers.get("content-type", "no content type").split(";")[0][:60]
        raise TryAgain(
            f"{asked}: HTTP {response.status_code} with what is no JSON ({kind})", destination=True
        ) from None


def words_of(value: Any) -> str:
    """The sentence in a value out of an answer: of an object its message, of a list all, of HTML its text; where a
    text is JSON itself, what that says."""
    if isinstance(value, Mapping):
        named = next((value[name] for name in TEXTS if value.get(name)), None)
        return words_of(named) if named is not None else ""
    if isinstance(value, list):
        return "; ".join(dict.fromkeys(filter(None, map(words_of, value[:8]))))
    if value is None or isinstance(value, bool):
        return ""
    text = str(value).strip()
    if text.startswith(("{", "[")):
        try:
            return words_of(json.loads(text))
        except (ValueError, RecursionError):
            pass
    text = html.unescape(TAG.sub(" ", UNSEEN.sub(" ", text)))
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
