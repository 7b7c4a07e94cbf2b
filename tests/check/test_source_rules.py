"""Rules on the source that ruff has not: each is shown to find a planted breach, then to find none in the hub.

* secrets and digests are compared in constant time;
* nothing is read that can run code while it is read;
* no certificate goes unchecked, no redirect is followed;
* SQL is text that stands in the source, but for what is named below;
* no template lets text through as it is.
"""

import ast
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEMPLATES = [path for path in sorted((ROOT / "hub").rglob("*")) if path.suffix in {".html", ".txt", ".j2", ".xml"}]

Rule = Callable[[ast.Module], Iterator[ast.AST]]


def calls(tree: ast.AST) -> Iterator[tuple[ast.Call, str]]:
    """Each call and the last name of what is called: `execute` of `connection.execute(…)`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node, node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def imported(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Each import and the first part of its module's name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node, node.module.partition(".")[0]


# ---- S03: comparisons

SECRETS = re.compile(r"(^|_)(digest|hexdigest|signature|hmac|mac|secret|token|password|reveal|hashed|mark)$")
COMPARING = (ast.Eq, ast.NotEq, ast.In, ast.NotIn)


def compared_openly(tree: ast.Module) -> Iterator[ast.AST]:
    """S03: `==`, `!=` and `in` on a secret or what is made from one. With a constant it is no comparison of secrets."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and any(isinstance(one, COMPARING) for one in node.ops):
            sides = [node.left, *node.comparators]
            if not any(isinstance(side, ast.Constant) for side in sides) and any(map(is_secret, sides)):
                yield node


def is_secret(side: ast.AST) -> bool:
    """By the name of a variable, an attribute, or what is called or looked up in it."""
    match side:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return SECRETS.search(name.lower()) is not None
        case ast.Call(func=inner) | ast.Subscript(value=inner):
            owner = inner.value if isinstance(inner, ast.Attribute) else inner
            return is_secret(inner) or is_secret(owner)
        case ast.JoinedStr() | ast.BinOp():
            return any(is_secret(part) for part in ast.walk(side) if isinstance(part, ast.Name | ast.Attribute))
    return False


# ---- what runs code, what trusts anybody


def code_read(tree: ast.Module) -> Iterator[ast.AST]:
    """S34: pickle and its like, `eval`, `exec`, and YAML that makes objects."""
    banned = {"pickle", "cPickle", "marshal", "shelve", "dill", "jsonpickle", "cloudpickle", "joblib"}
    yield from (node for node, name in imported(tree) if name in banned)
    for node, name in calls(tree):
        plain = isinstance(node.func, ast.Name)
        if (plain and name in {"eval", "exec", "compile"}) or name in {"unsafe_load", "full_load"}:
            yield node


def unchecked(tree: ast.Module) -> Iterator[ast.AST]:
    """TLS without a look at the certificate, in each of its spellings."""
    for node, name in calls(tree):
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        falses = {word for word, value in given.items() if isinstance(value, ast.Constant) and value.value is False}
        if falses & {"verify", "ssl", "verify_ssl", "validate_certs", "check_hostname"}:
            yield node
        if name in {"_create_unverified_context", "_create_stdlib_context"}:
            yield node
    for other in ast.walk(tree):
        if isinstance(other, ast.Attribute) and other.attr == "CERT_NONE":
            yield other
        if isinstance(other, ast.Assign) and isinstance(other.value, ast.Constant) and other.value.value is False:
            targets = [one for one in other.targets if isinstance(one, ast.Attribute)]
            yield from (one for one in targets if one.attr == "check_hostname")


def followed(tree: ast.Module) -> Iterator[ast.AST]:
    """S17: redirects that lead wherever the other side wants."""
    for node, _ in calls(tree):
        for keyword in node.keywords:
            off = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
            if keyword.arg in {"follow_redirects", "allow_redirects"} and not off:
                yield node


# ---- SQL

TAKES_SQL = {
    "text", "exec_driver_sql", "execute", "executemany", "executescript", "fetch", "fetchrow", "fetchval",
    "literal_column", "run_statement",
}  # fmt: skip


def built_sql(tree: ast.Module) -> Iterator[ast.AST]:
    """S35: statements put together from pieces, where they are given to the database or under a name before that."""
    of_sqlalchemy = any(
        isinstance(node, ast.ImportFrom) and node.module == "sqlalchemy" and "text" in {one.name for one in node.names}
        for node in ast.walk(tree)
    )
    bound = bindings(tree)
    for node, name in calls(tree):
        own_text = name == "text" and isinstance(node.func, ast.Name) and not of_sqlalchemy
        # Our own takes the connection first.
        taken = node.args[1:2] if name == "run_statement" else node.args[:1]
        if name in TAKES_SQL and not own_text and any(is_built(one, bound, frozenset()) for one in taken):
            yield node


