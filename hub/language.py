"""The one language of conditions (`when:`) and templates: Jinja's, bounded.

Here are its filters, what a condition and a template can name, and how both are compiled and run;
hub/sandbox.py says what they may reach and how much they may use. Every failure is a TemplateError whose text
names the field. Numbers are floats in conditions and Decimal in templates.
"""

import json
import re
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Any, cast
from urllib.parse import quote
from zoneinfo import ZoneInfo

import jinja2
import markupsafe
from jinja2 import filters as jinja
from jinja2 import nodes, pass_environment, pass_eval_context
from jinja2.meta import find_undeclared_variables
from jinja2.nodes import EvalContext
from jinja2.runtime import Context

from hub import sandbox
from hub.connector import Event
from hub.errors import TemplateError
from hub.money import amount_text
from hub.sandbox import NotFetched, Sandbox, calculated, fits, kind, near, pay, ranked, shortened, spend, text, weigh

__all__ = [
    "FETCHED", "FILTERS", "NAMES", "CompiledTemplate", "Condition", "compile_condition", "compile_template",
    "condition_names", "evaluated", "names_for", "renderers",
]  # fmt: skip

MAX_CONDITION = 4 * 1024
MAX_TEMPLATE = 64 * 1024
NAMES = {
    "event": "id, type, entity, store, occurred_at, received_at",
    "data": "the webhook's data",
    "store": "the store's name",
    "public_url": "the hub's own address, or null",
}
FETCHED = {
    "order": "the order that the event is about, as the store has it now",
    "customer": "the customer, the order's where the event names none",
    "product": "the product",
}
"""What can be named too where the route's `with` lists it."""


def money(value: Any, currency: str | None = None) -> str:
    plain = number(value)
    code = str(currency or "").strip()[:8]
    try:
        amount = amount_text(plain, code)
    except InvalidOperation:
        raise TemplateError(f"{shortened(str(value))} is not an amount") from None
    return f"{code}{' ' if code.isalnum() else ''}{amount}"


def number(value: Any) -> Decimal:
    """Text or a number as a finite Decimal; a float as what it reads like. Raises TemplateError."""
    try:
        plain = Decimal(repr(value) if isinstance(value, float) else text(value).strip()[: sandbox.WIDEST])
    except InvalidOperation:
        plain = Decimal("NaN")
    if isinstance(value, bool) or not plain.is_finite():
        raise TemplateError(f"{shortened(str(value))} is not a number")
    return plain


def when(value: Any, form: str = "%d %b %Y, %H:%M %Z", zone: str = "UTC") -> str:
    if len(form) > sandbox.WIDEST or re.search(r"%(?![a-zA-Z%])", form):
        raise TemplateError("not a date's format: use %Y, %m, %d, %H, %M without widths")
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(text(value)[:40])
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment.astimezone(ZoneInfo(zone)).strftime(form)


def as_json(value: Any) -> str:
    written: list[str] = []
    _write_json(value, written, 0)
    return "".join(written)


def _write_json(value: Any, written: list[str], size: int) -> int:
    """Append the value's parts to what is written so far, of `size` characters; the size then."""
    spend()
    if isinstance(value, Mapping):
        opened = "{"
        for key, item in value.items():
            size = _write(f"{opened}{json.dumps(str(key), ensure_ascii=False)}: ", written, size)
            size = _write_json(item, written, size)
            opened = ", "
        return _write("}" if value else "{}", written, size)
    if isinstance(value, list | tuple | range):
        opened = "["
        for item in value:
            size = _write_json(item, written, _write(opened, written, size))
            opened = ", "
        return _write("]" if value else "[]", written, size)
    return _write(_json_leaf(value), written, size)


def _write(part: str, written: list[str], size: int) -> int:
    fits(size + len(part))
    written.append(part)
    return size + len(part)


def _json_leaf(value: Any) -> str:
    if isinstance(value, Decimal | float):
        if not Decimal(value).is_finite():
            raise TemplateError("JSON has no such number")
        return str(value)
    if isinstance(value, date):
        return json.dumps(value.isoformat())
    return json.dumps(value if isinstance(value, bool | int | None) else str(text(value)), ensure_ascii=False)


def rounded(value: Any, places: int = 0, method: str = "common") -> Any:
    if isinstance(value, int) and places >= 0:
        return value
    ways = {"common": ROUND_HALF_UP, "ceil": "ROUND_CEILING", "floor": "ROUND_FLOOR"}
    if method not in ways or not -20 <= places <= 20:
        raise TemplateError("round takes up to 20 places and common, ceil or floor")
    made = number(value).quantize(Decimal(1).scaleb(-places), ways[method])
    return float(made) if isinstance(value, float) else made


