"""The sentence that each report begins with: what it claims, what it does not claim, and what it would have found."""

import dataclasses
import random
from pathlib import Path

import pytest
from result_contents import result_content
from synthetic_results import random_result

from orca_bench.report import comparison_lines
from orca_bench.report.comparison import Comparison, compare, correct_together
from orca_bench.report.comparison_lines import NO_DIFFERENCE_SHOWN, ComparisonLine
from orca_bench.report.conclusions import comparison_sentence, comparisons_sentence, scores_sentence
from orca_bench.report.html_page import page_pieces
from orca_bench.report.reported_comparison import compare_with_reported
from orca_bench.report.reported_scores import read_reported_scores
from orca_bench.results import reading
from orca_bench.results.migration import migrate_result
from orca_bench.results.models import Result
from orca_bench.results.reading import ResultFile
from orca_bench.stats.detectable_losses import detectable_loss
from orca_bench.stats.paired_tests import paired_difference
from orca_bench.suite import TASK_BY_NAME


def line(name, rose, fell, n=100):
    """A line of a task of which `rose` questions of `n` became right and `fell` wrong."""
    base_scores = [0] * rose + [1] * fell + [0] * (n - rose - fell)
    other_scores = [1] * rose + [0] * fell + [0] * (n - rose - fell)
    difference = paired_difference(base_scores, other_scores)
    return ComparisonLine(name, TASK_BY_NAME[name].title, "acc", fell / n, rose / n, difference)


def sentence(*lines, **options):
    """The sentence of a comparison of `new` with `old`."""
    return comparison_sentence(correct_together([Comparison("old", "new", list(lines), **options)])[0])


def a_result(label, **options):
    """A small result without questions."""
    return ResultFile(Path(f"{label}.json"), label, migrate_result(Result.from_file_content(result_content(**options))))


def test_better_and_worse_are_said_of_significant_differences_and_the_rest_could_have_been_shown():
    text = sentence(line("hellaswag", 60, 0), line("arc_challenge", 50, 2), line("mmlu", 5, 7))
    assert text.startswith("new is better than old on HellaSwag and ARC-Challenge (2 of 3 tasks); ")
    assert "on MMLU no difference is shown (" in text and text.endswith("points would have been).")
    assert sentence(line("hellaswag", 60, 0)).startswith(
        "new is better than old on HellaSwag (+60.0 points, 95 % interval "
    )
    mixed = sentence(line("hellaswag", 60, 0), line("winogrande", 0, 60))
    assert mixed == "new is better than old on HellaSwag (1 of 2 tasks) and worse on Winogrande."


def test_without_a_significant_difference_nothing_is_claimed():
    text = sentence(line("hellaswag", 6, 4), line("mmlu", 5, 7))
    assert text.startswith("No difference between new and old is shown on any of 2 tasks (")
    assert "better" not in text and "worse" not in text


def open_lines(count):
    """Lines that show nothing, so that the others are tested at a stricter level."""
    difference = paired_difference([1, 0, 1, 0], [1, 0, 0, 1])
    return [ComparisonLine(name, name, "acc", 0.5, 0.5, difference) for name in list(TASK_BY_NAME)[:count]]


def simulated_line(random_numbers, n, noise, loss, other_lines):
    """A line of `n` questions: `noise` of them turn each way, and `loss` of them fall besides."""
    draws = [random_numbers.random() for _ in range(n)]
    base_scores = [draw >= noise for draw in draws]
    other_scores = [draw < noise or draw >= 2 * noise + loss for draw in draws]
    difference = paired_difference([int(score) for score in base_scores], [int(score) for score in other_scores])
    line = ComparisonLine("mmlu", "MMLU", "acc", 1.0, 1.0 + difference.value, difference)
    return correct_together([Comparison("old", "new", [line, *other_lines])])[0].lines[0]


