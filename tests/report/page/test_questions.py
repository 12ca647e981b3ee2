"""The questions of the page in a real browser: list, filters, search, keys, and the pane of one question."""

import pytest
from page_files import lookup_of, write_test_page
from synthetic_results import listed_result, write_result

from orca_bench.results.models import Question
from orca_bench.results.question_texts import QuestionTexts

LOG_PROBABILITIES = [-1.0, -2.0]


def words(tab):
    return tab.locator("#rows .line .words").all_text_contents()


def shown_rows(tab):
    return [int(text.rsplit("· ", 1)[1]) for text in tab.locator("#rows .line .part").all_text_contents()]


@pytest.fixture
def two_models(tmp_path):
    """A is right on odd rows, B on rows below 5, of ten; and one TruthfulQA question with a score between."""
    of_a = [
        *(("arc_challenge", n, float(n % 2), n % 2, LOG_PROBABILITIES) for n in range(10)),
        ("truthful_qa", 0, 0.9, [0], LOG_PROBABILITIES),
    ]
    of_b = [
        *(("arc_challenge", n, float(n < 5), n % 2, LOG_PROBABILITIES) for n in range(10)),
        ("truthful_qa", 0, 0.2, [0], LOG_PROBABILITIES),
    ]
    results = [listed_result(tmp_path / f"{name}.json", name, own) for name, own in (("A", of_a), ("B", of_b))]
    return write_test_page(tmp_path, results, [lookup_of("Question number ROW?", ("yes", "no"))] * 2)


def test_the_list_has_the_words_and_the_outcomes_of_each_question(open_page, two_models):
    tab, log = open_page(two_models)
    assert words(tab)[:2] == ["Question number 0?", "Question number 1?"]
    assert tab.text_content("#count") == "11 of 11 questions"
    assert tab.locator("#rows .line").nth(1).locator(".mark").all_text_contents() == ["✓", "✓"]
    assert tab.locator("#rows .line").nth(10).locator(".mark").all_text_contents() == ["0.90", "0.20"]
    assert not log


def test_filters_by_task_and_outcome(open_page, two_models):
    tab, log = open_page(two_models)
    tab.select_option("#outcome", label="A right, B wrong")
    assert tab.text_content("#count") == "4 of 11 questions" and shown_rows(tab) == [5, 7, 9, 0]
    tab.select_option("#outcome", label="where they differ")
    assert shown_rows(tab) == [0, 2, 4, 5, 7, 9, 0]
    tab.select_option("#task", label="ARC-Challenge")
    assert shown_rows(tab) == [0, 2, 4, 5, 7, 9]
    tab.select_option("#outcome", label="all wrong")
    assert shown_rows(tab) == [6, 8]
    tab.select_option("#outcome", label="B right")
    assert shown_rows(tab) == [0, 1, 2, 3, 4]
    assert not log


def test_a_click_on_a_task_in_table_or_picture_filters(open_page, two_models):
    tab, log = open_page(two_models)
    tab.click("table.scores button[data-task=truthful_qa]")
    assert tab.text_content("#count") == "1 of 11 questions" and tab.input_value("#task") == "truthful_qa"
    tab.locator("figure .wide [data-task=arc_challenge]").first.dispatch_event("click")
    assert tab.text_content("#count") == "10 of 11 questions"
    assert not log


def test_keys_move_in_the_list(open_page, two_models):
    tab, log = open_page(two_models)

    def place_after(key):
        tab.keyboard.press(key)
        current = tab.wait_for_selector("#rows .line.current")
        assert tab.get_attribute("#list", "aria-activedescendant") == current.get_attribute("id")
        assert current.get_attribute("aria-selected") == "true"
        return int(current.get_attribute("data-place"))

    assert int(tab.get_attribute("#rows .line.current", "data-place")) == 0  # the first difference is open
    assert [place_after(key) for key in ("j", "j", "k", "n", "n", "n")] == [1, 2, 1, 2, 4, 5]
    tab.focus("#list")
    assert [place_after(key) for key in ("Home", "ArrowDown", "End", "ArrowUp", "PageUp")] == [0, 1, 10, 9, 0]
    assert tab.evaluate("location.hash") == "#arc_challenge/0"
    tab.focus("#search")
    tab.keyboard.press("j")
    assert tab.input_value("#search") == "j"  # a letter where one writes
    assert not log