def whole(value: Any, default: int = 0) -> int:
    if isinstance(value, Decimal) and not (value.is_finite() and value.adjusted() < 300):
        return default
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return default


def floating(value: Any, default: float = 0.0) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return default


@pass_environment
def unique(
    environment: Sandbox, values: Iterable[Any], case_sensitive: bool = False, attribute: str | int | None = None
) -> Iterator[Any]:
    # Numbers can be chosen so that all have one hash: each is then compared with all before it, and pays for that.
    read = jinja.make_attrgetter(environment, attribute, None if case_sensitive else jinja.ignore_case)
    seen: set[Any] = set()
    alike: Counter[int] = Counter()
    for value in values:
        key = read(value)
        pay(key)
        mark = hash(key)
        spend(alike[mark])
        if key not in seen:
            seen.add(key)
            alike[mark] += 1
            yield value


@pass_environment
def in_order(
    environment: Sandbox,
    values: Iterable[Any],
    reverse: bool = False,
    case_sensitive: bool = False,
    attribute: str | int | None = None,
) -> list[Any]:
    found = ranked(values, jinja.make_multi_attrgetter(environment, attribute))
    return jinja.do_sort(environment, found, reverse, case_sensitive, attribute)


@pass_environment
def grouped(
    environment: Sandbox,
    values: Iterable[Any],
    attribute: str | int,
    default: Any = None,
    case_sensitive: bool = False,
) -> list[Any]:
    found = ranked(values, jinja.make_attrgetter(environment, attribute, default=default))
    return jinja.sync_do_groupby(environment, found, attribute, default, case_sensitive)


def pairs_in_order(
    value: Mapping[Any, Any], case_sensitive: bool = False, by: str = "key", reverse: bool = False
) -> Any:
    ranked(value.items(), lambda pair: pair[by == "value"])
    return jinja.do_dictsort(value, case_sensitive, cast(Any, by), reverse)


def _extreme(function: Callable[..., Any]) -> Callable[..., Any]:
    @pass_environment
    def found(
        environment: Sandbox, values: Iterable[Any], case_sensitive: bool = False, attribute: str | int | None = None
    ) -> Any:
        ranking = ranked(values, jinja.make_attrgetter(environment, attribute))
        return function(environment, ranking, case_sensitive, attribute)

    return found


@pass_environment
def total(environment: Sandbox, values: Iterable[Any], attribute: str | None = None, start: Any = 0) -> Any:
    read = jinja.make_attrgetter(environment, attribute)
    made = start
    for value in values:
        spend()
        made = calculated("+", lambda left, right: left + right, made, _summand(read(value)))
    return made


def _summand(value: Any) -> Any:
    if isinstance(value, str | list | dict):
        raise TemplateError(f"cannot add {kind(value)} in a sum")
    return value


@pass_eval_context
def joined(context: EvalContext, values: Iterable[Any], between: str = "", attribute: str | None = None) -> str:
    read = jinja.make_attrgetter(context.environment, attribute)
    made, size = [], 0
    for value in values:
        spend()
        made.append(text(read(value)))
        size += len(made[-1]) + len(between)
        fits(size)
    return str(jinja.sync_do_join(context, made, between))


def indented(value: Any, width: int = 4, first: bool = False) -> str:
    lines, pad = text(value), " " * min(width, sandbox.WIDEST)
    return (pad if first else "") + sandbox.replaced(lines, "\n", "\n" + pad)


@pass_environment
def truncated(environment: Sandbox, value: Any, length: int = 255, killwords: bool = False, end: str = "…") -> str:
    return jinja.do_truncate(environment, text(value), length, killwords, end, 0)


def encoded(value: Any) -> str:
    plain = text(value)
    fits(2 * len(plain))
    return urlsafe_b64encode(plain.encode("utf-8", "replace")).decode()


def _of_text(function: Callable[[str], str]) -> Callable[[Any], str]:
    return lambda value: function(text(value))