def bindings(tree: ast.Module) -> dict[str, list[ast.expr]]:
    """What each name may stand for: assigned values, and what functions of that name return."""
    found: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    for name in ast.walk(target):
                        if isinstance(name, ast.Name):
                            found.setdefault(name.id, []).append(value)
            case (
                ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
                | ast.AugAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ):
                found.setdefault(name, []).append(value)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                returned = [one.value for one in ast.walk(node) if isinstance(one, ast.Return) and one.value]
                found.setdefault(name, []).extend(returned)
    return found


def is_built(node: ast.expr, bound: dict[str, list[ast.expr]], seen: frozenset[str]) -> bool:
    """Is it text made of more than what stands in the source?"""
    match node:
        case ast.JoinedStr():
            return True
        case ast.BinOp(op=ast.Add() | ast.Mod(), left=left, right=right):
            return any(holds_text(side) or is_built(side, bound, seen) for side in (left, right))
        case ast.Call(func=ast.Attribute(attr="format" | "join" | "replace" | "format_map", value=value)):
            # A select has a join too.
            named = bound.get(value.id, []) if isinstance(value, ast.Name) else [value]
            return any(holds_text(one) or is_built(one, bound, seen) for one in named)
        case ast.Name(id=name) | ast.Call(func=ast.Name(id=name)) if name not in seen:
            return any(is_built(value, bound, seen | {name}) for value in bound.get(name, []))
        case ast.IfExp(body=body, orelse=other):
            return is_built(body, bound, seen) or is_built(other, bound, seen)
        case ast.NamedExpr(value=value):
            return is_built(value, bound, seen)
    return False


def holds_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


# ---- the rules on planted breaches, and on the source

RULES: dict[str, tuple[Rule, list[str], list[str]]] = {
    "compared openly": (
        compared_openly,
        [
            "digest == given", "hmac.new(key, body, 'sha256').hexdigest() == given", "given != self.signature(body)",
            "key.secret.reveal() == text", "token in tokens", "a.password == b", "session_token != row.token",
            "header == f'Bearer {self.token}'", "hashed(token) == row.id", "signature[7:] == expected",
        ],
        [
            "hmac.compare_digest(digest, given)", "token is None", "token == ''", "len(token) == 43", "'x' in secret",
            "event.id == other", "secrets.compare_digest(a, b)",
        ],
    ),
    "code read": (
        code_read,
        ["import pickle", "from pickle import loads", "import marshal, os", "import shelve", "eval(text)", "exec(a)",
         "yaml.unsafe_load(text)", "from dill import load"],
        ["json.loads(text)", "re.compile(a)", "model.exec(a)", "yaml.safe_load(text)"],
    ),
    "unchecked": (
        unchecked,
        ["httpx.AsyncClient(verify=False)", "session.get(url, ssl=False)", "ssl._create_unverified_context()",
         "context.check_hostname = False", "context.verify_mode = ssl.CERT_NONE", "f(check_hostname=False)"],
        ["httpx.AsyncClient(verify=context)", "context.check_hostname = True", "f(ssl=True)"],
    ),
    "followed": (
        followed,
        ["httpx.get(u, follow_redirects=True)", "s.get(u, allow_redirects=True)", "c(follow_redirects=wanted)"],
        ["httpx.AsyncClient(follow_redirects=False)", "c()"],
    ),
    "built SQL": (
        built_sql,
        [
            "c.execute(f'SELECT {x}')", "c.exec_driver_sql('SELECT ' + x)", "c.execute('SELECT %s' % x)",
            "c.exec_driver_sql('SELECT {}'.format(x))", "from sqlalchemy import text\ntext(f'a = {x}')",
            "import sqlalchemy as sa\nsa.text('a = ' + x)", "query = f'DELETE FROM {t}'\nc.execute(query)",
            "def make(t):\n    return 'DELETE FROM ' + t\nc.execute(make(1))", "c.execute(' '.join(parts))",
            "c.execute(a if b else f'SELECT {x}')", "q = 'SELECT'\nq += f' {x}'\nc.execute(q)",
            "await c.fetch('SELECT ' + x)", "run_statement(c, f'SELECT {x}', ())",
        ],
        [
            "c.execute('SELECT ?', (x,))", "c.execute(select(EVENT))", "text(f'own {x}')",
            "QUERY = 'SELECT 1'\nc.execute(QUERY)",
            "from sqlalchemy import text\ntext('a = :a')", "c.execute(select(A).join(B))",
        ],
    ),
}  # fmt: skip

