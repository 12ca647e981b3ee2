"""Head, tables, pictures, notes and foot of the page, with the results that are hardest to lay out."""

from dataclasses import replace

from page_files import lookup_of, write_test_page
from synthetic_results import listed_result, random_result

from orca_bench.report.reported_scores import read_reported_scores

LONG_NAME = "an-organisation-with-a-long-name/a-model-whose-name-goes-on-and-on-7b-instruct-v0.3"


def fits(tab):
    """Whether nothing of the page is to be found by scrolling it sideways."""
    return tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_ten_seconds_say_which_model_is_better_and_whether_it_is_sure(open_page, tmp_path):
    results = [random_result(tmp_path, "weak", 0.2, seed=1), random_result(tmp_path, "strong", 0.7, seed=2)]
    tab, log = open_page(write_test_page(tmp_path, results, title="strong and weak"))
    assert tab.text_content(".conclusion").startswith("strong is better than weak on all 7 tasks")
    assert tab.locator(".conclusion").bounding_box()["y"] < 250
    facts = dict(
        zip(tab.locator(".facts dt").all_text_contents(), tab.locator(".facts dd").all_text_contents(), strict=True)
    )
    assert facts["Protocol"] == "leaderboard v1" and facts["Questions"] == "560" and facts["Suite"] == "s"
    verdicts = tab.locator("td.verdict > span:nth-child(2)").all_text_contents()
    assert verdicts == ["▲ better"] * 9
    headings = tab.locator("table.by-task tbody.tasks th button").all_text_contents()
    assert headings[0] == "ARC-Challenge" and len(headings) == 7
    assert tab.locator("table.by-task tbody.means th").all_text_contents() == ["Mean of all seven", "Mean without DROP"]
    assert tab.locator("td.score .interval").count() == 18  # an interval in each cell
    kinds = tab.eval_on_selector_all("figure[data-picture]", "figures => figures.map((f) => f.dataset.picture)")
    assert kinds[:2] == ["differences", "subjects"]
    assert not log


def test_no_difference_is_shown_with_what_would_have_been(open_page, tmp_path):
    results = [random_result(tmp_path, "a", 0.5, seed=1), random_result(tmp_path, "b", 0.5, seed=2)]
    tab, log = open_page(write_test_page(tmp_path, results))
    cell = tab.text_content("td.verdict >> nth=0")
    assert "no difference shown" in cell and "would have been" in cell and "±" in cell
    assert not log


def test_without_their_questions_results_are_compared_by_their_errors(open_page, tmp_path):
    results = [random_result(tmp_path, "weak", 0.2, seed=1), random_result(tmp_path, "strong", 0.7, seed=2)]
    tab, log = open_page(write_test_page(tmp_path, [replace(result, questions_by_task={}) for result in results]))
    assert "not by question" in tab.text_content(".conclusion")
    assert "▲ better" in tab.text_content("td.verdict >> nth=0")
    assert not tab.is_visible("#questions") and tab.locator("nav.contents a[href='#questions']").count() == 0
    assert not log


def test_a_result_of_one_task_and_one_question(open_page, tmp_path):
    result = listed_result(tmp_path / "r.json", "m", [("gsm8k", 0, 0.0, "7", ["8"])])
    tab, log = open_page(write_test_page(tmp_path, [result], [lookup_of("Q?")]))
    assert tab.locator("table.by-task tbody th").all_text_contents() == ["GSM8K5-shot · acc · 1 question"]
    assert "one question has no standard error" in tab.text_content("ul.notes >> nth=0")
    badge = tab.locator("td.score sup a").first
    assert badge.text_content() == "a" and badge.get_attribute("href") == "#notes"
    assert not log


def test_a_model_that_answered_nothing(open_page, tmp_path):
    nothing = listed_result(tmp_path / "n.json", "nothing", [("gsm8k", n, 0.0, None, [""]) for n in range(20)])
    other = listed_result(tmp_path / "o.json", "other", [("gsm8k", n, float(n < 15), "7", ["7"]) for n in range(20)])
    tab, log = open_page(write_test_page(tmp_path, [nothing, other]))
    assert tab.text_content("td.score .value >> nth=0").startswith("0.00 [")
    assert "▲ better" in tab.text_content("td.verdict >> nth=0")
    assert not log


def test_twenty_models_with_long_names_on_a_wide_and_a_narrow_screen(open_page, tmp_path):
    results = [
        random_result(
            tmp_path, f"{LONG_NAME}-{n}", 0.2 + n / 40, seed=n, tasks=("gsm8k", "arc_challenge"), file=f"{n}.json"
        )
        for n in range(20)
    ]
    page = write_test_page(tmp_path, results)
    tab, log = open_page(page, viewport={"width": 1280, "height": 900})
    assert fits(tab) and tab.locator("table.by-model tbody tr").count() == 20
    headings = tab.locator("table.by-model thead th button").all_text_contents()
    assert headings == ["Model", "Mean of 2 tasks", "ARC-Challenge", "GSM8K"]
    tab.click("table.by-model thead button:has-text('GSM8K')")
    numbers = tab.eval_on_selector_all(
        "table.by-model tbody tr", "rows => rows.map((row) => Number(row.cells[3].dataset.number))"
    )
    assert numbers == sorted(numbers, reverse=True)
    assert tab.get_attribute("table.by-model thead th >> nth=3", "aria-sort") == "descending"
    tab, log_narrow = open_page(page, viewport={"width": 360, "height": 800})
    assert fits(tab)
    assert tab.is_visible("table.by-task tbody tr >> nth=0") and not tab.is_visible("table.by-model")
    assert not log and not log_narrow