FILTERS: dict[str, tuple[Callable[..., Any], str]] = {
    "abs": (abs, "without its sign"),
    "base64url": (encoded, "as base64 whose letters are safe inside a URL, as some APIs take a query"),
    "capitalize": (_of_text(str.capitalize), "first letter large, the rest small"),
    "count": (len, "the same as length"),
    "d": (jinja.do_default, "the same as default"),
    "date": (when, 'a time as text: date("%d.%m.%Y", "Asia/Kolkata"); UTC unless named'),
    "default": (jinja.do_default, 'the value, or another if it is missing: default("none"); with true also if empty'),
    "dictsort": (pairs_in_order, "an object's (key, value) pairs, sorted"),
    "e": (_of_text(markupsafe.escape), "the same as escape"),
    "escape": (_of_text(markupsafe.escape), "safe inside HTML"),
    "first": (jinja.do_first, "the first of a list"),
    "float": (floating, "as a float, or 0.0"),
    "format": (lambda form, *values, **named: sandbox.printf(form, named or values), '"%s: %.2f" | format(a, b)'),
    "groupby": (grouped, "groups of a list by a field, as (grouper, list)"),
    "indent": (indented, "each line but the first moved to the right: indent(4)"),
    "int": (whole, "as a whole number, or 0"),
    "items": (jinja.do_items, "an object's (key, value) pairs"),
    "join": (joined, 'a list as text: join(", "), join(", ", attribute="sku")'),
    "json": (as_json, "as JSON, quotes included: for bodies that are JSON"),
    "last": (jinja.do_last, "the last of a list"),
    "length": (len, "how many"),
    "list": (jinja.do_list, "as a list"),
    "lower": (_of_text(str.lower), "in small letters"),
    "map": (jinja.do_map, 'a field or filter of each: map(attribute="sku"), map("upper")'),
    "max": (_extreme(jinja.do_max), "the largest"),
    "min": (_extreme(jinja.do_min), "the smallest"),
    "money": (money, 'an amount: 1,234.50; with a currency or sign: money("INR"), money("₹")'),
    "reject": (jinja.do_reject, "those that fail a test"),
    "rejectattr": (jinja.do_rejectattr, "those whose field fails a test"),
    "replace": (lambda value, old, new, count=-1: sandbox.replaced(text(value), old, new, count), 'replace("a", "b")'),
    "reverse": (jinja.do_reverse, "from the end"),
    "round": (rounded, 'round(2), round(0, "ceil"); halves go up'),
    "select": (jinja.do_select, "those that pass a test"),
    "selectattr": (jinja.do_selectattr, 'those whose field passes a test: selectattr("qty", "gt", 1)'),
    "sort": (in_order, 'sorted: sort(attribute="price", reverse=true)'),
    "string": (text, "as text"),
    "sum": (total, 'the sum of a list: sum(attribute="qty")'),
    "title": (_of_text(jinja.do_title), "Each Word With A Large Letter"),
    "tojson": (as_json, "the same as json"),
    "trim": (_of_text(str.strip), "without spaces at both ends"),
    "truncate": (truncated, "cut to a length: truncate(80)"),
    "unique": (unique, "each once"),
    "upper": (_of_text(str.upper), "in large letters"),
    "urlencode": (_of_text(lambda value: quote(value, safe="")), "safe inside a URL"),
}
"""Every filter, and a line of meaning for the reference."""

_FUNCTIONS = {name: function for name, (function, _) in FILTERS.items()}
_CONDITIONS = Sandbox(_FUNCTIONS, decimals=False)
_TEXTS = Sandbox(_FUNCTIONS)
_PAGES = Sandbox(_FUNCTIONS, html=True)


class Condition:
    """A compiled `when:`. `fields` are the dotted paths it names, `fetched` the objects of FETCHED among them."""

    def __init__(self, source: str) -> None:
        self.source = source
        with _as_template_error(ends="it is incomplete: something is missing at its end"):
            tree = _CONDITIONS.parse_bounded(source, expression=True)
            named = find_undeclared_variables(tree)
            unknown = sorted(named - NAMES.keys() - FETCHED.keys())
            self.fetched = frozenset(named & FETCHED.keys())
            self._paths = _paths(tree)
            self._template = _CONDITIONS.from_string(tree)
        if unknown:
            raise TemplateError(f"no name {shortened(unknown[0])}{near(unknown[0], [*NAMES, *FETCHED])}")

    @property
    def fields(self) -> list[str]:
        return [_dotted(path) for path in self._paths]

    def holds(self, names: Mapping[str, Any]) -> bool:
        """Whether it is true of `names` (from `condition_names`). Raises TemplateError (`when: no field …`)."""
        try:
            with sandbox.budgeted():
                context = _context(self._template, names)
                for _ in self._template.root_render_func(context):
                    pass
                return bool(context.vars["result"])
        except Exception as error:
            reason = _reason(error)
            if isinstance(error, TypeError):
                reason = f"{reason}; {self.explain(names)}"
            raise TemplateError(f"when: {reason}") from error

    def explain(self, names: Mapping[str, Any]) -> str:
        """What the fields it names are: `data.total is 40, data.currency is "INR"`, at most 300 characters."""
        return shortened(", ".join(f"{_dotted(path)} is {_value_at(path, names)}" for path in self._paths), 300)


