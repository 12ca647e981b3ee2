"""axe finds no serious violation, in light and dark, on a wide and a narrow screen, with everything open."""

import pytest
from browsers import serious_violations
from page_files import lookup_of, write_test_page
from synthetic_results import listed_result, random_result

pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A page of two models whose open question has choices, one whose open question has texts, and one of six models."""
    folder = tmp_path_factory.mktemp("pages")
    texts = ["short", "long\n" * 50]
    of_choices = [
        listed_result(folder / f"{n}.json", f"m{n}", [("arc_challenge", 0, float(n), n, [-1.0, -2.0])])
        for n in range(2)
    ]
    of_texts = [listed_result(folder / f"t{n}.json", f"m{n}", [("drop", 0, n / 3, "7", [texts[n]])]) for n in range(2)]
    of_many = [random_result(folder, f"model {n}", n / 6, seed=n) for n in range(6)]
    lookups = [
        lookup_of("Is it?", ("yes", "no")),
        lookup_of("How many?", passage="A passage. " * 100),
        lookup_of("What?"),
    ]
    pages = []
    for index, (results, lookup) in enumerate(zip((of_choices, of_texts, of_many), lookups, strict=True)):
        (folder / str(index)).mkdir()
        pages.append(write_test_page(folder / str(index), results, [lookup] * len(results)))
    return pages


@pytest.mark.parametrize("width", (1280, 360))
@pytest.mark.parametrize("scheme", ("light", "dark"))
@pytest.mark.parametrize("page_index", range(3))
def test_axe_finds_no_serious_violation(open_page, pages, page_index, scheme, width):
    viewport = {"width": width, "height": 900}
    tab, _ = open_page(pages[page_index], viewport=viewport, color_scheme=scheme, bypass_csp=True)
    tab.wait_for_selector("#detail .request")
    for fold in tab.locator("details summary").all():
        fold.click()
    violations = serious_violations(tab)
    assert not violations, "\n".join(violations)


def test_a_screen_reader_hears_the_question_and_its_outcomes(open_page, pages):
    tab, _ = open_page(pages[0])
    option = tab.locator("[role=listbox] [role=option]").first
    assert option.get_attribute("aria-label") == "Is it?; ARC-Challenge, row 0; m0 wrong, m1 right"
    assert option.get_attribute("aria-posinset") == "1" and option.get_attribute("aria-setsize") == "1"
    assert tab.locator("svg title").count() >= 1
