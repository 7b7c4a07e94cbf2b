"""Templates to pages: one Jinja environment that escapes everything, and what every page is given."""

from functools import cache
from importlib.metadata import version
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse


@cache
def environment() -> Environment:
    """The dashboard's templates. Escaping does not hang on a file's name; a name that is missing is an error."""
    return Environment(
        loader=PackageLoader("hub.web"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip


def render(request: Request, template: str, status: int = 200, **more: Any) -> HTMLResponse:
    """The page that `template` makes of `more`; it also knows `request`, `person` (None before login), `version`."""
    names = {"request": request, "person": request.scope.get("person"), "version": version("litekart-hub")} | more
    return HTMLResponse(environment().get_template(template).render(names), status)