def test_a_link_opens_a_question(open_page, two_models):
    tab, log = open_page(two_models, "#arc_challenge/3")
    tab.wait_for_selector("#detail[data-question='3']")
    assert tab.text_content("#detail .question") == "Question number 3?"
    tab.evaluate("location.hash = '#truthful_qa/0'")
    tab.wait_for_selector("#detail[data-question='10']")
    assert not log


def test_an_address_that_cannot_be_decoded_opens_the_first_difference(open_page, two_models):
    tab, log = open_page(two_models, "#100%/3")
    tab.wait_for_selector("#detail[data-question='0']")
    assert not log


def test_the_address_of_a_part_with_a_percent_sign_opens_it_again(open_page, tmp_path):
    questions = [("mmlu_100%", row, 1.0, 0, LOG_PROBABILITIES) for row in range(2)]
    page = write_test_page(tmp_path, [listed_result(tmp_path / "r.json", "m", questions)])
    tab, log = open_page(page)
    tab.keyboard.press("j")
    tab.wait_for_selector("#detail[data-question='1']")
    link = tab.evaluate("location.hash")
    tab, log_of_link = open_page(page, link)
    tab.wait_for_selector("#detail[data-question='1']")
    assert not log and not log_of_link


def wait_for_search(tab, query, count):
    tab.fill("#search", query)
    tab.wait_for_selector(f"#count:text-is('{count}')")


def test_search_finds_words_of_questions_choices_passages_and_answers(open_page, tmp_path):
    texts = {
        ("gsm8k", 0): QuestionTexts("How many apples?"),
        ("gsm8k", 1): QuestionTexts("How many pears?"),
        ("drop", 2): QuestionTexts("Who ran?", passage="An apple tree fell on Ann."),
        ("arc_challenge", 3): QuestionTexts("Which colour?", choices=("apple green", "blue")),
    }
    questions = [
        ("gsm8k", 0, 0.0, "1", ["one"]),
        ("gsm8k", 1, 0.0, "1", ["No APPLE here"]),
        ("drop", 2, 0.0, "Ann", ["Ann"]),
        ("arc_challenge", 3, 1.0, 0, LOG_PROBABILITIES),
    ]
    result = listed_result(tmp_path / "r.json", "m", questions)
    tab, log = open_page(write_test_page(tmp_path, [result], [lambda part, row: texts[part, row]]))
    wait_for_search(tab, "apple", "4 of 4 questions")
    wait_for_search(tab, "apple many", "2 of 4 questions")
    wait_for_search(tab, '"apple tree"', "1 of 4 questions")
    wait_for_search(tab, "ann", "1 of 4 questions")
    wait_for_search(tab, "nothing of that", "0 of 4 questions")
    wait_for_search(tab, "", "4 of 4 questions")
    assert not log


def test_choices_stand_once_with_the_right_one_and_probabilities(open_page, tmp_path):
    results = [
        listed_result(tmp_path / "a.json", "A", [("arc_challenge", 0, 1.0, 0, [-1.0, -2.0])]),
        listed_result(tmp_path / "b.json", "B", [("arc_challenge", 0, 0.0, 0, [-2.0, -1.0])]),
    ]
    results[1].questions_by_task["arc_challenge"].questions_by_key["arc_challenge", 0].prediction = 1
    tab, log = open_page(write_test_page(tmp_path, results, [lookup_of("Is it?", ("yes", "no"))] * 2))
    tab.wait_for_selector("#detail .choice")
    texts = tab.locator("#detail .choice-text").all_text_contents()
    assert texts == ["A yes ✓ right", "B no"]
    lines = tab.locator("#detail .choice .result-share").all_text_contents()
    assert lines == ["A73 %chosen", "B27 %", "A27 %", "B73 %chosen"]  # e⁻¹ and e⁻², to 100 %
    # The question stands before everything else.
    order = tab.evaluate(
        "[...document.querySelectorAll('#detail .question, #detail .choices, #detail .request')].map((e) => e.className)"
    )
    assert order == ["question", "choices", "request"]
    assert not log


