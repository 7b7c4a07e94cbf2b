"""The bounded Jinja environment under hub/language.py: what a template may reach, and how much it may use.

Templates run inside the hub's process, so nothing can stop one from outside. Hence three rules:

- A template reaches only what is listed here: mappings by key, lists by index, a few methods of text. There is
  no way to an attribute of any other object, and none to a method of a mapping (`data.items` is a field).
- Whatever multiplies (`*`, `**`, `~`, printf, replace, join, literals that hold lists) is weighed before it is
  made. Statements that collect output unseen (macros, block assignments) are not part of the language.
- Loops, fields, calls, operators, comparisons, filters and tests spend from one budget of steps and seconds, set for
  each run. The clock is looked at when something is spent: so whatever takes longer than going once through its values
  is paid for before it is done.
"""

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import date
from decimal import Decimal
from difflib import get_close_matches
from functools import partial, wraps
from time import thread_time
from typing import Any, cast

from jinja2 import StrictUndefined, Undefined, nodes, pass_context, pass_eval_context
from jinja2.compiler import CodeGenerator, Frame
from jinja2.nodes import EvalContext
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.tests import TESTS as JINJAS_TESTS
from jinja2.utils import Namespace, missing
from jinja2.visitor import NodeTransformer
from markupsafe import Markup

from hub.errors import TemplateError

MAX_OUTPUT = 256 * 1024
MAX_WEIGHT = 2 * 1024 * 1024
MAX_STEPS = 100_000
MAX_SECONDS = 0.25
MAX_RANGE = 10_000
MAX_BITS = 4096
MAX_NODES = 4000
MAX_DEPTH = 60
MAX_DECIMAL = 2048
WIDEST = 200

TEXT_METHODS = frozenset({
    "capitalize", "count", "endswith", "find", "isalpha", "isdigit", "lower", "lstrip", "removeprefix",
    "removesuffix", "replace", "rstrip", "split", "splitlines", "startswith", "strip", "title", "upper",
})  # fmt: skip
TIME_FIELDS = frozenset({"year", "month", "day", "hour", "minute", "second", "isoformat", "weekday"})
LOOP_FIELDS = frozenset({
    "index", "index0", "revindex", "revindex0", "first", "last", "length", "previtem", "nextitem", "cycle",
    "changed",
})  # fmt: skip
LEFT_OUT = (
    nodes.Extends, nodes.Block, nodes.Include, nodes.Import, nodes.FromImport, nodes.Macro, nodes.CallBlock,
    nodes.FilterBlock, nodes.AssignBlock, nodes.EvalContextModifier,
)  # fmt: skip
CONVERSION = re.compile(r"%(?:\([^()]*\))?[#0\- +]{0,5}\d{0,3}(?:\.\d{0,3})?[diouxXeEfFgGcrsa%]")


class Budget:
    """What a run may still use: steps, and seconds of this thread's processor time."""

    __slots__ = ("steps", "until")

    def __init__(self) -> None:
        self.steps = MAX_STEPS
        self.until = 0.0


_budget: ContextVar[Budget] = ContextVar("budget")


@contextmanager
def budgeted() -> Iterator[None]:
    """Everything inside spends from one fresh budget."""
    token = _budget.set(Budget())
    try:
        yield
    finally:
        _budget.reset(token)


def spend(cost: int = 1) -> None:
    """Use up `cost` steps. Raises TemplateError when the run has used more than it may."""
    budget = _budget.get()
    budget.steps -= cost
    now = thread_time()
    # Most conditions spend nothing: the clock is first read at the first step.
    budget.until = budget.until or now + MAX_SECONDS
    if budget.steps < 0 or now > budget.until:
        raise TemplateError("it does too much: loop over less")