@pytest.mark.parametrize("n", [8, 20, 120, 400])
@pytest.mark.parametrize("other_count", [0, 6])
def test_a_difference_of_the_size_that_would_have_been_shown_is_shown_four_times_in_five(n, other_count):
    random_numbers, other_lines, is_worse_by_trial, size_by_counts = random.Random(1), open_lines(other_count), [], {}
    for _ in range(200):
        line = simulated_line(random_numbers, n, 0.05, 0.0, other_lines)
        counts = (line.difference.better, line.difference.worse)
        if line.verdict != NO_DIFFERENCE_SHOWN:
            continue
        size = size_by_counts.setdefault(counts, line.smallest_detectable)
        if size is not None:
            is_worse_by_trial.append(simulated_line(random_numbers, n, 0.05, size, other_lines).verdict == "worse")
    if n == 8:  # there is no size that is shown so often
        assert not is_worse_by_trial
    else:
        assert len(is_worse_by_trial) > 40 and 0.7 < sum(is_worse_by_trial) / len(is_worse_by_trial) < 0.9


def test_a_difference_that_only_its_own_line_shows_is_not_significant_among_others():
    alone = line("hellaswag", 15, 4)
    among_others = correct_together([Comparison("old", "new", [alone, *open_lines(6)])])[0].lines[0]
    assert alone.is_significant and alone.verdict == "better"
    assert not among_others.is_significant and among_others.verdict == NO_DIFFERENCE_SHOWN
    uncompared = ComparisonLine("drop", "DROP", "f1", note="other rows")
    assert not uncompared.is_significant and uncompared.verdict == "other rows"


def test_both_commands_give_one_size_at_one_level():
    difference = line("mmlu", 5, 7).difference
    alone = correct_together([Comparison("old", "new", [line("mmlu", 5, 7)])])[0].lines[0]
    beside_found = correct_together([Comparison("old", "new", [line("mmlu", 5, 7), line("drop", 60, 0)])])[0].lines[0]
    of_seven = correct_together([Comparison("old", "new", [line(name, 5, 7) for name in TASK_BY_NAME])])[0].lines[0]
    assert alone.smallest_detectable == detectable_loss(difference, 0.05).smallest
    assert beside_found.smallest_detectable == alone.smallest_detectable  # Holm tests it last
    assert of_seven.smallest_detectable == detectable_loss(difference, 0.05 / 7).smallest


@pytest.mark.parametrize(("n", "task_count", "too_few"), [(5, 1, True), (6, 1, False), (8, 7, True), (9, 7, False)])
def test_questions_are_too_few_where_even_if_all_fell_nothing_would_be_shown(n, task_count, too_few):
    comparison = Comparison("old", "new", [line("mmlu", 0, n, n), *open_lines(task_count - 1)])
    fallen = correct_together([comparison])[0].lines[0]
    assert fallen.has_too_few_questions == (fallen.verdict == NO_DIFFERENCE_SHOWN) == too_few


def test_one_question_shows_nothing_and_says_so():
    assert "with so few questions none could have been" in sentence(line("mmlu", 1, 0, n=1))
    one = a_result("m", names=["mmlu"])
    one.result.tasks["mmlu"].n = 1
    assert "1 question): too few to conclude from" in scores_sentence([one])


def test_tasks_that_cannot_be_compared_are_named_with_the_reason():
    other_rows = ComparisonLine("drop", "DROP", "f1", note="other rows")
    assert sentence(line("hellaswag", 60, 0), other_rows).endswith(" DROP was not compared (other rows).")
    assert sentence(other_rows) == "new and old cannot be compared (DROP: other rows)."


def test_a_difference_of_protocols_and_a_comparison_without_pairs_are_said():
    assert "a difference may be theirs" in sentence(line("mmlu", 60, 0), protocols=("orca v2", "leaderboard v1"))
    text = comparison_sentence(compare_with_reported(a_result("m", value=0.9), read_reported_scores()))
    assert text.startswith("m is better than the reported orca_mini_13b on all 7 tasks.") and "weaker" in text


def test_one_result_is_said_with_its_setting_and_how_exactly_it_is_known():
    text = scores_sentence([a_result("m", limit=20, comparable=False)], read_reported_scores())
    assert (
        "m scores 50.0 % in the mean of all seven (suite mini, protocol orca, first 20 questions of each task, 700"
        in text
    )
    assert "reported" not in text
    assert "interval" in scores_sentence([a_result("m", names=["mmlu"])])
    assert "no finished task" in scores_sentence([a_result("m", names=[])])


