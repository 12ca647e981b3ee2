"""Which score is significantly the best: the same in the leaderboard and on the page, and as the comparison says."""

from dataclasses import replace

from synthetic_results import listed_result, random_result

from orca_bench.report.leaderboard import build_leaderboard
from orca_bench.report.page.page_groups import group_results
from orca_bench.report.page.score_lines import score_lines
from orca_bench.report.reported_comparison import compare_with_reported
from orca_bench.report.reported_scores import read_reported_scores
from orca_bench.suite import ALL_TASKS


def bold_in_leaderboard(results):
    """(model, score) of each bold cell."""
    return {(row[0].text, cell.text) for row in build_leaderboard(results).rows for cell in row if cell.bold}


def bold_on_page(results):
    """The same of the page's lines."""
    [group] = group_results(results)
    return {
        (result_file.label, f"{score.value:.2f} ± {score.stderr:.2f}")
        for line in score_lines(group, None, None)
        for result_file, score in zip(group.results, line.scores, strict=True)
        if score.is_best
    }


def test_page_and_leaderboard_print_the_same_scores_in_bold(tmp_path):
    share = {task.name: 0.5 for task in ALL_TASKS} | {"hellaswag": 0.3}
    results = [random_result(tmp_path, f"m{seed}", share, seed=seed) for seed in range(2)]
    good = random_result(tmp_path, "good", {task.name: 0.72 for task in ALL_TASKS}, seed=3)
    bold = bold_on_page([*results, good])
    assert bold == bold_in_leaderboard([*results, good])
    means = {f"{100 * mean.value:.2f} ± {100 * mean.stderr:.2f}" for mean in good.result.averages.values()}
    assert {model for model, _ in bold} == {"good"} and means < {score for _, score in bold}
    # Nothing is better than a result that has the highest score and not its questions.
    without_questions = replace(good, questions_by_task={})
    assert bold_on_page([*results, without_questions]) == bold_in_leaderboard([*results, without_questions]) == set()


def test_a_score_in_bold_beside_a_reported_one_is_one_that_the_comparison_calls_better(tmp_path):
    verdict_by_count = {}
    for count in (2, 8):
        questions = [("arc_challenge", row, 1.0, 0, []) for row in range(count)]
        result = listed_result(tmp_path / f"{count}.json", "m", questions)
        [line] = [line for line in compare_with_reported(result, read_reported_scores()).lines if line.difference]
        rows = build_leaderboard([result], [read_reported_scores()]).rows
        assert any(cell.bold for row in rows for cell in row) is (line.verdict == "better")
        verdict_by_count[count] = line.verdict
    assert verdict_by_count == {2: "no difference shown", 8: "better"}
