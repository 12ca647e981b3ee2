"""The short line about a result in a list of results."""

import json

from synthetic_results import random_result

from orca_bench.results.result_survey import has_unfinished_result, summarize_results


def summary_of(folder, **heading):
    random_result(folder, "r", 0.5, **heading)
    (summary,) = summarize_results([folder / "r.json"])
    return summary


def test_a_whole_result_has_its_mean(tmp_path):
    summary = summary_of(tmp_path, limit=80)
    assert summary.scores_text.startswith("mean of 7 tasks 4") and " ± " in summary.scores_text
    assert summary.limit_text == "first 80 questions" and len(summary.task_scores) == 7


def test_a_part_of_the_tasks_has_the_scores_of_up_to_three(tmp_path):
    assert summary_of(tmp_path, tasks=["gsm8k"]).scores_text == "GSM8K 40.00 ± 5.51"
    summary = summary_of(tmp_path, tasks=["arc_challenge", "mmlu", "winogrande", "gsm8k"])
    assert summary.scores_text.endswith(", 1 more") and summary.scores_text.startswith("ARC ")
    assert summary.limit_text == "all questions"


def test_a_score_without_spread_has_its_interval(tmp_path):
    random_result(tmp_path, "r", 0, tasks=["gsm8k"])
    (summary,) = summarize_results([tmp_path / "r.json"])
    assert summary.scores_text == "GSM8K 0.00 [0.0, 4.6]"


def test_a_result_that_cannot_be_read_is_in_the_list(tmp_path):
    (tmp_path / "r.json").write_text('{"format": "orca-bench result 3"}')
    (summary,) = summarize_results([tmp_path / "r.json"])
    assert summary.scores_text.startswith("cannot be read: a result without") and summary.result is None


def test_an_unfinished_evaluation_says_how_far_it_is(tmp_path):
    assert has_unfinished_result(tmp_path)  # no result: its first task is not finished
    random_result(tmp_path, "r", 0.5, tasks=["gsm8k"])
    assert not has_unfinished_result(tmp_path)
    content = json.loads((tmp_path / "r.json").read_text()) | {"complete": False, "order": ["gsm8k", "drop"]}
    (tmp_path / "r.json").write_text(json.dumps(content))
    (summary,) = summarize_results([tmp_path / "r.json"])
    assert summary.scores_text.endswith(", unfinished, 1 of 2 tasks to come") and has_unfinished_result(tmp_path)