def shortened(text: str, limit: int = 40) -> str:
    """Text from outside for a message: on one line, printable, at most `limit` characters."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(letter if letter.isprintable() else "�" for letter in cut)


def near(name: object, available: Iterable[object]) -> str:
    """`; there is total`: the names most like `name`, else the first few, else that there are none."""
    names = [key for key in list(available)[:200] if isinstance(key, str) and len(key) <= 60]
    like = get_close_matches(str(name)[:60], names, 3, 0.6)
    shown = [shortened(key) for key in like or names[:8]]
    if not shown:
        return "; there are none"
    more = ", …" if not like and len(names) > 8 else ""
    return f"; there {'is' if len(shown) == 1 else 'are'} {', '.join(shown)}{more}"


def kind(value: object) -> str:
    """What a value is, in the words of JSON."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float() | Decimal():
            return "a number"
        case str():
            return "text"
        case Mapping():
            return "an object"
        case list() | tuple() | range():
            return "a list"
        case date():
            return "a time"
    return "a value made here"


class Missing(StrictUndefined):
    """A field that is not there. Any use but `is defined` and `default` fails and names what there is."""

    __slots__ = ()

    @property
    def _undefined_message(self) -> str:
        if self._undefined_hint:
            return self._undefined_hint
        name = shortened(str(self._undefined_name))
        if self._undefined_obj is missing:
            return f"no name {name}"
        if isinstance(self._undefined_obj, Mapping):
            return f"no field {name}{near(self._undefined_name, self._undefined_obj)}"
        return f"no field {name} in {kind(self._undefined_obj)}"


class NotFetched(Missing):
    """An object that a route's `with` may name and that is not there; its hint says why. So are all its fields."""

    __slots__ = ()


LEAVES = frozenset({int, float, bool, Decimal, type(None)})


def weigh(value: object, limit: int = MAX_WEIGHT) -> int:
    """Values and characters in `value`, each counted as often as it would be written out, a range with its numbers.

    Raises TemplateError beyond `limit`, and for what has no value to a template (a loop, a namespace).
    """
    weight, rest = 0, [value]
    while rest:
        item = rest.pop()
        weight += 1
        if type(item) in LEAVES:
            continue
        if isinstance(item, str | range):
            weight += len(item)
        elif isinstance(item, Mapping):
            rest.extend(item.keys())
            rest.extend(item.values())
        elif isinstance(item, list | tuple):
            rest.extend(item)
        elif isinstance(item, Undefined):
            str(item)
        elif not (isinstance(item, int | float | Decimal | date)):
            raise TemplateError("a lazy list is no value: add `| list`")
        if weight + len(rest) > limit:
            raise TemplateError("a value grows too large")
    return weight


