"""How an amount of money reads: the decimals of each currency, and one way to round.

Both the connectors' messages and the templates' filter `money` go by it, so that they never differ by a cent.
"""

from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

NO_CENTS = frozenset({
    "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF",
})  # fmt: skip
THREE_PLACES = frozenset({"BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"})


def amount_text(amount: Decimal, currency: str) -> str:
    """`1,234.50`: with the decimals of that currency (a code; what is none has two), halves rounded up.

    Raises decimal.InvalidOperation for what is not finite or too large.
    """
    return f"{rounded(amount, currency):,f}"


def rounded(amount: Decimal, currency: str) -> Decimal:
    """The amount with the decimals of that currency, halves rounded up. Raises decimal.InvalidOperation as above."""
    if not amount.is_finite():
        raise InvalidOperation
    code = currency.upper()
    places = 0 if code in NO_CENTS else 3 if code in THREE_PLACES else 2
    return amount.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
