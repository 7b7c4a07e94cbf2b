"""Imports point one way: each module imports only from the levels above its own (design: "Layout")."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

# From the top: what stands in one line may import what stands in the lines before it, and its own line's packages
# themselves. A new module needs its place here.
LEVELS: list[set[str]] = [
    {"hub", "hub.errors", "hub.clock", "hub.money", "hub.redaction", "hub.units"},
    {"hub.connector", "hub.event"},
    {"hub.sandbox", "hub.guard", "hub.outcome"},
    {"hub.language", "hub.yamlfile"},
    {"hub.problems"},
    {"hub.config"},
    {"hub.disk", "hub.example", "hub.hour", "hub.models", "hub.schedule"},
    {"hub.database", "hub.logs"},
    {"hub.migrations", "hub.writer"},
    {"hub.store"},
    {"hub.backup"},
    {"hub.schema"},
    {"hub.alert_texts", "hub.client", "hub.routing", "hub.valkey"},
    {"hub.litekart"},
    {"hub.jobs"},
    {"hub.runtime"},
    {"hub.receive", "hub.stores"},
    {"hub.fetching", "hub.reorders"},
    {"hub.deliver"},
    {"hub.alerts", "hub.catch_up", "hub.fan_out", "hub.keeping", "hub.registrations", "hub.replay"},
    {"hub.worker"},
    {"hub.testing"},
    {"hub.trying"},
    {"hub.web"},
    {"hub.process"},
    {"hub.commands", "hub.scaffold"},
    {"hub.cli", "hub.demo"},
]
LEVEL = {name: number for number, names in enumerate(LEVELS) for name in names}


def modules(folder: str) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        yield name, ast.parse(path.read_text())


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part_of(name: str) -> str | None:
    """The module or package of LEVELS that a dotted name belongs to."""
    while name not in LEVEL:
        name, _, _ = name.rpartition(".")
        if not name:
            return None
    return name


def test_imports_point_one_way() -> None:
    wrong = [
        f"{name} imports {target}"
        for name, tree in modules("hub")
        for target in {part_of(one) for one in imported(tree) if one.startswith("hub.")}
        if target is not None and (part_of(name), target) != ("hub", "hub")
        if part_of(name) != target and LEVEL[target] >= LEVEL[part_of(name) or "hub"]
    ]
    assert wrong == []


def test_every_module_has_its_level() -> None:
    assert [name for name, _ in modules("hub") if name != "hub" and part_of(name) in {None, "hub"}] == []


def test_connectors_import_the_public_interface_alone() -> None:
    reached = {one for _, tree in modules("connectors") for one in imported(tree) if one.startswith("hub")}
    assert {one for one in reached if not one.startswith("hub.connector.")} == set()


def test_no_import_hides_in_a_function() -> None:
    hidden = [
        f"{name}:{node.lineno}"
        for folder in ("hub", "connectors")
        for name, tree in modules(folder)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert hidden == []


def test_no_engine_or_client_is_made_at_import() -> None:
    makers = {"create_engine", "create_async_engine", "AsyncClient", "ClientSession", "Redis", "open_client"}
    made = [
        f"{name}: {node.func.id}"
        for name, tree in modules("hub")
        if name != "hub.migrations.env"
        for statement in tree.body
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        for node in ast.walk(statement)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in makers
    ]
    assert made == []
