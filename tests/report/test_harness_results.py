"""Reports of tasks that the suite does not have: the tables, the comparison, the gate, the page and the pictures."""

import json
import re
from dataclasses import replace

import pytest
from harness_results import harness_result

from orca_bench.errors import UserError
from orca_bench.report import gate, gate_formats, html_page
from orca_bench.report.comparison import compare
from orca_bench.report.comparison_formats import to_grid as comparison_grid
from orca_bench.report.comparison_formats import to_json as comparison_json
from orca_bench.report.conclusions import scores_sentence
from orca_bench.report.gate_rules import GateRules, read_rules
from orca_bench.report.pictures import build_pictures
from orca_bench.report.reported_scores import read_reported_scores
from orca_bench.report.result_tables import result_grids
from orca_bench.results.models import HarnessQuestion


@pytest.fixture
def small(tmp_path):
    return harness_result(tmp_path / "small.json", "small", 0.3, 5.0, seed=1)


@pytest.fixture
def large(tmp_path):
    return harness_result(tmp_path / "large.json", "large", 0.8, 3.5, seed=1)


def texts(grid):
    return [[cell.text for cell in row] for row in grid.rows]


def test_a_table_shows_each_task_in_its_own_unit_and_no_column_of_reported_scores(small):
    (grid,) = result_grids([small], read_reported_scores())
    assert grid.headings == ["Task", "Shots", "Metric", "small", "n"]
    rows = texts(grid)
    assert [row[0] for row in rows] == ["arc_easy", "wikitext", "pair"]
    value = small.result.tasks["wikitext"].value
    assert rows[1][2] == "word_perplexity ↓" and rows[1][3].startswith(f"{value:.2f} ± ") and value > 100
    assert rows[0][3].startswith(f"{100 * small.result.tasks['arc_easy'].value:.2f} ± ")
    assert "lower is better" in grid.caption() and "reported" not in grid.caption()


def test_the_lowest_perplexity_is_the_best_of_a_leaderboard(small, large, tmp_path):
    middle = harness_result(tmp_path / "m.json", "middle", 0.5, 4.5, seed=1)
    (grid,) = result_grids([small, large, middle], None)
    column = grid.headings.index("wikitext ↓")
    assert [row[0].text for row in grid.rows] == ["large", "middle", "small"]
    assert [row[column].bold for row in grid.rows] == [True, False, False]


def test_a_lower_perplexity_is_better_and_the_numbers_for_programs_are_in_its_unit(small, large):
    (comparison,) = compare(small, [large])
    line = comparison.line("wikitext")
    assert line.verdict == "better" and line.difference.value < 0
    (content,) = comparison_json([comparison])
    by_name = {line["name"]: line for line in content["lines"]}
    assert by_name["wikitext"]["first"] == pytest.approx(small.result.tasks["wikitext"].value)
    assert by_name["wikitext"]["unit"] == "perplexity" and "unit" not in by_name["arc_easy"]
    assert by_name["arc_easy"]["second"] == pytest.approx(large.result.tasks["arc_easy"].value)
    assert content["sentence"] == "large is better than small on all 3 tasks."
    row = next(row for row in texts(comparison_grid(comparison)) if row[0] == "wikitext")
    assert row[1] == f"{small.result.tasks['wikitext'].value:.2f}"


def test_results_of_other_rows_are_paired_by_the_hashes_of_the_rows_where_they_have_them(small, large):
    large.result.data_hashes = {}
    (comparison,) = compare_or_none(small, large)
    assert comparison is None
    for file in (small, large):
        for task_questions in file.questions_by_task.values():
            for key, question in task_questions.questions_by_key.items():
                question.document_sha256 = f"{key}"
    (comparison,) = compare(small, [large])
    assert comparison.line("arc_easy").difference.n == 40


def compare_or_none(base, other):
    try:
        return compare(base, [other])
    except UserError as error:
        assert "other rows" in str(error)
        return [None]


def test_further_metrics_are_compared_and_shown_each_by_its_own_questions(small, large):
    for file in (small, large):
        entry = file.result.tasks["wikitext"]
        entry.metrics["byte_perplexity"] = entry.metrics["word_perplexity"].model_copy(update={"value": 2.5})
    (comparison,) = compare(small, [large])
    line = comparison.line("wikitext:byte_perplexity")
    assert line.main_name == "wikitext" and line.verdict == "better" and line.base_score < 0.05
    assert not line.is_task and not line.is_average
    (grid,) = result_grids([small], None)
    assert [row[2] for row in texts(grid)][1:3] == ["word_perplexity ↓", "byte_perplexity ↓"]


def test_a_value_that_is_no_mean_of_questions_is_compared_by_its_errors_or_not_at_all(small, large):
    for file, value in ((small, 10.0), (large, 30.0)):
        entry = file.result.tasks["arc_easy"]
        entry.unit, entry.value, entry.stderr, entry.metric = "points", value, 2.0, "bleu"
        entry.harness.aggregation = "bleu"
    line = compare(small, [large])[0].line("arc_easy")
    assert line.verdict == "better" and line.difference.test == "unpaired z of two values"
    assert 100 * line.difference.value == pytest.approx(20) and 100 * line.difference.stderr == pytest.approx(8**0.5)
    small.result.tasks["arc_easy"].stderr = None
    line = compare(small, [large])[0].line("arc_easy")
    assert line.difference is None and "no mean of questions" in line.note
    large.result.tasks["arc_easy"].metric = "chrf"
    assert compare(small, [large])[0].line("arc_easy").note == "bleu and chrf"