TYPED_TWICE = "both were typed at this terminal a moment ago"
NO_SECRET = "a fingerprint or the mark of a session's user, kept in the database for all who run the hub"
A_DOUBLE = "a counterpart for tests and the demo: it guards nothing"
OF_THE_SOURCE = "names of our own tables, columns and settings; every value is a parameter"
ALLOWED: dict[str, str] = {
    "hub/commands/people.py: password != again": TYPED_TWICE,
    "hub/store/sessions.py: SESSION.c.mark == mark": NO_SECRET,
    "hub/store/sessions.py: SESSION.c.mark == new.mark": NO_SECRET,
    "hub/web/pages/event.py: whole.event.secret in known": NO_SECRET,
    "hub/web/pages/live.py: mark == known[0]": "what a page was when it was last looked at, by a hash of it",
    "hub/web/pages/refused.py: SIGNATURE in (shown['headers'] or {})": "the header's name",
    "hub/testing/conformance.py: secret not in text": "the kit looks for secrets that a connector shows",
    "hub/testing/slack.py: request.path != WEBHOOK_PATH + self.webhook_secret": A_DOUBLE,
    "hub/testing/slack.py: authorization != f'Bearer {self.token}'": A_DOUBLE,
    "hub/testing/smtp.py: self._mail_server.users.get(user, '').encode() != data.password": A_DOUBLE,
    "hub/backup.py: copy.execute(f'PRAGMA {depth}(1)')": "one of two words",
    "hub/database.py: connection.execute(f'PRAGMA {pragma}')": OF_THE_SOURCE,
    "hub/database.py: connection.execute(f\"SET transaction_timeout = '{TRANSACTION_TIMEOUT}'\")": OF_THE_SOURCE,
    "hub/migrations/tables.py: text(f\"LOCK TABLE {', '.join(names)}\")": OF_THE_SOURCE,
    "hub/store/__init__.py: literal_column(f\"'{name}'\")": OF_THE_SOURCE,
    "hub/store/events.py: run_statement(connection, INSERT_ARRAYS, "
    "tuple(map(list, zip(*events, strict=True))))": OF_THE_SOURCE,
    "hub/store/events.py: run_statement(connection, statement, tuple(chain.from_iterable(events)))": OF_THE_SOURCE,
    "hub/store/wide.py: connection.exec_driver_sql(statement, parameters)": OF_THE_SOURCE,
    "hub/store/wide.py: driver.execute(statement, parameters)": OF_THE_SOURCE,
    "hub/store/wide.py: run_statement(connection, f'{fresh} UPDATE {table.name} SET {changes} FROM fresh "
    "WHERE {found}', _parameters(connection, table, both, part))": OF_THE_SOURCE,
    "hub/store/wide.py: run_statement(connection, f'{statement} {conflict}', "
    "_parameters(connection, table, names, part))": OF_THE_SOURCE,
}
"""`file: breach` and why it is none."""


@pytest.mark.parametrize("name", RULES)
def test_a_rule_finds_what_it_is_for_and_nothing_else(name: str) -> None:
    rule, breaches, fine = RULES[name]
    assert [source for source in breaches if not list(rule(ast.parse(source)))] == []
    assert [source for source in fine if list(rule(ast.parse(source)))] == []


def breaches_of(rule: Rule) -> Iterator[str]:
    for folder in ("hub", "connectors"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in rule(ast.parse(path.read_text())):
                yield f"{path.relative_to(ROOT)}: {ast.unparse(node)}"


def test_s03_s35_the_source_keeps_the_rules() -> None:
    """S03, S17, S34, S35: no breach that is not named above; and nothing is named that is no longer there."""
    found = {breach for rule, _, _ in RULES.values() for breach in breaches_of(rule)}
    assert sorted(found - ALLOWED.keys()) == []
    assert sorted(ALLOWED.keys() - found) == []


# ---- templates, and ruff's own rules

UNESCAPED = re.compile(
    r"\|\s*safe\b|autoescape\s+false|\bMarkup\b|<script(?![^>]*\bsrc=)|\son\w+\s*=|\sstyle\s*=|href\s*=\s*[^\"'\s]"
)


def test_s18_s19_no_template_lets_text_through_as_it_is() -> None:
    """S18, S19: no `safe`, no script or style inside a page, no attribute without quotes."""
    for planted in (
        "{{ x|safe }}", "{{ x | safe }}", "{% autoescape false %}", "<script>x</script>", "<a href={{ x }}>",
        '<p onclick="x">', '<p style="x">',
    ):  # fmt: skip
        assert UNESCAPED.search(planted), planted
    assert len(TEMPLATES) > 10
    found = [f"{path.name}: {one[0]}" for path in TEMPLATES for one in UNESCAPED.finditer(path.read_text())]
    assert found == []


def test_s40_ruffs_security_rules_are_on() -> None:
    """S40: all of them for what is installed; what a file may do all the same stands beside its reason."""
    text = (ROOT / "pyproject.toml").read_text()
    lint = tomllib.loads(text)["tool"]["ruff"]["lint"]
    assert "S" in lint["select"]
    assert {code for code in lint["ignore"] if re.fullmatch(r"S\d*", code)} == {"S101"}
    for pattern, codes in lint["per-file-ignores"].items():
        assert "S" not in codes, pattern
    bare = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in ("hub", "connectors")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"noqa(?!: [A-Z]+\d+)", line)
    ]
    assert bare == []