def test_on_a_phone_each_task_is_a_card(open_page, tmp_path):
    results = [
        random_result(tmp_path, "weak", 0.2, seed=1),
        random_result(tmp_path, LONG_NAME, 0.7, seed=2, file="s.json"),
    ]
    tab, log = open_page(write_test_page(tmp_path, results), viewport={"width": 360, "height": 800})
    assert fits(tab)
    cards = tab.locator("table.by-task tbody tr")
    for card in (cards.first, cards.last):
        box = card.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 360
        for part in ("td.score >> nth=0", "td.score >> nth=1", "td.verdict"):
            assert card.locator(part).is_visible()
    assert not log


def test_names_in_right_to_left_script(open_page, tmp_path):
    names = ["نموذج", "דגם גדול"]
    results = [random_result(tmp_path, name, 0.3 + n / 3, seed=n, file=f"{n}.json") for n, name in enumerate(names)]
    tab, log = open_page(write_test_page(tmp_path, results, title=" and ".join(names)))
    for name in names:
        assert tab.locator(f"table.by-task thead bdi:text-is('{name}')").count() >= 1
    direction = tab.eval_on_selector("table.by-task thead bdi", "element => getComputedStyle(element).direction")
    assert direction == "rtl" and fits(tab) and not log


def test_several_suites_and_protocols_are_parted_and_never_ranked_together(open_page, tmp_path):
    results = [
        random_result(tmp_path, "m", 0.3, seed=1, file="1.json"),
        random_result(tmp_path, "m", 0.6, seed=2, file="2.json", protocol="orca"),
        random_result(tmp_path, "n", 0.6, seed=3, file="3.json", protocol="orca"),
        random_result(tmp_path, "n", 0.6, seed=4, file="4.json", suite="mini", comparable=False),
    ]
    tab, log = open_page(write_test_page(tmp_path, results))
    assert tab.locator("section.group h2").all_text_contents() == [
        "s suite, protocol leaderboard v1",
        "s suite, protocol orca v1",
        "mini suite, protocol leaderboard v1",
    ]
    assert tab.text_content("header .conclusion").startswith("Results of several suites and protocols")
    assert tab.locator("section.group").nth(0).locator("td.verdict").count() == 0
    assert tab.locator("section.group").nth(1).locator("td.verdict").count() == 9
    # Rows of the two suites are other questions, of the two protocols the same.
    assert tab.text_content("#count") == "1,120 of 1,120 questions"
    tab.evaluate("document.getElementById('list').scrollTop = 80 * 50")
    tab.wait_for_selector("#rows .part:has-text('ARC-Challenge (mini)')")
    assert not log


def test_one_result_stands_against_the_reported_scores_with_the_error_of_the_difference(open_page, tmp_path):
    result = random_result(tmp_path, "m", 0.9)
    tab, log = open_page(write_test_page(tmp_path, [result], reported=read_reported_scores()))
    assert tab.text_content("table.by-task thead th.verdict") == "against reported"
    assert "±" in tab.text_content("td.verdict >> nth=0") and "42.06" in tab.text_content("td.reported >> nth=0")
    other_suite = random_result(tmp_path, "m", 0.9, comparable=False, file="o.json")
    tab, log_other = open_page(write_test_page(tmp_path, [other_suite], reported=read_reported_scores()))
    assert tab.locator("td.reported").count() == 0
    assert not log and not log_other


def test_notes_on_reported_scores_of_tasks_that_are_not_there_are_left_out(tmp_path):
    remark = "scored on the text before the first colon"  # of the reported GSM8K
    for tasks, is_there in ((["arc_challenge", "winogrande"], False), (["arc_challenge", "gsm8k"], True)):
        result = random_result(tmp_path, "m", 0.5, tasks=tasks)
        page = write_test_page(tmp_path, [result], reported=read_reported_scores()).read_text(encoding="utf-8")
        assert (remark in page) == is_there


def test_the_foot_has_provenance_and_how_to_verify(open_page, tmp_path):
    result = random_result(tmp_path, "m", 0.5)
    tab, log = open_page(write_test_page(tmp_path, [result]))
    assert "orca-bench verify m.json" in tab.text_content("footer pre")
    tab.click("footer details summary")
    assert result.result.result_sha256 in tab.text_content("footer table.facts")
    assert str(tmp_path) not in tab.content()
    assert not log


def test_the_command_that_verifies_quotes_the_names_of_files(tmp_path):
    result = random_result(tmp_path, "a b; c", 0.5)
    page = write_test_page(tmp_path, [result]).read_text(encoding="utf-8")
    assert "orca-bench verify &#x27;a b; c.json&#x27;" in page


def test_print_leaves_out_what_only_a_screen_can_use(open_page, tmp_path):
    result = random_result(tmp_path, "m", 0.5)
    tab, log = open_page(write_test_page(tmp_path, [result]))
    tab.emulate_media(media="print")
    assert tab.is_visible("table.scores") and tab.is_visible(".conclusion") and tab.is_visible("#detail")
    assert not tab.is_visible("#filters") and not tab.is_visible("#list")
    assert not log