def test_models_with_other_right_answers_each_have_their_own(open_page, tmp_path):
    results = [
        listed_result(tmp_path / f"{name}.json", name, [("arc_challenge", 0, 1.0, gold, LOG_PROBABILITIES)])
        for gold, name in enumerate(("A", "B"))
    ]
    tab, log = open_page(write_test_page(tmp_path, results, [lookup_of("Is it?", ("yes", "no"))] * 2))
    tab.wait_for_selector("#detail .choice")
    assert tab.locator("#detail .choice.gold .choice-text").all_text_contents() == ["A yes ✓ right", "B no ✓ right"]
    assert tab.locator("#detail .choice.gold .name").all_text_contents() == ["A", "B"]
    assert not log


def test_of_many_models_a_choice_says_how_many_chose_it(open_page, tmp_path):
    results = [
        listed_result(tmp_path / f"{n}.json", f"model {n}", [("arc_challenge", 0, float(n < 4), 0, [-1.0, -2.0])])
        for n in range(6)
    ]
    for result in results[4:]:
        result.questions_by_task["arc_challenge"].questions_by_key["arc_challenge", 0].prediction = 1
    tab, log = open_page(write_test_page(tmp_path, results, [lookup_of("Is it?", ("yes", "no"))] * 6))
    tab.wait_for_selector("#detail .choice")
    assert tab.locator("#detail .result-share").all_text_contents() == ["chosen by 4 of 6", "chosen by 2 of 6"]
    assert tab.locator("#detail table.shares tr").count() == 7
    tab.select_option("#outcome", label="model 0 right")
    tab.select_option("#second-outcome", label="model 5 wrong")
    assert tab.text_content("#count") == "1 of 1 questions"
    assert not log


def test_truthful_qa_shows_the_choices_of_mc2_and_folds_those_of_mc1(open_page, tmp_path):
    """The leaderboard protocol sends mc1's choices before mc2's; prediction, gold and score are of mc2."""
    answers = [-1.0, -2.0, -1.0, -3.0, -2.0]
    question = Question(
        task="truthful_qa", index=0, row=0, prediction=0, gold=[0, 1], score=0.75, mc1=1.0, answers=answers
    )
    result = write_result(tmp_path / "r.json", "m", [question])
    texts = QuestionTexts("Q?", "", ("a", "b", "c"), tuple(("Q: Q?", f" {choice}", ()) for choice in "acabc"))
    tab, log = open_page(write_test_page(tmp_path, [result], [lambda part, row: texts]))
    tab.wait_for_selector("#detail .choice")
    assert tab.locator("#detail .choice-text").all_text_contents() == ["A a ✓ right", "B b ✓ right", "C c"]
    assert "The score is the sum over the right ones" in tab.text_content("#detail")
    assert "score 0.75" in tab.text_content("#detail .outcomes")
    assert tab.locator("#detail details:has-text('mc1')").get_attribute("open") is None
    # Without the rows it is not known where the two sets part, and nothing is marked.
    tab, log_without = open_page(write_test_page(tmp_path, [result]))
    tab.wait_for_selector("#detail .choice")
    assert (
        tab.locator("#detail .choice").count() == 5
        and tab.locator("#detail .badge.right:has-text('✓ right')").count() == 0
    )
    assert "where they part" in tab.text_content("#detail")
    assert not log and not log_without


def test_long_answers_are_clamped_and_blank_lines_are_seen(open_page, tmp_path):
    text = "first\n\nsecond" + "\n" * 30 + "\n".join(f"line {n}" for n in range(20))
    results = [
        listed_result(tmp_path / "a.json", "A", [("gsm8k", 0, 0.0, "7", [text])]),
        listed_result(tmp_path / "b.json", "B", [("gsm8k", 0, 0.0, "7", [""])]),
    ]
    tab, log = open_page(write_test_page(tmp_path, results, [lookup_of("How many?")] * 2))
    block = tab.wait_for_selector("#detail .answer pre")
    beginning = block.text_content()
    assert beginning.startswith("first\n⏎\nsecond\n⏎ × 29\nline 0") and len(beginning.split("\n")) == 8
    tab.click("#detail .answer .more")
    assert block.text_content() == text and tab.get_attribute("#detail .answer .more", "aria-expanded") == "true"
    tab.click("#detail .answer .more")
    assert block.text_content() == beginning
    assert "(it answered nothing)" in tab.text_content("#detail .answer >> nth=1")
    assert "Right answer: 7" in tab.text_content("#detail")
    assert not log


