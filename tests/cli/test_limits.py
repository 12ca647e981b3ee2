"""A limit for each task (`--limit TASK=N`) from the evaluation to every report of it."""

import json

import pytest


@pytest.fixture(scope="module")
def limited(tiny_model, mini, tmp_path_factory, command_in):
    """A folder with three results of the same model: limited by task, all with one limit, and one without."""
    command = command_in(tmp_path_factory.mktemp("limits"))
    common = ["eval", "--model", tiny_model, "--name", "tiny", "--benchmarks", mini["mini:benchmarks"]]
    for options in (
        ["--tasks", "mmlu,winogrande,gsm8k", "--limit", "3", "--limit", "mmlu=1", "--limit", "GSM8K=2"],
        ["--tasks", "winogrande", "--limit", "3"],
        ["--tasks", "winogrande,gsm8k", "--limit", "winogrande=2", "--limit", "gsm8k=3", "--out", "other.json"],
    ):
        process = command(*common, *options)
        assert process.returncode == 0, process.stderr
    return command


RESULT = "runs/tiny/results/orca-limit3-mmlu1-gsm8k2.json"


def test_each_task_has_as_many_questions_as_its_limit_says(limited):
    result = json.loads((limited.folder / RESULT).read_text())
    subjects = result["tasks"]["mmlu"]["subjects"]
    assert {name: entry["n"] for name, entry in result["tasks"].items()} == {
        "mmlu": len(subjects),
        "winogrande": 3,
        "gsm8k": 2,
    }
    assert result["limit"]["mmlu"] == 1 and result["limit"]["winogrande"] == 3


@pytest.mark.parametrize(
    "words",
    [
        ["table", RESULT],
        ["table", RESULT, "other.json"],
        ["table", RESULT, "other.json", "--layout", "models"],
        ["page", RESULT, "other.json", "--out", "page.html"],
        ["plot", RESULT, "--to", "pictures"],
        ["compare", RESULT, "other.json"],
        ["publish", RESULT, "--partial", "--to", "published"],
        ["verify", RESULT],
        ["runs"],
    ],
    ids=lambda words: " ".join(words[:1] + words[2:]),
)
def test_every_report_takes_it(limited, words):
    process = limited(*words)
    assert process.returncode == 0, process.stderr


def test_reports_say_which_questions_it_has(limited):
    words = "first question of each MMLU subject, 3 of Winogrande, 2 of GSM8K"
    text = " ".join(limited("table", RESULT, "--notes", "--format", "markdown").stdout.split())
    assert words in text
    assert words in " ".join(limited("runs", "tiny").stdout.split())


def test_equal_questions_are_compared_however_their_limit_was_written(limited, tiny_model, mini):
    command = ["eval", "--model", tiny_model, "--name", "tiny", "--benchmarks", mini["mini:benchmarks"]]
    process = limited(*command, "--tasks", "winogrande", "--limit", "winogrande=3", "--limit", "drop=1")
    assert process.returncode == 0, process.stderr
    baseline = "runs/tiny/results/orca-limit3.json"
    process = limited("check", "runs/tiny/results/orca-limit-winogrande3-drop1.json", "--baseline", baseline)
    assert process.returncode == 0 and "other limit" not in process.stdout, process.stderr
    process = limited("check", RESULT, "--baseline", baseline)
    assert process.returncode == 1 and "other limit" in process.stdout
