"""The style sheet's colours, light and dark: text stands out by 4.5 to 1, what a chart or a field shows by 3 to 1."""

import re
from pathlib import Path

import pytest

CSS = (Path(__file__).parents[2] / "hub/web/static/hub.css").read_text()
GROUNDS = ("ground", "surface", "raised")
TEXTS = [
    *((text, ground) for text in ("ink", "muted", "accent", "bad", "good", "warn") for ground in GROUNDS),
    *((name, f"{name}-ground") for name in ("good", "warn", "bad", "held", "calm", "accent")),
    *(("ink", f"{name}-ground") for name in ("good", "bad", "accent")),
    ("on-accent", "accent"), ("surface", "bad"),
]  # fmt: skip
SHAPES = [*((f"s{number}", "surface") for number in range(1, 9)), *(("edge", ground) for ground in GROUNDS)]


def colours(scheme: str) -> dict[str, str]:
    """The custom properties of that scheme."""
    light, dark = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
    found = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]+)", light))
    return found if scheme == "light" else found | dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]+)", dark))


def brightness(colour: str) -> float:
    """WCAG's relative luminance."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, bright = sorted((brightness(one), brightness(other)))
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_stands_out(scheme: str) -> None:
    known = colours(scheme)
    for pairs, least in ((TEXTS, 4.5), (SHAPES, 3.0)):
        faint = {pair: round(contrast(known[pair[0]], known[pair[1]]), 2) for pair in pairs}
        assert {pair: number for pair, number in faint.items() if number < least} == {}


def test_nothing_but_the_custom_properties_names_a_colour() -> None:
    """Else one scheme would be forgotten; and nothing is fetched from anywhere."""
    rules = CSS.partition("*, ::before")[2]
    assert re.findall(r"#[0-9a-f]{3,8}\b(?![^{]*\{)", rules) == []
    assert "url(" not in CSS
    assert "@import" not in CSS
