"""What the pages share: their routes, what was asked, read within bounds, and where they send who asked."""

from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from typing import Any

from starlette.datastructures import ImmutableMultiDict
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from hub.models import harmless
from hub.runtime import Hub
from hub.web import api, forms
from hub.web.api import Operation, WrongUsage
from hub.web.people import operator_of, person_of
from hub.web.rendering import link

LONGEST_VALUE = 500

Endpoint = Callable[[Request], Awaitable[Response]]
Form = ImmutableMultiDict[str, str]


class Query(dict[str, str]):
    """What was asked for in the address; what was not is None to a template."""

    def __missing__(self, name: str) -> None:
        return None


def hub_of(request: Request) -> Hub:
    hub: Hub = request.app.state.hub
    return hub


def page(path: str, endpoint: Endpoint) -> Route:
    """A page that anyone who is logged in may see."""
    return Route(path, endpoint, methods=["GET"])


def operator_page(path: str, endpoint: Endpoint) -> Route:
    """A page that only serves to change something."""
    return Route(path, for_operators(endpoint), methods=["GET"])


def action(path: str, endpoint: Endpoint) -> Route:
    """Something that changes the hub: posted, by an operator."""
    return Route(path, for_operators(endpoint), methods=["POST"])


def for_operators(endpoint: Endpoint) -> Endpoint:
    @wraps(endpoint)
    async def guarded(request: Request) -> Response:
        operator_of(request)
        return await endpoint(request)

    return guarded


def query_of(request: Request, *names: str) -> Query:
    """The query's values of these names that are not empty, harmless for any database."""
    values = {name: clean(request.query_params.get(name, "")) for name in names}
    return Query({name: value for name, value in values.items() if value})


def clean(value: str) -> str:
    return harmless(value.strip(), LONGEST_VALUE)


def path_of(request: Request, name: str = "id") -> str:
    """A part of the path."""
    return clean(request.path_params[name])


async def form_of(request: Request) -> Form:
    """The posted fields, cleaned. Raises HTTPException, as hub.web.forms does."""
    fields = await forms.form_of(request)
    return ImmutableMultiDict([(name, clean(value)) for name, value in fields.multi_items()])


def filled(form: Form | Mapping[str, str], *names: str) -> dict[str, str]:
    """The fields of these names that are not empty."""
    return {name: form[name] for name in names if form.get(name)}


async def listed(request: Request, operation: Operation, arguments: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """A list's rows, or the words about what is wrong with its filter."""
    try:
        return await operation(hub_of(request), arguments), ""
    except WrongUsage as problem:
        return {}, str(problem)


async def accepted(request: Request, wanted_id: str) -> Response:
    """Let the refused request or repeat of that id in, and go on to the event that it is then."""
    kept = await api.refused_accept(hub_of(request), {"id": wanted_id, "who": person_of(request).name})
    return see(f"/events/{kept['id']}", done="let-in-before" if kept["duplicate"] else "let-in")


def see(path: str, **query: Any) -> Response:
    """Go on to that page."""
    return RedirectResponse(link(path, query), 303)


def missing(what: str) -> HTTPException:
    return HTTPException(404, what)
