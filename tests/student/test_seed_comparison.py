"""Two groups of students: both tests beside those of scipy, and what cannot be compared."""

import statistics

import pytest
from scipy import stats
from seed_comparison import compare_groups, main, to_grid
from synthetic_results import random_result

from orca_bench.errors import UserError
from orca_bench.report import grid_formats
from orca_bench.report.grid import format_detectable
from orca_bench.results.reading import read_with_questions

TASKS = ["hellaswag", "gsm8k"]


@pytest.fixture
def groups(tmp_path):
    """Two groups of three students each, of which the second is far better on HellaSwag alone."""
    shares = ({"hellaswag": 0.3, "gsm8k": 0.5}, {"hellaswag": 0.8, "gsm8k": 0.5})
    for group_number, share in enumerate(shares):
        for seed in range(3):
            random_result(tmp_path, f"{group_number}-{seed}", share, seed=10 * group_number + seed, tasks=TASKS)
    return [[read_with_questions(tmp_path / f"{number}-{seed}.json") for seed in range(3)] for number in range(2)]


def question_means(group, task):
    """The mean over the seeds of each question's score, in the order of the questions."""
    questions = [file.questions_by_task[task].questions_by_key for file in group]
    return [statistics.fmean(by_key[key].score for by_key in questions) for key in questions[0]]


def test_both_tests_are_those_of_scipy(groups):
    for line in compare_groups(*groups)[:2]:
        first, second = (question_means(group, line.questions.name) for group in groups)
        assert line.questions.difference.p == pytest.approx(stats.ttest_rel(second, first).pvalue, rel=1e-6)
        scores = [[statistics.fmean(question_means([file], line.questions.name)) for file in group] for group in groups]
        assert (line.first_scores, line.second_scores) == tuple(pytest.approx(tuple(values)) for values in scores)
        assert line.seed_p == pytest.approx(stats.ttest_ind(scores[1], scores[0]).pvalue, rel=1e-6)
        assert line.p == max(line.questions.difference.p, line.seed_p)


def test_the_table_says_what_is_shown_and_how_large_the_rest_would_have_to_be(groups):
    lines = compare_groups(*groups)
    text = grid_formats.to_markdown(to_grid(lines, "a|*b*", "<b>"))
    rows = {row.split(" |")[0]: row for row in text.splitlines()}
    assert rows["| HellaSwag"].endswith("| better |")
    # One of two tests shows nothing: it would have been tested at the whole level.
    smallest = format_detectable(lines[1].smallest_detectable(0.05))
    assert rows["| GSM8K"].endswith(f"| not shown ({smallest} would be) |")
    assert text.startswith(r"| Task | a\|\*b\* | &lt;b&gt; | Δ |") and r"Δ &lt;b&gt; minus a\|\*b\*, in points" in text


def test_a_single_student_and_other_questions_are_refused(groups, tmp_path, capsys):
    with pytest.raises(UserError, match="a spread over seeds needs two results"):
        compare_groups(groups[0][:1], groups[1])
    random_result(tmp_path, "other", 0.5, tasks=["hellaswag"])
    files = [str(tmp_path / f"{name}.json") for name in ("0-0", "0-1")]
    assert main(["--first", *files, "--second", str(tmp_path / "other.json"), files[0]]) == 2
    assert "error: " in capsys.readouterr().err
