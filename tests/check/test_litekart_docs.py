"""docs/litekart.md shows what each profile of the store's API offers, and on what evidence, as hub.litekart has it."""

import inspect
from pathlib import Path

import hub.errors
from hub.errors import LitekartError
from hub.litekart import resources
from hub.litekart.profiles import SEED, V2, Filter, Operation, Profile

PAGE = Path(__file__).parents[2] / "docs" / "litekart.md"


def call_cell(call: Operation | None) -> str:
    return f"`{call.method} {call.path}` ({call.evidence})" if call else ""


def filter_cell(found: Filter | None) -> str:
    if found is None:
        return ""
    if found.parameter is None:
        return "here"
    return f"`{found.parameter}`{' and here' if found.here else ''} ({found.evidence})"


def calls_table() -> str:
    names = sorted({*SEED.operations, *V2.operations})
    rows = [
        f"| `{name}` | {call_cell(SEED.operations.get(name))} | {call_cell(V2.operations.get(name))} |"
        for name in names
    ]
    return "\n".join(["| call | `seed` | `v2` |", "|---|---|---|", *rows])


def filters_table() -> str:
    def one(profile: Profile, resource: str, name: str) -> str:
        return filter_cell(profile.filters.get(resource, {}).get(name))

    pairs = {
        (resource, name) for profile in (SEED, V2) for resource, names in profile.filters.items() for name in names
    }
    rows = [
        f"| `{resource}` | `{name}` | {one(SEED, resource, name)} | {one(V2, resource, name)} |"
        for resource, name in sorted(pairs)
    ]
    return "\n".join(["| resource | filter | `seed` | `v2` |", "|---|---|---|---|", *rows])


def writes_table() -> str:
    kinds = {kind.name: kind for kind in vars(resources).values() if hasattr(kind, "model") and hasattr(kind, "name")}
    names = {*SEED.operations, *V2.operations}
    writes = sorted(name for name in names if name.partition(".")[2] not in {"list", "get"})
    rows = [f"| `{name}` | `{arguments(kinds[name.partition('.')[0]], name.partition('.')[2])}` |" for name in writes]
    return "\n".join(["| call | takes |", "|---|---|", *rows])


def arguments(kind: type, method: str) -> str:
    taken = [*inspect.signature(getattr(kind, method)).parameters.values()][1:]
    return ", ".join(one.name + ("=" if one.kind is one.KEYWORD_ONLY else "") for one in taken)


def test_the_tables_are_those_of_the_profiles() -> None:
    page = PAGE.read_text()
    for table in (calls_table(), writes_table(), filters_table()):
        assert table in page, f"put this into docs/litekart.md:\n{table}"


def test_every_error_of_the_store_is_explained() -> None:
    page = PAGE.read_text()
    kinds = [name for name, value in vars(hub.errors).items() if isinstance(value, type) and value is not LitekartError]
    missing = [
        name for name in kinds if issubclass(getattr(hub.errors, name), LitekartError) and f"`{name}`" not in page
    ]
    assert missing == []
