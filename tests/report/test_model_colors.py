"""The colours of models: they belong to the model, can be read on light and on dark, and are told apart."""

import itertools

import pytest
from synthetic_results import random_result

from orca_bench.report.model_colors import (
    DARK_BACKGROUND,
    LIGHT_BACKGROUND,
    MARKERS,
    PALETTE,
    ModelStyle,
    css_properties,
    name_styles,
    result_styles,
)

#: What a reader without one kind of cone sees of linear RGB (Machado, Oliveira and Fernandes 2009, severity 1).
SIGHTS = {
    "usual": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}
_LMS_OF_RGB = ((0.41222, 0.53633, 0.05145), (0.21190, 0.68070, 0.10740), (0.08830, 0.28172, 0.62998))
_LAB_OF_LMS = ((0.21045, 0.79362, -0.00407), (1.97800, -2.42859, 0.45059), (0.02590, 0.78277, -0.80868))


def linear_rgb(color):
    shares = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]


def apply(matrix, vector):
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


def luminance(color):
    return sum(weight * share for weight, share in zip((0.2126, 0.7152, 0.0722), linear_rgb(color), strict=True))


def contrast(color, background):
    """WCAG's contrast ratio."""
    low, high = sorted((luminance(color), luminance(background)))
    return (high + 0.05) / (low + 0.05)


def oklab(color, sight):
    """Björn Ottosson's OKLab (2020) of a colour as a reader of this sight sees it."""
    rgb = [min(1, max(0, share)) for share in apply(SIGHTS[sight], linear_rgb(color))]
    return apply(_LAB_OF_LMS, [share ** (1 / 3) for share in apply(_LMS_OF_RGB, rgb)])


@pytest.mark.parametrize("background", [LIGHT_BACKGROUND, DARK_BACKGROUND])
@pytest.mark.parametrize("color", PALETTE)
def test_every_colour_can_be_read_on_a_light_and_on_a_dark_background(color, background):
    assert contrast(color, background) >= 3


@pytest.mark.parametrize("sight", SIGHTS)
def test_any_two_colours_are_told_apart_by_any_sight(sight):
    for one, other in itertools.combinations(PALETTE, 2):
        distance = sum((a - b) ** 2 for a, b in zip(oklab(one, sight), oklab(other, sight), strict=True)) ** 0.5
        assert distance > 0.075, (one, other)  # about four times what a careful eye just sees


def test_a_model_has_its_colour_in_any_order_and_beside_any_other_model():
    names = ["mini", "mini-untrained"]
    styles = name_styles(names)
    assert styles == name_styles(names[::-1]) and styles["mini"] == name_styles(["mini"])["mini"]
    assert [styles[name].slot for name in names] == [0, 1]


def test_twenty_models_differ_in_colour_or_marker_and_eight_in_both():
    names = [f"model number {n}" for n in range(20)]
    styles = name_styles(names)
    assert len({style.slot for style in styles.values()}) == 20
    assert len({(style.color, style.marker) for style in styles.values()}) == 20
    assert len({(style.color, style.dash) for style in styles.values()}) == 20
    eight = name_styles(names[:8]).values()
    assert len({style.color for style in eight}) == len({style.marker for style in eight}) == 8
    assert {style.marker for style in styles.values()} <= set(MARKERS)


def test_a_style_sheet_names_every_colour():
    assert css_properties(2) == f"--model-1: {PALETTE[0]}; --model-2: {PALETTE[1]};"
    assert ModelStyle(9).css_color == f"var(--model-10, {PALETTE[1]})"


def test_a_model_looks_the_same_under_each_protocol_and_two_results_of_one_protocol_do_not(tmp_path):
    orca, other_orca, leaderboard = (
        random_result(tmp_path, "m", 0.5, file=f"{n}.json", tasks=["drop"], protocol=protocol)
        for n, protocol in enumerate(("orca", "orca", "leaderboard"))
    )
    styles = result_styles([orca, other_orca, leaderboard])
    assert styles[0] == styles[2] != styles[1]
    assert result_styles([]) == []