def test_the_gate_fails_where_a_perplexity_rises(small, large):
    report = gate.check(small, [large], GateRules(tasks=("wikitext",)))
    (verdict,) = report.verdicts
    assert not report.passed and verdict.outcome == "worse" and len(verdict.lost_questions) == 12
    assert verdict.comparison.difference > 0
    content = gate_formats.to_json(report)["tasks"][0]
    assert content["value"] == pytest.approx(small.result.tasks["wikitext"].value) and content["unit"] == "perplexity"
    assert gate.check(large, [small], GateRules()).passed
    markdown = gate_formats.to_markdown(report, None)
    assert "row 0" in markdown and "→" in markdown and "right → wrong" not in markdown


def test_a_floor_of_a_perplexity_is_the_most_that_it_may_be(small, large, tmp_path):
    rules = tmp_path / "rules.yaml"
    rules.write_text("floors: {wikitext: 60}\ntasks: [pair]\n")
    names = {"wikitext", "pair", "arc_easy"}
    assert gate.check(large, [small], read_rules(rules, names)).passed
    verdicts = gate.check(small, [large], read_rules(rules, names)).verdicts
    assert next(verdict for verdict in verdicts if verdict.name == "wikitext").reason.endswith(
        "above the ceiling of 60"
    )
    rules.write_text("floors: {wikitxt: 60}\n")
    with pytest.raises(UserError, match="unknown task 'wikitxt'.*wikitext"):
        read_rules(rules, names)


def test_equal_results_pass_the_gate_and_several_baselines_have_a_spread_of_their_own_for_each_unit(large, tmp_path):
    baselines = [harness_result(tmp_path / f"s{seed}.json", f"s{seed}", 0.8, 3.5, seed=seed) for seed in range(10, 14)]
    report = gate.check(large, baselines, GateRules())
    assert report.passed, [verdict.reason for verdict in report.verdicts]
    by_name = {verdict.name: verdict for verdict in report.verdicts}
    assert by_name["wikitext"].comparison.can_show_loss and by_name["arc_easy"].comparison.stderr < 0.5


def test_the_page_and_the_pictures_have_the_tasks(small, large):
    html = "".join(html_page.page_pieces("t", [small, large], read_reported_scores(), [None, None]))
    assert "word_perplexity ↓" in html and 'data-task="wikitext"' in html and "95 % interval" in html
    pictures = build_pictures([small, large], None)
    words = json.dumps([picture.description for picture in pictures])
    assert "arc_easy" in words and "wikitext" not in words


def test_differences_of_a_perplexity_are_given_in_its_unit_and_not_in_points(small, large):
    (comparison,) = compare(small, [large])
    assert "in points, or the metric's own unit" in comparison_grid(comparison).caption()
    html = "".join(html_page.page_pieces("t", [small, large], None, [None, None]))
    assert "Percent, or the metric&#x27;s own unit," in html or "Percent, or the metric's own unit," in html
    verdicts = {
        task: re.search(rf'data-task="{task}".*?class="verdict".*?<small>(.*?)</small>', html, re.DOTALL)[1]
        for task in ("arc_easy", "wikitext")
    }
    assert re.fullmatch(r"[+−][\d.]+ ± [\d.]+ perplexity", verdicts["wikitext"]), verdicts
    assert re.fullmatch(r"[+−][\d.]+ ± [\d.]+ points", verdicts["arc_easy"]), verdicts
    report = gate.check(large, [small], GateRules())
    assert "minus baseline in points, or the metric's own unit, ±" in gate_formats.to_markdown(report, 0)
    report = gate.check(large, [small], GateRules(tasks=("wikitext",)))
    assert "the smallest true loss, in perplexity, that" in gate_formats.to_markdown(report, 0)


def test_sentences_speak_of_a_single_task_in_its_unit(small):
    only = replace(small, questions_by_task={"wikitext": small.questions_by_task["wikitext"]})
    only.result.tasks = {"wikitext": small.result.tasks["wikitext"]}
    value = small.result.tasks["wikitext"].value
    sentence = scores_sentence([only])
    assert f"scores {value:.1f} perplexity on wikitext" in sentence and "the true score lies between" in sentence
    assert isinstance(next(iter(only.questions_by_task["wikitext"].questions_by_key.values())), HarnessQuestion)


def test_a_table_warns_of_numbers_in_different_units(small, large):
    small.result.tasks["arc_easy"].unit = "points"
    (grid,) = result_grids([small, large], None)
    assert "in different units: points, percent" in [note.text for note in grid.notes]


def test_the_gate_says_why_a_value_without_an_error_is_not_compared(small, large):
    for file in (small, large):
        entry = file.result.tasks["arc_easy"]
        entry.stderr, entry.metric, entry.harness.aggregation = None, "mcc", "matthews_corrcoef"
    verdict = next(
        verdict for verdict in gate.check(small, [large], GateRules()).verdicts if verdict.name == "arc_easy"
    )
    assert verdict.reason == "not comparable: mcc is no mean of questions, and its error is not known"
