"""The language of conditions and templates: what it says, what it refuses, and that nothing in it can hurt the hub."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.connector import Event
from hub.errors import TemplateError
from hub.language import FILTERS, compile_condition, compile_template, condition_names, evaluated, names_for

DATA = {
    "orderId": "ord_1",
    "total": 40,
    "currency": "INR",
    "note": None,
    "vip": False,
    "customer": {"name": "Asha <Rao>", "email": "asha@example.com"},
    "items": [{"sku": "A", "qty": 2, "price": 9.99}, {"sku": "B", "qty": 1, "price": 100.5}],
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["total", "items", "a", "name"]) | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)
CONDITIONS = [
    "data.total >= 100",
    "data.total",
    "not data.total",
    "data.items | length > 1",
    'data.items[0].name == "x" or data.a.b < 3',
    'data.name | default("") == "INR" and data.total > 1',
    'data.items | selectattr("qty", "gt", 1) | list | length == 1',
    "data.items | sum(attribute='a') * 2 > data.total - 1",
    "data.total in data.items",
    'data.name ~ data.total == "x1"',
    "data.total ** data.a > 1",
    "data.a * data.total == data.name",
    "data.a | sort | join(',') | upper != 'A'",
    'event.type.startswith("order.") and store == "main"',
    "data.a is defined and data.a is number",
    "data.total | money == '1.00'",
    "data.a | round(2) | int > data.total | float",
    "(data | json) == (data.items | string)",
    '"%s" % data.total == "1"',
    "data.a < data.name",
]


def event_of(data: dict[str, Any], type_: str = "order.placed") -> Event:
    body = json.dumps({"event": type_, "data": data}).encode()
    moment = datetime(2024, 1, 15, 10, 30, tzinfo=UTC)
    return Event("evt_1", "main", type_, "order:ord_1", moment, moment, body)


def named(data: dict[str, Any]) -> dict[str, Any]:
    return condition_names(event_of({}), data)


def rendered(source: str, data: dict[str, Any] = DATA, **more: Any) -> str:
    return compile_template(source).render({**names_for(event_of(data), public_url=None), **more})


def failure(work: Callable[[], object]) -> str:
    with pytest.raises(TemplateError) as caught:
        work()
    return str(caught.value)


def outcome(work: Callable[[], object]) -> object:
    """What `work` gives, or the TemplateError that it raises; anything else flies."""
    try:
        return work()
    except TemplateError as error:
        return error


@pytest.mark.parametrize(
    ("source", "held"),
    [
        ("data.total >= 100", False),
        ("data.total >= 40", True),
        ("data.items | length == 2", True),
        ("data.items is mapping", False),
        ("data.keys is defined", False),
        ('data.gone | default("") == ""', True),
        ('data.currency | default("") == "INR" and data.total', True),
        ('data.items | selectattr("qty", "gt", 1) | map(attribute="sku") | list == ["A"]', True),
        ("data.items[1].price > 100 and data.items.1.price < 101", True),
        ('event.type == "order.placed" and event.entity == "order:ord_1"', True),
        ('store in ["main", "other"] and public_url is none', True),
        ("event.occurred_at.year == 2024", True),
        ("data.note", False),
        ("data.vip is false", True),
    ],
)
def test_a_condition_holds_or_not(source: str, held: bool) -> None:
    assert compile_condition(source).holds(named(DATA)) is held


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("data.totl >= 100", "when: no field totl; there is total"),
        ("data.zzz", "when: no field zzz; there are orderId, total, currency, note, vip, customer, items"),
        ("data.customer.mail", "when: no field mail; there is email"),
        ("data.note.x", "when: no field x in null"),
        ("data.note > 1", "when: > cannot compare null with a number; data.note is null"),
        ("data.currency >= 100", 'when: >= cannot compare text with a number; data.currency is "INR"'),
        ("data.total / 0 > 1", "when: division by zero"),
        ("data.items.upper()", "when: no field upper in a list"),
    ],
)
def test_a_failed_condition_names_the_field(source: str, text: str) -> None:
    assert failure(lambda: compile_condition(source).holds(named(DATA))) == text


def test_a_missing_field_among_one_is_named_with_it() -> None:
    assert failure(lambda: compile_condition("data.totl > 1").holds(named({"total": 1}))) == (
        "when: no field totl; there is total"
    )


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("data.total >", "it is incomplete: something is missing at its end"),
        ("", "it is incomplete: something is missing at its end"),
        ("{{ data.total > 1 }}", "a condition is written without {{ }}: data.total >= 100"),
        ("data.total > 1 )", "unexpected ')'"),
        ("data.total | mony", "no filter named mony; there is money"),
        ("data.total is defind", "no test named defind; there are defined, undefined"),
        ("dta.total > 1", "no name dta; there is data"),
        ("x" * 5000, "a condition has at most 4096 characters"),
        ("(" * 500, "it is nested too deeply"),
        ("1+" * 900 + "1", "it is too large or nested too deeply"),
        ("{% if data %}", "a condition is written without {{ }}: data.total >= 100"),
    ],
)
def test_a_bad_condition_is_refused_when_it_is_compiled(source: str, text: str) -> None:
    assert failure(lambda: compile_condition(source)) == text


def test_explain_says_what_the_fields_are() -> None:
    explain = compile_condition(
        'data.total >= 100 and data.currency == "INR" and data.items[0].sku and data.gone.x and data.customer and '
        "data.vip and data.items and data.total < 500"
    ).explain
    assert explain(named(DATA)) == (
        'data.total is 40, data.currency is "INR", data.items.0.sku is "A", data.gone.x is missing, '
        "data.customer is an object, data.vip is false, data.items is a list of 2"
    )


def test_explain_is_bounded_and_printable() -> None:
    condition = compile_condition(" and ".join(f"data.a{number}" for number in range(40)))
    told = condition.explain(named({f"a{number}": "x\n\x1b" * 1000 for number in range(40)}))
    assert len(told) == 300
    assert told.isprintable()


def test_numbers_are_floats_in_conditions_and_decimal_in_templates() -> None:
    data = {"total": 0.1}
    assert compile_condition("data.total + 0.2 > 0.3").holds(named(data))
    assert rendered("{{ data.total + 0.2 == 0.3 }} {{ data.total + 0.2 }}", data) == "True 0.3"


@pytest.mark.parametrize("source", CONDITIONS)
@settings(max_examples=40, deadline=None)
@given(data=st.dictionaries(st.sampled_from(["total", "items", "a", "name"]), JSON, max_size=4))
def test_a_condition_gives_a_bool_or_a_template_error(source: str, data: dict[str, Any]) -> None:
    condition = compile_condition(source)
    names = named(data)
    told = condition.explain(names)
    assert isinstance(told, str)
    assert len(told) <= 300
    found = outcome(lambda: condition.holds(names))
    if isinstance(found, TemplateError):
        assert str(found).startswith("when: ")
        assert len(str(found)) <= 1000
    else:
        assert isinstance(found, bool)


@settings(max_examples=300, deadline=None)
@given(source=st.text(max_size=60) | st.text(alphabet="data.total()[]{}|%<>=!+-*/~'\"01 andornotif", max_size=80))
def test_any_text_compiles_or_is_a_template_error(source: str) -> None:
    held = outcome(lambda: compile_condition(source).holds(named(DATA)))
    text = outcome(lambda: rendered(source))
    assert isinstance(held, bool | TemplateError)
    assert isinstance(text, str | TemplateError)
    assert all(str(found).isprintable() for found in (held, text) if isinstance(found, TemplateError))


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ('{{ data.total | money("INR") }}', "INR 40.00"),
        ('{{ 1234567.005 | money("₹") }}', "₹1,234,567.01"),
        ('{{ 1234.5 | money("JPY") }} {{ "2" | money("kwd") }} {{ 3 | money }}', "JPY 1,235 kwd 2.000 3.00"),
        ("{{ event.occurred_at | date }}", "15 Jan 2024, 10:30 UTC"),
        ('{{ "2024-01-15T23:30:00Z" | date("%d.%m. %H:%M", "Asia/Kolkata") }}', "16.01. 05:00"),
        ("{{ data.customer | json }}", '{"name": "Asha <Rao>", "email": "asha@example.com"}'),
        ('{{ [1, 2.5, none, true, "é\\n", data.items[0].price] | json }}', '[1, 2.5, null, true, "é\\n", 9.99]'),
        ("{{ event.occurred_at | json }}", '"2024-01-15T10:30:00+00:00"'),
        ("[{{ data.note }}]", "[]"),
        (
            "{% for item in data.items %}\n  {{ loop.index }}/{{ loop.length }} {{ item.sku }}\n{% endfor %}",
            "  1/2 A\n  2/2 B\n",
        ),
        ('{{ data.items | sum(attribute="price") }}', "110.49"),
        ('{{ data.items | map(attribute="sku") | join(", ") }}', "A, B"),
        ('{{ data.total * 1.18 }} {{ 7 // 2 }} {{ -3 }} {{ "a" * 3 }} {{ "a" ~ 1 }}', "47.20 3 -3 aaa a1"),
        ('{{ 2.5 | round }} {{ 2.345 | round(2) }} {{ 2.1 | round(0, "ceil") }} {{ 3 | round(1) }}', "3 2.35 3 3"),
        ('{{ "a b&ü" | urlencode }} {{ "%s: %.2f" | format("x", 1.5) }}', "a%20b%26%C3%BC x: 1.50"),
        ("{% set ns = namespace(n=0) %}{% for i in range(5) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}", "10"),
        ('{% for g in data.items | groupby("sku") %}{{ g.grouper }}{{ g.list | length }}{% endfor %}', "A1B1"),
        ('{{ "a,b".split(",") | last }} {{ " x ".strip() }} {{ "Abc".replace("b", "d") }}', "b x Adc"),
        ("{{ data.customer | dictsort | first | last }} {{ data.gone | default('none') }}", "asha@example.com none"),
        ('{{ "one\\ntwo" | indent(2) }} {{ "x" | indent(1, true) }}', "one\n  two  x"),
        ("{{ extra }}", "more"),
    ],
)  # fmt: skip
def test_templates_say(source: str, text: str) -> None:
    assert rendered(source, extra="more") == text


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("{{ data.total }}", 40), ("{{ data.items[0].price * 2 }}", Decimal("19.98")), ("{{ data.note }}", None),
        ("{{ data.items | map(attribute='sku') | list }}", ["A", "B"]), ("{{ data.customer }}", DATA["customer"]),
        ("{{ data.vip }}", False), ("{{ data.total | string }}", "40"), ("{{ '<b>' | escape }}", "&lt;b&gt;"),
        ("{{ event.occurred_at }}", datetime(2024, 1, 15, 10, 30, tzinfo=UTC)), ("{{ data.gone | default(1) }}", 1),
        ("{{ data.total }} ", "40 "), ("no. {{ data.total }}", "no. 40"), ("{{ data.total }}{{ data.total }}", "4040"),
        ("{{ 1 }}{# one #}", 1), ("{% if data.total %}{{ data.total }}{% endif %}", "40"), ("", ""), ("{{ 'a' }}", "a"),
        ('{{ [["a", "=", data.total]] | json | base64url }}', "W1siYSIsICI9IiwgNDBdXQ=="),
    ],
)  # fmt: skip
def test_a_template_that_is_one_expression_has_a_value(source: str, value: Any) -> None:
    found = evaluated(source, names_for(event_of(DATA), public_url=None))
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{{ data.totl }}", "no field totl; there is total"),
        ("{{ dat }}", "no name dat; there is data"),
        ("{{ data.items | map(attribute='sku') }}", "a lazy list is no value: add `| list`"),
        ("{{ namespace(a=1) }}", "a lazy list is no value: add `| list`"),
        ("{{ [data.items] * 10000000 }}", "a value grows too large"),
        ("{{ data.total / 0 }}", "division by zero"),
        ("{{ data.total", "unexpected end of template, expected 'end of print statement'."),
    ],
)
def test_a_value_is_bounded_as_a_text_is(source: str, said: str) -> None:
    assert failure(lambda: evaluated(source, names_for(event_of(DATA), public_url=None))) == said


def test_every_filter_has_a_meaning() -> None:
    assert all(meaning and "\n" not in meaning for _, meaning in FILTERS.values())


@settings(max_examples=200, deadline=None)
@given(value=JSON)
def test_json_inside_a_json_template_reads_back(value: Any) -> None:
    text = compile_template('{"value": {{ data.value | json }}}').render({"data": {"value": value}})
    assert json.loads(text) == {"value": value}


@settings(max_examples=200, deadline=None)
@given(value=st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-(10**12), max_value=10**12))
def test_json_keeps_decimals_exact(value: Decimal) -> None:
    text = compile_template("{{ value | json }}").render({"value": value})
    assert json.loads(text, parse_float=Decimal, parse_int=Decimal) == value


def test_html_escapes_what_comes_from_data() -> None:
    source = (
        "<b>{{ data.customer.name }}</b>{{ data.customer.name | upper }}{{ data.customer.name ~ '<i>' }}"
        "{{ [data.customer.name] | join('<br>') }}{{ data.customer.name | replace('Asha', '<u>') }}"
        "{{ {'n': data.customer.name} | json }}{{ '%s' % data.customer.name }}{{ data.customer.name | truncate(8) }}"
    )
    page = compile_template(source, html=True).render(names_for(event_of(DATA), public_url=None))
    assert page.startswith("<b>Asha &lt;Rao&gt;</b>ASHA &lt;RAO&gt;Asha &lt;Rao&gt;&lt;i&gt;")
    assert page.count("<") == 2
    assert rendered("{{ data.customer.name }}") == "Asha <Rao>"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("a\nb {{ data.totl }}", "line 2: no field totl; there is total"),
        ("{{ totl }}", "no name totl; there are event, data, store, public_url"),
        ("{{ data.items | map('upper') }}", "a lazy list is no value: add `| list`"),
        ("{{ 1 + 'x' }}", "unsupported operand type(s) for +: a number and text"),
        ("{% for x in 3 %}{% endfor %}", "cannot loop over a number"),
        ("{{ 'x' | money }}", "x is not a number"),
    ],
)
def test_a_failed_template_names_the_field(source: str, text: str) -> None:
    assert failure(lambda: rendered(source)) == text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("a\n{{ 1 | mony }}", "line 2: no filter named mony; there is money"),
        ("{% if x %}", "Unexpected end of template"),
        ("{% macro f() %}{% endmacro %}", "Macro is not part of the language"),
        ("{% include 'x' %}", "Include is not part of the language"),
        ("{% set x %}a{% endset %}", "AssignBlock is not part of the language"),
        ("{% autoescape false %}{% endautoescape %}", "EvalContextModifier is not part of the language"),
        ("x" * 70_000, "a template has at most 65536 characters"),
    ],
)
def test_a_bad_template_is_refused_when_it_is_compiled(source: str, text: str) -> None:
    assert text in failure(lambda: compile_template(source))


def test_a_condition_is_cheap() -> None:
    condition = compile_condition('data.total >= 100 and data.currency | default("") == "INR"')
    names = named(DATA)
    best = float("inf")
    for _ in range(20):
        started = time.thread_time()
        for _ in range(100):
            condition.holds(names)
        best = min(best, (time.thread_time() - started) / 100)
    assert best < 100e-6
