"""Contrast of the page's colours, by WCAG 2.2: 4.5 for text, 3 for lines and marks."""

import re
from importlib.resources import files

import pytest

STYLE = (files("relay.observe.status_page") / "style.css").read_text()


def themes() -> dict[str, dict[str, str]]:
    light, dark = re.findall(r":root\{(.*?)\}", STYLE)
    return {
        name: dict(re.findall(r"--(\w+):(#\w+)", text)) for name, text in (("light", light), ("dark", dark))
    }


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(each * 2 for each in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("ground", ["bg", "card"])
@pytest.mark.parametrize(
    ("ink", "least"),
    [("ink", 7), ("soft", 4.5), ("ok", 4.5), ("bad", 4.5), ("seen", 4.5), ("sent", 3), ("focus", 3)],
)
def test_colours_can_be_read(theme: str, ground: str, ink: str, least: float) -> None:
    colours = themes()[theme]

    assert contrast(colours[ink], colours[ground]) >= least


def test_both_themes_name_the_same_colours() -> None:
    light, dark = themes().values()

    assert light.keys() == dark.keys()
    assert set(re.findall(r"var\(--(\w+)\)", STYLE)) == light.keys()
