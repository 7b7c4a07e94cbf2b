"""How much is ordered: examples in words, and what holds for all numbers."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.reorder.quantity import Need, Sold, amount_of, has_come
from connectors.reorder.settings import MOST, HowMuch
from hub.connector import Rejected, Reorder, Skip

DAYS = timedelta(days=1)


def how(**given: Any) -> HowMuch:
    return HowMuch.model_validate(given)


@pytest.mark.parametrize(
    ("rule", "need", "ruled", "quantity", "reason"),
    [
        (how(target=60), Need(4, 10, pack=12), None, 60, "stock 4 ≤ 10; target 60; pack of 12; ordered 60"),
        (how(target=60), Need(-3, 10), None, 63, "stock -3 ≤ 10; target 60; ordered 63"),
        (how(lot=24), Need(4, 10), None, 24, "stock 4 ≤ 10; lot of 24; ordered 24"),
        (how(lot=5), Need(-2, 10), None, 15, "stock -2 ≤ 10; 3 lots of 5; ordered 15"),
        (how(target=20), Need(4, 10, minimum=50), None, 50, "stock 4 ≤ 10; target 20; minimum 50; ordered 50"),
        (how(rule="{{ 1 }}"), Need(4, 10, pack=6), " 25.5\n", 30, "stock 4 ≤ 10; rule says 26; pack of 6; ordered 30"),
        (
            how(cover="30d"), Need(4, 10, lead_time=7 * DAYS, sold=Sold(45, 30 * DAYS)), None, 52,
            "stock 4 ≤ 10; 45 sold in 30 days; to last 37 days: 56; ordered 52",
        ),
        (how(cover="30d"), Need(4, 10), None, 7, "stock 4 ≤ 10; 0 sold in 1 day; to last 30 days: 0; ordered 7"),
    ],
)  # fmt: skip
def test_the_reason_tells_how_it_came_about(rule: Any, need: Any, ruled: Any, quantity: int, reason: str) -> None:
    amount = amount_of(rule, need, ruled)
    assert (amount.quantity, amount.reason) == (quantity, reason)


@pytest.mark.parametrize(
    ("rule", "need", "ruled", "outcome", "reason"),
    [
        (how(target=10), Need(4, 10), None, Rejected, "the target 10 is not above the threshold 10"),
        (how(rule="x"), Need(4, 10), "0", Skip, "stock 4 ≤ 10; the rule says 0"),
        (how(rule="x"), Need(4, 10), "-7", Skip, "the rule says -7"),
        (how(rule="x"), Need(4, 10), "many", Rejected, "the rule gives 'many', which is no number"),
        (how(rule="x"), Need(4, 10), "Infinity", Rejected, "is no number that can be ordered"),
        (how(rule="x"), Need(4, 10), "1000001", Rejected, "1000001 is more than 1000000"),
    ],
)
def test_what_cannot_be_ordered_says_why(rule: Any, need: Any, ruled: Any, outcome: type, reason: str) -> None:
    with pytest.raises(outcome, match=reason):
        amount_of(rule, need, ruled)


whole = st.integers(1, 5000)
needs = st.builds(
    lambda threshold, below, minimum, pack, lead, sold, over: Need(
        threshold - below, threshold, minimum, pack, timedelta(days=lead), Sold(sold, timedelta(days=over))
    ),
    st.integers(0, 3000), st.integers(0, 4000), whole, st.integers(1, 500), st.integers(0, 90), st.integers(0, 20_000),
    st.integers(1, 366),
)  # fmt: skip
rules = st.one_of(
    st.builds(lambda lot: how(lot=lot), whole),
    st.builds(lambda target: how(target=target + 3000), whole),
    st.builds(lambda days: how(cover=f"{days}d"), st.integers(1, 120)),
)


@given(rules, needs)
def test_an_amount_is_whole_packs_at_least_the_minimum_and_lifts_stock_above_the_threshold(
    rule: HowMuch, need: Need
) -> None:
    try:
        quantity = amount_of(rule, need).quantity
    except Rejected:
        return
    assert quantity % need.pack == 0
    assert need.minimum <= quantity <= MOST
    assert need.stock + quantity > need.threshold
    bare = amount_of(rule, replace(need, pack=1, minimum=1)).quantity
    assert quantity == math.ceil(max(bare, need.minimum) / need.pack) * need.pack, "no more than packs and minimum ask"


@given(needs, st.integers(1, 120))
def test_what_covers_a_time_lasts_as_long_at_the_pace_of_the_sales(need: Need, days: int) -> None:
    assert need.sold is not None
    try:
        quantity = amount_of(how(cover=f"{days}d"), need).quantity
    except Rejected:
        return
    a_day = need.sold.units / (need.sold.over / DAYS)
    assert need.stock + quantity >= a_day * (days + need.lead_time / DAYS) - 1e-6


NOW = datetime(2026, 1, 1, tzinfo=UTC)
SENT = Reorder(
    "KET-1", "", "Kettle", "Acme", 60, "", stock=4, threshold=10, id="reo_1", route="kit", state="sent",
    opened_at=NOW, due_at=NOW, number="PO-1",
)  # fmt: skip


@pytest.mark.parametrize(
    ("stock", "sold_since", "waited", "come"),
    [
        (11, None, 1, False),  # an order was cancelled
        (33, None, 1, False),
        (34, None, 1, True),  # half of it is there
        (11, None, 7, True),  # the time of delivery is over
        (10, None, 90, False),  # low still
        (11, 30, 1, True),  # 37 came in, and 30 were sold meanwhile
        (8, 56, 1, True),  # all came, and is nearly sold again
        (8, 55, 90, False),
    ],
)
def test_goods_have_come_once_more_came_in_than_wobbling_explains(
    stock: int, sold_since: int | None, waited: int, come: bool
) -> None:
    assert has_come(SENT, stock, sold_since, 7 * DAYS, waited * DAYS) is come