class CompiledTemplate:
    """A compiled template. `html`: values are escaped for HTML where they are written."""

    def __init__(self, source: str, html: bool) -> None:
        environment = _PAGES if html else _TEXTS
        with _as_template_error():
            self._template = environment.from_string(environment.parse_bounded(source))

    def render(self, names: Mapping[str, Any]) -> str:
        """Filled in with `names` (from `names_for`). Raises TemplateError: a missing field, too much output."""
        written, size = [], 0
        try:
            with sandbox.budgeted():
                context = _context(self._template, names)
                for part in self._template.root_render_func(context):
                    size += len(part)
                    fits(size)
                    written.append(part)
        except Exception as error:
            raise _failure(error, self._template, names) from error
        return "".join(written)


class CompiledValue:
    """A compiled template that is one `{{ expression }}` and nothing around it."""

    def __init__(self, tree: nodes.Template, expression: nodes.Expr) -> None:
        tree.body = [nodes.Assign(nodes.Name("result", "store"), expression, lineno=expression.lineno)]
        tree.set_environment(_TEXTS)
        self._template = _TEXTS.from_string(tree)

    def value(self, names: Mapping[str, Any]) -> Any:
        """What it comes to. Raises TemplateError: a missing field, a value too large or none that JSON has."""
        try:
            with sandbox.budgeted():
                context = _context(self._template, names)
                for _ in self._template.root_render_func(context):
                    pass
                made = context.vars["result"]
                weigh(made)
        except Exception as error:
            raise _failure(error, self._template, names) from error
        return str(made) if isinstance(made, markupsafe.Markup) else made


def _failure(error: Exception, template: jinja2.Template, names: Mapping[str, Any]) -> TemplateError:
    reason = _reason(error)
    if reason.startswith("no name "):
        there = [name for name, value in names.items() if not isinstance(value, NotFetched)]
        reason += near(reason.removeprefix("no name "), there)
    line = _line_of(error, template)
    return TemplateError(f"line {line}: {reason}" if line > 1 else reason)


@lru_cache(maxsize=1024)
def compile_condition(source: str) -> Condition:
    """The condition, ready to run. Raises TemplateError for bad syntax, unknown filters and names."""
    if len(source) > MAX_CONDITION:
        raise TemplateError(f"a condition has at most {MAX_CONDITION} characters")
    if re.match(r"\s*\{[{%]", source):
        raise TemplateError("a condition is written without {{ }}: data.total >= 100")
    return Condition(source)


@lru_cache(maxsize=1024)
def compile_template(source: str, *, html: bool = False) -> CompiledTemplate:
    """The template, ready to render. Raises TemplateError for bad syntax and unknown filters."""
    if len(source) > MAX_TEMPLATE:
        raise TemplateError(f"a template has at most {MAX_TEMPLATE} characters")
    return CompiledTemplate(source, html)


@lru_cache(maxsize=1024)
def _compile_value(source: str) -> CompiledValue | None:
    """The template ready to be evaluated; None where it is text, or text with expressions in it."""
    if len(source) > MAX_TEMPLATE or not source.startswith("{{"):
        return None
    with _as_template_error():
        tree = _TEXTS.parse_bounded(source)
        match tree.body:
            case [nodes.Output(nodes=[nodes.Expr() as expression])] if not isinstance(expression, nodes.TemplateData):
                return CompiledValue(tree, expression)
    return None


def evaluated(source: str, names: Mapping[str, Any]) -> Any:
    """A template's value: of one that is a single `{{ expression }}` what that comes to, with its type (a number,
    a list, an object, null, a time); of any other its text. Raises TemplateError."""
    compiled = _compile_value(source)
    return compile_template(source).render(names) if compiled is None else compiled.value(names)


def renderers(read_names: Callable[[], Mapping[str, Any]]) -> tuple[Callable[..., str], Callable[..., Any]]:
    """A Context's `render(template, *, html=False, **more)` and `evaluate(template, **more)`.

    The names are read at the first use: many connectors fill in no template.
    """
    names = cache(read_names)

    def render(template: str, *, html: bool = False, **more: Any) -> str:
        return compile_template(template, html=html).render({**names(), **more})

    def evaluate(template: str, **more: Any) -> Any:
        return evaluated(template, {**names(), **more})

    return render, evaluate


