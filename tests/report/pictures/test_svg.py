"""The SVG of a picture: in a page it follows the theme, in a file it has its own colours."""

import re
from xml.etree import ElementTree

import pytest
from synthetic_results import random_result

from orca_bench.report.model_colors import PALETTE, name_styles
from orca_bench.report.pictures import PICTURE_CSS, build_pictures
from orca_bench.report.pictures.drawing import Label
from orca_bench.suite import ALL_TASKS

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    pair = [random_result(folder, label, 0.4 + seed / 4, seed=seed) for seed, label in enumerate(("one", "two"))]
    return build_pictures(pair)


def test_a_page_gives_all_colours_and_the_background_is_transparent(pictures):
    html = "".join(picture.html(f"p{number}") for number, picture in enumerate(pictures))
    for color in re.findall(r'(?:fill|stroke)="([^"]*)"', html):
        assert color == "none" or re.fullmatch(r"var\(--(ink|muted|line|back|model-\d+), [^()]+\)", color), color
    assert "<style" not in html and "<script" not in html and "currentColor" in html
    # No opaque rectangle: those there are catch the pointer.
    assert all('fill-opacity="0' in rect for rect in re.findall(r"<rect[^>]*>", html))


def test_ids_of_several_pictures_in_one_page_are_unique_and_every_picture_has_its_words(pictures):
    root = ElementTree.fromstring(f"<body>{''.join(p.html(f'p{n}') for n, p in enumerate(pictures))}</body>")
    ids = [node.get("id") for node in root.iter() if node.get("id")]
    assert len(ids) == len(set(ids)) == 4 * len(pictures)
    for svg in root.iter(f"{SVG}svg"):
        assert svg.get("role") == "img" and svg.get("aria-labelledby") == svg[0].get("id")
        assert svg.get("aria-describedby") == svg[1].get("id")
        assert svg[0].tag == f"{SVG}title" and svg[0].text and svg[1].tag == f"{SVG}desc" and "percent" in svg[1].text


def test_every_task_can_be_clicked_and_says_its_numbers_under_the_pointer(pictures):
    differences, scores, subjects = (ElementTree.fromstring(picture.html("p")) for picture in pictures)
    names = {task.name for task in ALL_TASKS}
    for root in (differences, scores):
        groups = [node for node in root.iter(f"{SVG}g") if node.get("data-task")]
        assert {group.get("data-task") for group in groups} == names and len(groups) == 2 * len(names)
        assert all(group[0].tag == f"{SVG}title" and "percent" in group[0].text for group in groups)
    assert {node.get("data-task") for node in subjects.iter(f"{SVG}g")} == {"mmlu"}


def test_a_page_shows_one_layout_by_the_width_of_the_figure(pictures):
    html = pictures[0].html("p")
    assert html.count("<svg") == 2 and 'class="wide"' in html and 'class="narrow"' in html
    assert "@container (max-width: 660px)" in PICTURE_CSS


def test_no_letter_of_a_page_is_smaller_than_nine_pixels(tmp_path):
    many = [random_result(tmp_path, f"m{n}", 0.5, file=f"{n}.json", run="m", step=n) for n in range(6)]
    for picture in [*build_pictures(many[:2]), *build_pictures(many)]:
        # The narrowest figures that show each layout: 660 pixels, and a phone of 360 pixels with margins.
        for drawing, figure_width in ((picture.wide, 660), (picture.narrow, 320)):
            smallest = min(shape.size for shape in drawing.all_shapes() if isinstance(shape, Label))
            assert smallest * figure_width / drawing.width >= 9, picture.kind


def test_a_file_has_colours_of_its_own_for_light_and_for_dark(pictures):
    text = pictures[0].svg_text()
    assert "var(" not in text and "prefers-color-scheme: dark" in text and text.startswith("<?xml")
    root = ElementTree.fromstring(text)
    backgrounds = [node for node in root.iter(f"{SVG}rect") if node.get("width") == root.get("width")]
    assert backgrounds[0].get("class") == "fill-background" and backgrounds[0].get("fill") == "#ffffff"
    assert any(color in text for color in PALETTE)


def test_a_verdict_fills_a_point_and_an_open_point_says_that_no_difference_is_shown(tmp_path):
    share = {task.name: 0.5 for task in ALL_TASKS}
    base = random_result(tmp_path, "base", share, seed=1)
    better = random_result(tmp_path, "better", {**share, "drop": 1.0}, seed=2)
    picture = build_pictures([base, better])[0]
    groups = {group.task: group for group in picture.wide.shapes if getattr(group, "task", None)}

    def point(task):
        return next(shape for shape in groups[task].shapes if hasattr(shape, "marker"))

    assert not point("drop").is_hollow and point("drop").paint == name_styles(["base", "better"])["better"]
    assert point("gsm8k").is_hollow
    assert "better is better than base on DROP" in " ".join(
        shape.text for shape in picture.wide.all_shapes() if hasattr(shape, "text")
    )
