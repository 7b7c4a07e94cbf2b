"""How much is ordered, and why, in words. Pure: numbers in, a number and its reason out."""

import math
from dataclasses import dataclass
from datetime import timedelta
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from fractions import Fraction

from connectors.reorder.settings import MOST, HowMuch
from hub.connector import Rejected, Reorder, Skip

DAY = timedelta(days=1)
HALF = 2


@dataclass(frozen=True)
class Sold:
    """What of a SKU was sold in the time before now, all that is known of."""

    units: int
    over: timedelta


@dataclass(frozen=True)
class Need:
    """What the amount follows from. `stock` is at or below `threshold`, and may be below 0 (sold, not there)."""

    stock: int
    threshold: int
    minimum: int = 1
    pack: int = 1
    lead_time: timedelta = timedelta()
    sold: Sold | None = None


@dataclass(frozen=True)
class Amount:
    """How much, and why: `stock 4 ≤ 10; target 60; pack of 12; ordered 60`."""

    quantity: int
    reason: str


def amount_of(how: HowMuch, need: Need, ruled: str | None = None) -> Amount:
    """How much is ordered. `ruled`: what the rule's template gave.

    Raises Skip where the rule wants nothing, Rejected where the settings cannot be followed.
    """
    wanted, words = _wanted(how, need, ruled)
    said = [f"stock {need.stock} ≤ {need.threshold}", words]
    quantity = wanted
    if quantity < need.minimum:
        quantity = need.minimum
        said.append(f"minimum {need.minimum}")
    if need.pack > 1:
        quantity = math.ceil(quantity / need.pack) * need.pack
        said.append(f"pack of {need.pack}")
    if quantity > MOST:
        raise Rejected(f"{'; '.join(said)}: {quantity} is more than {MOST}, the most that is ordered of a SKU at once")
    return Amount(quantity, "; ".join([*said, f"ordered {quantity}"]))


def _wanted(how: HowMuch, need: Need, ruled: str | None) -> tuple[int, str]:
    """What is wanted before minimum and pack: it lifts stock above the threshold, unless a rule says otherwise."""
    least = need.threshold + 1 - need.stock
    if how.lot is not None:
        lots = max(1, math.ceil(least / how.lot))
        return lots * how.lot, f"lot of {how.lot}" if lots == 1 else f"{lots} lots of {how.lot}"
    if how.target is not None:
        if how.target <= need.threshold:
            raise Rejected(
                f"the target {how.target} is not above the threshold {need.threshold}: what is ordered would be low "
                "again at once"
            )
        return how.target - need.stock, f"target {how.target}"
    if how.cover is not None:
        return _covering(how.cover, need, least)
    number = _number(ruled or "")
    if number <= 0:
        raise Skip(f"stock {need.stock} ≤ {need.threshold}; the rule says {number}")
    return number, f"rule says {number}"


def _covering(cover: timedelta, need: Need, least: int) -> tuple[int, str]:
    sold = need.sold or Sold(0, DAY)
    time = cover + need.lead_time
    demand = math.ceil(
        Fraction(sold.units * (time // timedelta(seconds=1)), max(sold.over, DAY) // timedelta(seconds=1))
    )
    words = f"{sold.units} sold in {_days(sold.over)}; to last {_days(time)}: {demand}"
    return max(demand - need.stock, least), words


def _number(text: str) -> int:
    try:
        number = Decimal(text.strip())
        if not number.is_finite() or abs(number) > 10**12:
            raise InvalidOperation
    except InvalidOperation:
        raise Rejected(f"the rule gives {text.strip()[:60]!r}, which is no number that can be ordered") from None
    return int(number.to_integral_value(ROUND_CEILING))


def _days(time: timedelta) -> str:
    days = max(1, round(time / DAY))
    return f"{days} day{'s' if days != 1 else ''}"


def has_come(reorder: Reorder, stock: int, sold_since: int | None, over_after: timedelta, waited: timedelta) -> bool:
    """Whether the goods of a reorder that was sent have come, by what the store says of its stock.

    Stock wobbles: an order is cancelled, a parcel comes back. So more than half of what was ordered must have come in
    since then (`sold_since`: what was sold meanwhile, None where that is not known), or the time of delivery be over
    and stock above the threshold. Where it is still low, all of it must have come.
    """
    came = stock - (reorder.stock if reorder.stock is not None else stock) + (sold_since or 0)
    if stock <= (reorder.threshold or 0):
        return came >= reorder.quantity
    return came * HALF >= reorder.quantity or waited >= over_after