def pay(*values: Any) -> None:
    """Spend a step, and one for every 64 values and characters in `values`."""
    spend(1 + sum(map(weigh, values)) // 64)


def text(value: object) -> str:
    """`value` as text; Markup stays Markup. Raises TemplateError if it would be too long."""
    if isinstance(value, str):
        return value
    weigh(value, MAX_OUTPUT)
    return str(value)


def fits(size: int) -> None:
    """Raise TemplateError if a text of that many characters would be too long."""
    if size > MAX_OUTPUT:
        raise TemplateError(f"a text grows over {MAX_OUTPUT // 1024} KiB")


def replaced(value: str, old: str, new: str, count: int = -1) -> str:
    """str.replace, measured first."""
    times = value.count(old) if count < 0 else min(value.count(old), count)
    fits(len(value) + times * len(new))
    return value.replace(old, new, count)


def printf(form: str, values: Any) -> str:
    """Python's `%`: widths up to three digits, no `*`, and measured first."""
    if "%" in CONVERSION.sub("", form):
        raise TemplateError("not a format: use %s, %d or %.2f, with widths of at most 3 digits")
    for value in values.values() if isinstance(values, Mapping) else values if isinstance(values, tuple) else [values]:
        if isinstance(value, Decimal) and value.adjusted() > 300:
            raise TemplateError("a number is too large")
    fits(len(form) + form.count("%") * (weigh(values) + 1000))
    return cast(str, form % values)


def bounded_range(*bounds: int) -> range:
    """range, not longer than MAX_RANGE."""
    made = range(*bounds)
    if len(made) > MAX_RANGE:
        raise TemplateError(f"range is longer than {MAX_RANGE}")
    return made


def calculated(sign: str, plain: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    """A binary operator's value. A float meets a Decimal as what it reads like: 1.18 is Decimal("1.18")."""
    if isinstance(left, Undefined) or isinstance(right, Undefined):
        return plain(left, right)
    if isinstance(left, str) and sign == "%":
        return printf(left, right)
    if isinstance(left, Decimal) and isinstance(right, float):
        right = Decimal(repr(right))
    elif isinstance(left, float) and isinstance(right, Decimal):
        left = Decimal(repr(left))
    for value in (left, right):
        # A division of decimals of a million digits takes minutes; their size tells how many without counting them.
        if isinstance(value, Decimal) and value.__sizeof__() > MAX_DECIMAL:
            raise TemplateError("a number is too large")
    _measure(sign, left, right)
    return plain(left, right)


def _measure(sign: str, left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length(), right.bit_length()
        made = bits[0] * abs(right) if sign == "**" else sum(bits) if sign == "*" else max(bits)
        if made > MAX_BITS and not (sign == "**" and bits[0] <= 1):
            raise TemplateError("a number is too large")
    elif sign == "*" and (isinstance(left, int) or isinstance(right, int)):
        times, many = (left, right) if isinstance(left, int) else (right, left)
        if isinstance(many, str | list | tuple):
            weight = weigh(many) * times
            if weight > MAX_OUTPUT:
                raise TemplateError("a value grows too large")
            spend(max(weight, 0) // 64)
    elif sign == "+" and isinstance(left, str | list | tuple):
        weight = weigh(left) + weigh(right)
        fits(weight)
        spend(weight // 64)


COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "lteq": operator.le, "gt": operator.gt,
    "gteq": operator.ge, "in": lambda one, many: one in many, "notin": lambda one, many: one not in many,
}  # fmt: skip
CONTAINERS = (list, tuple, range, Mapping)


def compared(comparison: str, left: Any, right: Any) -> Any:
    """A comparison's value, paid for by what it goes through: an `in` the whole of what it looks into."""
    if type(right) in LEAVES:
        pass
    elif isinstance(right, str):
        if isinstance(left, str) and len(left) + len(right) > WIDEST:
            pay(left, right)
    elif isinstance(right, CONTAINERS):
        inside = comparison in {"in", "notin"}
        if isinstance(left, CONTAINERS):
            # Two lists are compared as far as the shorter goes: `data.items == []` costs nothing.
            pay(right if inside else min(left, right, key=len))
        elif inside:
            spend(1 + len(right) // 64)
    return COMPARISONS[comparison](left, right)


def sliced(value: Any, *bounds: Any) -> Any:
    """`value[start:stop:step]`, paid for by its length."""
    made = value[slice(*bounds)]
    spend(1 + len(made) // 64)
    return made


def of_text(value: str, method: str, *args: Any, **named: Any) -> Any:
    """A method of text. What strip takes away is bounded: each character is looked for among them."""
    pay(value, *args, *named.values())
    if method in {"strip", "lstrip", "rstrip"} and args and args[0] is not None and len(args[0]) > WIDEST:
        raise TemplateError(f"{method} takes at most {WIDEST} characters")
    if method == "replace":
        return replaced(value, *args, **named)
    made = getattr(value, method)(*args, **named)
    if isinstance(made, list):
        # Each part is an object of its own, however short.
        spend(len(made) // 8)
    return made


def named_values(*values: Any, **named: Any) -> Namespace:
    """A namespace from names and from objects; Python's dict would take pairs, with keys that a payload chooses."""
    if not all(isinstance(value, Mapping) for value in values):
        raise TemplateError("namespace takes names: namespace(total=0)")
    return Namespace(*values, **named)


class Counted:
    """What a `for` goes over; each round is a step."""

    def __init__(self, over: Any) -> None:
        if not isinstance(over, Iterable):
            raise TemplateError(f"cannot loop over {kind(over)}")
        self.over = over

    def __iter__(self) -> Iterator[Any]:
        return counted(self.over)

    def __len__(self) -> int:
        return len(cast(Any, self.over))


class Bounds(NodeTransformer):
    """Puts the measured forms in place of what the sandbox does not see: loops, `~`, literals, floats."""

    def __init__(self, decimals: bool) -> None:
        self.decimals = decimals

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = _call("counted", node.iter)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _call("glued", *node.nodes, line=node.lineno)

    def visit_List(self, node: nodes.List) -> nodes.Node:
        self.generic_visit(node)
        return _call("weighed", node)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        self.generic_visit(node)
        return _call("weighed", node)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return node if node.ctx == "store" else _call("weighed", node)

    def visit_Const(self, node: nodes.Const) -> nodes.Node:
        if self.decimals and isinstance(node.value, float):
            return _call("decimal", nodes.Const(repr(node.value), lineno=node.lineno))
        return node


def _call(name: str, *values: nodes.Node, line: int | None = None) -> nodes.Call:
    line = values[0].lineno if line is None else line
    function = nodes.EnvironmentAttribute(name, lineno=line)
    return nodes.Call(function, cast(list[nodes.Expr], list(values)), [], None, None, lineno=line)


class Generator(CodeGenerator):
    """Compiles comparisons to `compared` and slices to `sliced`, which Jinja leaves to Python."""

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:
        # In a chain the value between two comparisons is kept for the next: it is worked out once.
        kept = ""
        self.write("(")
        for index, operand in enumerate(node.ops, 1):
            self.write(f"environment.compared({operand.op!r}, ")
            self.write(kept) if kept else self.visit(node.expr, frame)
            kept = self.temporary_identifier()
            self.write(f", ({kept} := ")
            self.visit(operand.expr, frame)
            self.write("))" if index == len(node.ops) else ")) and ")
        self.write(")")

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:
        if not isinstance(node.arg, nodes.Slice):
            super().visit_Getitem(node, frame)
            return
        self.write("environment.sliced(")
        self.visit(node.node, frame)
        for bound in (node.arg.start, node.arg.stop, node.arg.step):
            self.write(", ")
            self.visit(bound or nodes.Const(None), frame)
        self.write(")")


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox with these bounds. `decimals`: number literals are Decimal, like the data in templates."""

    code_generator_class = Generator
    compared = staticmethod(compared)
    sliced = staticmethod(sliced)
    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self, filters: Mapping[str, Callable[..., Any]], *, html: bool = False, decimals: bool = True) -> None:
        super().__init__(
            undefined=Missing,
            autoescape=html,
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            finalize=shown,
        )
        self.globals = {"range": bounded_range, "namespace": named_values}
        self.filters = {name: charged(function) for name, function in filters.items()}
        self.tests = {name: charged(test) for name, test in {**cast(Any, JINJAS_TESTS), **TESTS}.items()}
        self.decimals = decimals

    def parse_bounded(self, source: str, *, expression: bool = False) -> nodes.Template:
        """The checked and bounded tree; an expression's value is assigned to `result`. Raises TemplateError."""
        parser = Parser(self, source, state="variable" if expression else None)
        if expression:
            value = parser.parse_expression()
            if not parser.stream.eos:
                raise TemplateError(f"unexpected {shortened(str(parser.stream.current))!r} after the condition")
            body: list[nodes.Node] = [nodes.Assign(nodes.Name("result", "store"), value, lineno=1)]
            tree = nodes.Template(body, lineno=1)
        else:
            tree = parser.parse()
        check_tree(tree, self)
        Bounds(self.decimals).visit(tree)
        tree.set_environment(self)
        return tree

    def getattr(self, obj: Any, attribute: str) -> Any:
        """The key first, then what is listed above; nothing else."""
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        spend()
        if isinstance(obj, NotFetched):
            return obj
        if isinstance(obj, Undefined):
            str(obj)
        if isinstance(obj, Mapping | list | range) or (isinstance(obj, str | tuple) and isinstance(argument, int)):
            try:
                return obj[argument]
            except (TypeError, LookupError):
                return self.undefined(obj=obj, name=argument)
        if not isinstance(argument, str) or not _readable(obj, argument):
            return self.undefined(obj=obj, name=argument)
        if isinstance(obj, str):
            return partial(of_text, obj, argument)
        try:
            return getattr(obj, argument)
        except AttributeError:
            return self.undefined(obj=obj, name=argument)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        spend()
        return _paid(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        spend()
        return calculated(operator, self.binop_table[operator], left, right)

    @staticmethod
    def counted(over: Any) -> Counted:
        str(over) if isinstance(over, Undefined) else None
        return Counted(over)

    @staticmethod
    def weighed(value: Any) -> Any:
        weigh(value)
        return value

    @staticmethod
    def decimal(digits: str) -> Decimal:
        return Decimal(digits)

    @staticmethod
    @pass_eval_context
    def glued(context: EvalContext, *values: Any) -> str:
        texts = [text(value) for value in values]
        fits(sum(map(len, texts)))
        return (Markup("") if context.autoescape else "").join(texts)


def _readable(obj: object, name: str) -> bool:
    match obj:
        case str():
            return name in TEXT_METHODS
        case date():
            return name in TIME_FIELDS
        case LoopContext():
            return name in LOOP_FIELDS
        case Namespace():
            return not name.startswith("_")
        case tuple():
            return name in getattr(obj, "_fields", ())
    return False


@pass_context
def shown(_: Context, value: Any) -> Any:
    """What `{{ value }}` writes: null writes nothing. Taking the context keeps Jinja from running it early."""
    if value is None:
        return ""
    return value if isinstance(value, str | int | float | Decimal) else text(value)


def charged(function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter or test, paying a step for each call, for what it made, and for each item of a lazy list."""

    # wraps also carries Jinja's mark of which argument a filter wants (environment, context).
    @wraps(function)
    def paying(*args: Any, **kwargs: Any) -> Any:
        spend()
        made = function(*args, **kwargs)
        return counted(made) if isinstance(made, Iterator) else _paid(made)

    return paying


def ranked(values: Iterable[Any], key: Callable[[Any], Any]) -> list[Any]:
    """They as a list, paid for what it takes to put them in the order of their keys."""
    found, weight = list(counted(values)), 0
    for value in found:
        made = key(value)
        weight += weigh(made) if isinstance(made, list | tuple) else 0
        if weight > MAX_WEIGHT:
            raise TemplateError("a value grows too large")
    spend(weight * len(found).bit_length() // 64)
    return found


def counted(values: Iterable[Any]) -> Iterator[Any]:
    """Each of them, a step each."""
    for value in values:
        spend()
        yield value


def _paid(value: Any) -> Any:
    if isinstance(value, str | list | tuple | dict):
        spend(weigh(value) // 64)
    return value


TESTS: dict[str, Callable[..., Any]] = {
    "divisibleby": lambda value, by: _remainder(value, by) == 0,
    "even": lambda value: _remainder(value, 2) == 0,
    "odd": lambda value: _remainder(value, 2) == 1,
    "lower": lambda value: text(value).islower(),
    "upper": lambda value: text(value).isupper(),
    **{
        name: partial(compared, comparison)
        for comparison, names in {
            "eq": "== eq equalto", "ne": "!= ne", "lt": "< lt lessthan", "lteq": "<= le",
            "gt": "> gt greaterthan", "gteq": ">= ge", "in": "in",
        }.items()
        for name in names.split()
    },
}  # fmt: skip
"""In place of Jinja's tests of these names, which do not measure what they do."""


def _remainder(value: Any, by: Any) -> Any:
    # For text `%` is printf, of any width.
    return calculated("%", operator.mod, value, by)


def check_tree(tree: nodes.Template, environment: Sandbox) -> None:
    """Raise TemplateError, with the line, for what is not part of the language or too much of it."""
    rest: list[tuple[nodes.Node, int]] = [(tree, 0)]
    count = 0
    while rest:
        node, depth = rest.pop()
        count += 1
        if count > MAX_NODES or depth > MAX_DEPTH:
            raise TemplateError("it is too large or nested too deeply")
        problem = _problem(node, environment)
        if problem:
            raise TemplateError(f"line {node.lineno}: {problem}" if (node.lineno or 1) > 1 else problem)
        rest.extend((child, depth + 1) for child in node.iter_child_nodes())


def _problem(node: nodes.Node, environment: Sandbox) -> str:
    if isinstance(node, LEFT_OUT) or (isinstance(node, nodes.For) and node.recursive):
        return f"{type(node).__name__} is not part of the language"
    if isinstance(node, nodes.Filter) and node.name not in environment.filters:
        return f"no filter named {shortened(node.name)}{near(node.name, sorted(environment.filters))}"
    if isinstance(node, nodes.Test) and node.name not in environment.tests:
        return f"no test named {shortened(node.name)}{near(node.name, sorted(environment.tests))}"
    return ""
