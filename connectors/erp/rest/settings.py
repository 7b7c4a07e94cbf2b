"""What a route with `connector: erp` holds under `settings.rest`."""

from typing import Annotated

from pydantic import Field, field_validator

from connectors.reach import web_address
from hub.connector import Connector


class RestSettings(Connector.Settings):
    """A JSON REST API: where it is, and what is called for what."""

    url: Annotated[str, Field(description="The address that all paths begin with.")]

    @field_validator("url")
    @classmethod
    def _web_address(cls, url: str) -> str:
        if web_address(url) is None:
            raise ValueError("must be a whole address that starts with https:// or http://")
        return url.rstrip("/")
