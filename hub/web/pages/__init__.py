"""The dashboard's pages, one module for each; ROUTES is their table."""

from starlette.routing import BaseRoute

ROUTES: list[BaseRoute] = []