def test_different_suites_and_protocols_are_never_ranked():
    text = scores_sentence([a_result("a"), a_result("b", value=0.9, comparable=False), a_result("c", protocol="plain")])
    assert "different suites (open-llm-leaderboard-v1 and mini) and protocols (orca and plain)" in text
    assert "best" not in text and "highest" not in text and "better" not in text


def test_many_results_have_a_highest_mean_and_it_is_said_over_which_that_is_shown(in_results_folder):
    folder = in_results_folder.folder
    good, bad = (reading.read_with_questions(folder / f"{name}.json", name) for name in ("good", "bad"))
    assert scores_sentence([good, bad]).startswith(
        "good is better than bad on HellaSwag (1 of 7 tasks); on the other 6 "
    )
    twin = dataclasses.replace(good, label="twin")
    text = scores_sentence([bad, good, twin])
    assert text.endswith("good and twin share the highest mean of all seven; none of them is shown to be best.")
    near = scores_sentence([a_result("x", value=0.499), a_result("y"), a_result("z", value=0.498)])
    assert near.endswith("y has the highest mean of all seven, but is not shown to be better than any of the others.")
    far = scores_sentence([a_result("x", value=0.1), a_result("y"), a_result("z", value=0.49)])
    assert far.endswith("y has the highest mean of all seven; it is not shown to be better than z.")
    same = scores_sentence([a_result("x"), a_result("y"), a_result("z")])
    assert "all have the same mean of all seven" in same and "highest" not in same
    mmlu_alone = good.result.model_copy(update={"tasks": {"mmlu": good.result.tasks["mmlu"]}})
    assert "not all of them of the same tasks" in scores_sentence(
        [good, twin, dataclasses.replace(good, label="x", result=mmlu_alone)]
    )
    ten_rows = dataclasses.replace(good, label="ten rows", result=good.result.model_copy(update={"limit": 10}))
    text = scores_sentence([ten_rows, bad, twin])
    assert (
        "first 10 or 12 questions of each task), not all of them of the same questions, so none is best over all"
        in text
    )
    assert "highest" not in text and "better" not in text
    several = comparisons_sentence(compare(good, [bad, reading.read_with_questions(folder / "a.json", "a")]))
    assert several.startswith("Worse than good on some tasks and better on none: ")


def test_without_a_mean_of_all_seven_better_is_said_of_some_tasks_and_not_of_the_mean(tmp_path):
    rates = {"a": 0.9, "b": 0.1, "c": 0.2}
    results = [random_result(tmp_path, name, rate, tasks=["drop", "gsm8k"]) for name, rate in rates.items()]
    assert scores_sentence(results).endswith(
        "a has the highest mean of 2 tasks, and is shown to be better on some tasks and worse on none than each of the others."
    )
    (tmp_path / "one").mkdir()
    of_one_task = [random_result(tmp_path / "one", name, rate, tasks=["drop"]) for name, rate in rates.items()]
    assert scores_sentence(of_one_task).endswith(
        "a has the highest score on DROP, and is shown to be better than each of the others."
    )


def test_several_comparisons_are_told_of_a_model_whose_name_has_braces():
    lines = [line("hellaswag", 5, 7)]
    comparisons = correct_together([Comparison("m{v2}", other, lines) for other in ("m{1}", "{}")])
    assert comparisons_sentence(comparisons) == "No difference shown: m{1} and {}."
    better = correct_together([Comparison("m{v2}", other, [line("hellaswag", 60, 0)]) for other in ("m{1}", "{}")])
    assert comparisons_sentence(better).startswith("Better than m{v2} on some tasks and worse on none: m{1} (1 of 1)")


@pytest.mark.parametrize("count", [2, 3])
def test_what_each_line_would_have_shown_is_computed_once(monkeypatch, tmp_path, count):
    lines = []
    monkeypatch.setattr(
        comparison_lines, "detectable_loss", lambda *arguments: lines.append(arguments) or detectable_loss(*arguments)
    )
    results = [random_result(tmp_path, f"m{seed}", 0.4, seed=seed, tasks=["drop", "gsm8k"]) for seed in range(count)]
    if count == 2:  # the sentence, the table and the picture of a page rest on one comparison
        assert "points would have been" in "".join(page_pieces("title", results, None, [None] * count))
    else:
        assert "highest mean" in scores_sentence(results)
    assert len(lines) == 2 * (count - 1)