def test_the_request_is_folded_exact_and_copied(open_page, tmp_path):
    context = "### System:\nBe <kind>.\n\n\n### User:\nQ?\n"
    result = listed_result(tmp_path / "r.json", "m", [("gsm8k", 4, 0.0, "7", ["8"])])
    page = write_test_page(tmp_path, [result], [lookup_of("Q?", context=context, stop=("###", "\n"))])
    tab, log = open_page(page, permissions=["clipboard-read", "clipboard-write"])
    fold = tab.wait_for_selector("#detail .request")
    assert tab.locator("#detail pre.context").count() == 0
    tab.click("#detail .request summary")
    assert tab.wait_for_selector("#detail pre.context").text_content() == context
    assert 'The answer ends at "###", "\\n".' in fold.text_content()
    tab.click("#detail .copy")
    tab.wait_for_selector("#detail .copy:text-is('copied')")
    assert tab.evaluate("navigator.clipboard.readText()") == context
    tab.click("#detail .identifiers summary")
    assert "gsm8k" in tab.text_content("#detail .identifiers dl")
    assert not log


def test_results_of_other_requests_show_each_form_once(open_page, tmp_path):
    questions = [("gsm8k", 4, 0.0, "7", ["8"])]
    results = [
        listed_result(tmp_path / f"{name}.json", name, questions, protocol=name) for name in ("orca", "leaderboard")
    ]
    results.append(listed_result(tmp_path / "other.json", "other", questions, protocol="orca"))
    orca, leaderboard = lookup_of("Q?", context="in the prompt"), lookup_of("Q?", context="without")
    tab, log = open_page(write_test_page(tmp_path, results, [orca, leaderboard, orca]))
    tab.wait_for_selector("#detail .request")
    summaries = tab.locator("#detail .request summary").all_text_contents()
    assert summaries == [
        "The whole request, as it was sent to orca, other",
        "The whole request, as it was sent to leaderboard",
    ]
    assert not log


def test_rows_that_are_not_to_be_had_are_named_and_the_rest_is_shown(open_page, tmp_path):
    questions = [("gsm8k", 4, 0.0, "7", ["my answer"]), ("drop", 0, 1.0, "x", ["x"])]
    result = listed_result(tmp_path / "r.json", "m", questions)
    full_lookup = lookup_of("Known?")
    lookup = lambda part, row: full_lookup(part, row) if part == "drop" else None  # noqa: E731
    page = write_test_page(tmp_path, [result], [lookup], absence_reasons=["GSM8K: the rows cannot be had"])
    tab, log = open_page(page, "#gsm8k/4")
    tab.wait_for_selector("#detail .answer")
    assert "not in this page" in tab.text_content("#detail .missing") and "my answer" in tab.text_content("#detail")
    assert words(tab) == ["GSM8K, row 4", "Known?"]
    assert "GSM8K: the rows cannot be had" in tab.text_content("footer")
    tab, log_without = open_page(write_test_page(tmp_path, [result]))
    assert "--benchmarks FOLDER" in tab.text_content("footer")
    assert not log and not log_without


def test_questions_in_the_training_records_are_marked_and_can_be_filtered(open_page, tmp_path):
    def result(label, overlap_by_row):
        questions = [
            Question(task="arc_challenge", index=row, row=row, prediction=0, gold=0, score=1.0, answers=[-1.0, -2.0])
            for row in range(4)
        ]
        for row, overlap in overlap_by_row.items():
            questions[row].overlap = overlap
        return write_result(tmp_path / f"{label}.json", label, questions, compared_tasks=["arc_challenge"])

    page = write_test_page(tmp_path, [result("A", {1: 0.934, 3: 1.0}), result("B", {2: 1.0})])
    tab, log = open_page(page)
    tab.select_option("#outcome", label="in training records")
    assert shown_rows(tab) == [1, 2, 3]
    tab.select_option("#outcome", label="not in training records")
    assert shown_rows(tab) == [0]
    tab.select_option("#outcome", label="all")
    tab.locator("#rows .line").nth(1).click()
    tab.wait_for_selector("#detail[data-question='1']")
    assert tab.locator("#detail .overlap").all_text_contents() == ["A: 93 % of the question is in the training records"]
    assert not log


def test_a_page_without_such_questions_has_no_filter_for_them(open_page, two_models):
    tab, _ = open_page(two_models)
    assert not any("training records" in text for text in tab.locator("#outcome option").all_text_contents())
