"""The connector and the files that the config's tests use."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import ConfigDict, Field, field_validator

from hub.config import (
    Config,
    load_config,
)
from hub.connector import Connector, Context, Event, Receipt, Secret, Template
from hub.errors import ConfigError

CANARY = "canary-5c7e-not-to-be-seen"
STORES = f"stores: {{main: {{url: 'https://shop.example', webhook_secrets: [{CANARY}]}}}}\n"


class Part(Connector.Settings):
    line: Template = Template("x")
    key: Secret | None = None


class Probe(Connector):
    """A connector for these tests, named in the config as package.module:Class."""

    class Settings(Connector.Settings):
        model_config = ConfigDict(populate_by_name=True)

        url: Secret
        sender: str = Field("shop@example.com", alias="from")
        text: Template | None = None
        parts: tuple[Part, ...] = ()
        more: dict[str, Template] = Field(default_factory=dict)
        headers: dict[str, Secret] = Field(default_factory=dict)
        ca_file: Path | None = None
        odd: str = ""

        @field_validator("odd")
        @classmethod
        def _even(cls, odd: str) -> str:
            if odd:
                raise ValueError(f"{odd} is odd")
            return odd

    async def deliver(self, event: Event, ctx: Context) -> Receipt:
        return Receipt(f"{event.id} under {ctx.key}")


class NoDeliver(Connector):
    pass


PROBE = f"{__name__}:Probe"
NOT_A_CLASS = 3


def route(*lines: str) -> str:
    return STORES + "routes:\n  one:\n    connector: " + PROBE + "\n" + "".join(f"    {line}\n" for line in lines)


def with_url(*lines: str) -> str:
    return route("settings: {url: x}", *lines)


def load(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> Config:
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    return load_config(folder / "config.yaml", environ or {})


def problems(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, environ)
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.problems == str(caught.value).split("\n")
    return caught.value.problems