def names_for(
    event: Event,
    *,
    public_url: str | None,
    fetched: Mapping[str, Any] = MappingProxyType({}),
    missing: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """What a template can name (see NAMES and FETCHED). Money and other decimals in `data` are Decimal.

    `missing` says why an object is not among the `fetched`, where it was asked for.
    """
    names = condition_names(event, event.data, public_url=public_url)
    return names | NOT_ASKED_FOR | {name: not_fetched(name, why) for name, why in missing.items()} | dict(fetched)


def not_fetched(name: str, why: str) -> NotFetched:
    """What stands for an object that is not there: undefined, and it says so."""
    return NotFetched(f"{name} was not fetched: {why}")


NOT_ASKED_FOR = {name: not_fetched(name, f"the route has no `with: [{name}]`") for name in FETCHED}


def condition_names(event: Event, data: Mapping[str, Any], *, public_url: str | None = None) -> dict[str, Any]:
    """What a condition can name. `data` is the body's, already parsed, its numbers floats."""
    about = {
        "id": event.id,
        "type": event.type,
        "entity": event.entity,
        "store": event.store,
        "occurred_at": event.occurred_at,
        "received_at": event.received_at,
    }
    return {"event": about, "data": data, "store": event.store, "public_url": public_url}


def _context(template: jinja2.Template, names: Mapping[str, Any]) -> Context:
    # Shared, as Jinja calls it: merging its globals anew for each run costs half of a condition's time.
    return template.new_context({**_CONDITIONS.globals, **names}, shared=True)


Path = tuple[str | int, ...]


def _paths(tree: nodes.Node) -> list[Path]:
    """The fields that an expression names, longest first seen: ("data", "customer", "email")."""
    found: dict[Path, None] = {}
    rest = [tree]
    while rest:
        node = rest.pop()
        path = _path(node)
        if path and (path[0] in NAMES or path[0] in FETCHED):
            found[path] = None
        else:
            rest.extend(reversed(list(node.iter_child_nodes())))
    return list(found)


def _path(node: nodes.Node) -> Path | None:
    if isinstance(node, nodes.Name):
        return (node.name,)
    if isinstance(node, nodes.Getattr):
        step: str | int = node.attr
    elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        step = node.arg.value
    else:
        return None
    before = _path(node.node)
    return (*before, step) if before else None


def _dotted(path: Path) -> str:
    return shortened(".".join(map(str, path)), 100)


def _value_at(path: Path, names: Mapping[str, Any]) -> str:
    value: Any = names
    for step in path:
        try:
            value = cast(Any, value if isinstance(value, Mapping | list) else {})[step]
        except (LookupError, TypeError):
            return "missing"
    return _told(value)


def _told(value: Any) -> str:
    match value:
        case str():
            return f'"{shortened(value)}"'
        case None | bool():
            return json.dumps(value)
        case int() if value.bit_length() > 200:
            return "a large number"
        case int() | float() | Decimal():
            return shortened(str(value))
        case list():
            return f"a list of {len(value)}"
        case date():
            return value.isoformat()
    return kind(value)


@contextmanager
def _as_template_error(ends: str | None = None) -> Iterator[None]:
    """Whatever Jinja's and Python's compilers say of a hostile source, in one line. `ends`: of one that ends early."""
    try:
        yield
    except jinja2.TemplateSyntaxError as error:
        line = f"line {error.lineno}: " if error.lineno > 1 else ""
        if ends is not None and "end of template" in (error.message or ""):
            raise TemplateError(f"{line}{ends}") from error
        raise TemplateError(f"{line}{shortened(error.message or 'bad syntax', 300)}") from error
    except Exception as error:
        raise TemplateError(_reason(error)) from error


KINDS = {
    "str": "text", "int": "a number", "float": "a number", "Decimal": "a number", "decimal.Decimal": "a number",
    "NoneType": "null", "dict": "an object", "list": "a list", "bool": "true or false",
    "datetime.datetime": "a time",
}  # fmt: skip


def _reason(error: Exception) -> str:
    """What went wrong, on one line of at most 300 characters, in the words of the config's author."""
    match error:
        case RecursionError() | MemoryError():
            return "it is nested too deeply"
        case ZeroDivisionError():
            return "division by zero"
        case ArithmeticError():
            return "a number is out of range"
    said = re.sub(r"'([\w.]+)'", lambda found: KINDS.get(found[1], found[0]), str(error))
    said = re.sub(r"'(\S+)' not supported between instances of (.+) and (.+)", r"\1 cannot compare \2 with \3", said)
    return shortened(said or type(error).__name__, 300)


def _line_of(error: Exception, template: jinja2.Template) -> int:
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__jinja_template__") is template:
            line = template.get_corresponding_lineno(trace.tb_lineno)
        trace = trace.tb_next
    return line
