"""Comparison of real results of the mini suite: what it detects, what it refuses, and what it says of the rest."""

import json
import shutil

import pytest
from changed_results import change_result, no_change

from orca_bench.report.comparison import compare
from orca_bench.results import reading


def test_a_lost_task_is_found_and_the_others_are_left_alone(in_results_folder):
    process = in_results_folder("compare", "good.json", "bad.json", "--format", "json")
    assert process.returncode == 0, process.stderr
    lines = {line["name"]: line for line in json.loads(process.stdout)[0]["lines"]}
    assert lines["hellaswag"]["verdict"] == "worse" and lines["hellaswag"]["adjusted"] < 0.05
    assert (
        lines["hellaswag"]["difference"]["worse"] >= 9 and lines["hellaswag"]["difference"]["test"] == "exact McNemar"
    )
    assert lines["mmlu"]["verdict"] == "no difference shown" and lines["mmlu"]["difference"]["smallest"] > 0.05
    assert lines["drop"]["difference"]["test"] in ("paired t by cluster", "sign test")
    assert lines["all seven"]["difference"]["value"] == pytest.approx(lines["hellaswag"]["difference"]["value"] / 7)


def test_the_verdict_is_in_words_in_the_terminal_and_in_markdown(in_results_folder):
    output = in_results_folder("compare", "good.json", "bad.json", "a.json", env={"COLUMNS": "200"}).stdout
    assert output.count("HellaSwag") >= 2 and "worse" in output and "corrected by Holm" not in output
    explained = in_results_folder("compare", "good.json", "bad.json", "--explain", env={"COLUMNS": "200"}).stdout
    assert "corrected by Holm over all lines" in explained
    markdown = in_results_folder("compare", "good.json", "bad.json", "--format", "markdown").stdout
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1 and len(rows) == 2 + 7 + 2


def test_common_questions_are_compared_and_too_few_refused(in_results_folder):
    folder = in_results_folder.folder
    change_result(folder, "good.json", "half.json", lambda line: line["index"] < 6)
    process = in_results_folder("compare", "good.json", "half.json")
    assert "6 questions in common, of 12 and 6" in process.stdout

    def move_all_but_one(line):
        line["row"] += 10_000 if line["task"] == "hellaswag" and line["index"] > 0 else 0

    change_result(folder, "good.json", "other.json", move_all_but_one)
    first, second = (reading.read_with_questions(folder / name) for name in ("good.json", "other.json"))
    comparison = compare(first, [second])[0]
    assert comparison.line("hellaswag").verdict == "1 questions in common, of 12"
    assert comparison.line("arc_challenge").difference is not None and comparison.line("all seven") is None
    change_result(folder, "good.json", "none.json", lambda line: line.update(row=line["row"] + 10_000))
    assert "0 questions in common, of 12" in in_results_folder.refused("compare", "good.json", "none.json")


def test_other_rows_protocols_and_missing_tasks_stand_in_the_comparison(in_results_folder):
    folder = in_results_folder.folder

    def edit_result(result):
        result["data_hashes"]["gsm8k"] = {"test": "0" * 64, "train": "0" * 64}
        result["protocol"] |= {"name": "leaderboard"}

    change_result(folder, "good.json", "elsewhere.json", lambda line: line["task"] != "drop", edit_result)
    output = in_results_folder("compare", "good.json", "elsewhere.json", env={"COLUMNS": "200"}).stdout
    assert "other rows" in output and "not in" in output and "The protocols differ" in output
    assert "Mean of all seven" not in output


_SAME_FILE = "the same file, computed by hf and by llamacpp: a difference is one of how they round"
_SAME_NAME = (
    "a file of the same name, computed by hf and by llamacpp: if its weights are the same too, a difference is one"
)
_OTHER_FILE = "computed by hf and by llamacpp: a difference mixes model and engine"


@pytest.mark.parametrize(
    ("own_facts", "their_facts", "text"),
    [
        ({"gguf_sha256": "a" * 64}, {}, _SAME_FILE),
        ({"gguf_sha256": "a" * 64}, {"path": "/models/m.gguf"}, _SAME_FILE),
        ({"gguf_sha256": "b" * 64}, {}, _OTHER_FILE),
        ({"gguf_sha256": "a" * 64}, {"tokenizer": "2"}, _OTHER_FILE),
        ({}, {"path": "/models/m.gguf"}, _SAME_NAME),
        ({}, {"path": "other.gguf"}, _OTHER_FILE),
        ({}, {"config": "2"}, _OTHER_FILE),
        ({}, {"bits": 8.5}, _OTHER_FILE),
    ],
)
def test_the_same_file_computed_by_llamacpp_is_said(in_results_folder, own_facts, their_facts, text):
    folder = in_results_folder.folder

    def describe(engine_name, facts):
        facts = {"path": "m.gguf", "bits": 4.5, "config": "1", "tokenizer": "1"} | facts
        weights = "a" * 64 if engine_name == "llamacpp" else "of tensors"
        identity = {"config": facts.pop("config"), "tokenizer": facts.pop("tokenizer"), "weights": weights}
        return lambda result: result["model"].update(facts, engine={"name": engine_name}, identity=identity)

    change_result(folder, "good.json", "own.json", no_change, describe("hf", own_facts))
    change_result(folder, "bad.json", "theirs.json", no_change, describe("llamacpp", their_facts))
    change_result(folder, "bad.json", "theirs_too.json", no_change, describe("hf", their_facts))
    own, theirs, theirs_too = (
        reading.read_with_questions(folder / name) for name in ("own.json", "theirs.json", "theirs_too.json")
    )
    (note,) = [note for note in compare(own, [theirs])[0].notes if "computed by" in note.text]
    assert note.text.startswith(text)
    assert not any("computed by" in note.text for note in compare(own, [theirs_too])[0].notes)


def test_a_warning_of_both_results_stands_once(in_results_folder):
    warning = "its weights are those of a file with 4.50 bits a weight, computed in full precision"

    def add_warning(result):
        result["model"]["warnings"] = [warning]

    for name in ("good", "bad"):
        change_result(in_results_folder.folder, f"{name}.json", f"{name}-4.json", no_change, add_warning)
    output = in_results_folder("compare", "good-4.json", "bad-4.json", env={"COLUMNS": "200"}).stdout
    assert output.count("4.50 bits a weight") == 1
    output = in_results_folder("compare", "good.json", "bad-4.json", env={"COLUMNS": "200"}).stdout
    assert f": {warning}" in output


def test_one_question_and_all_right_have_no_empty_interval(in_results_folder):
    folder = in_results_folder.folder
    change_result(folder, "good.json", "one.json", lambda line: line["index"] < 1)
    change_result(folder, "good.json", "right.json", lambda line: line.update(score=1.0))
    for name in ("one.json", "right.json"):
        copy = change_result(folder, name, f"copy_of_{name}", no_change)
        comparison = compare(reading.read_with_questions(folder / name), [reading.read_with_questions(copy)])[0]
        differences = [line.difference for line in comparison.lines if line.difference]
        assert differences and all(difference.low < 0 < difference.high for difference in differences)
        assert "byte for byte" in comparison.notes[-1].text
    output = in_results_folder("table", "right.json").stdout
    assert "± 0.00" not in output and "[" in output


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda line: line.update(score=float("nan")), "'score': Input should be a finite number"),
        (lambda line: line.update(score=1.5), "'score': Input should be less than or equal to 1"),
        (lambda line: line.update(row=0), "stands here a second time"),
        (lambda line: line.pop("row"), "a question without 'row'"),
    ],
)
def test_broken_questions_are_named_with_their_line(in_results_folder, edit, message):
    folder = in_results_folder.folder
    shutil.copy(folder / "good.json", folder / "broken.json")
    lines = [json.loads(line) for line in (folder / "good.questions.jsonl").read_text().splitlines()]
    for line in lines:
        edit(line)
    (folder / "broken.questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    error = in_results_folder.refused("compare", "good.json", "broken.json")
    assert message in error and "broken.questions.jsonl:" in error


def test_absent_questions_and_other_versions_are_refused(in_results_folder):
    folder = in_results_folder.folder
    (folder / "lonely.json").write_text((folder / "good.json").read_text())
    process = in_results_folder("compare", "bad.json", "lonely.json", "good.json")
    assert process.returncode == 0 and "next: " not in process.stderr
    by_scores, by_question = " ".join(process.stdout.split()).split("Task ")[1:]
    assert "lonely.questions.jsonl is not there" in by_scores and "not there" not in by_question
    assert "it is named twice" in in_results_folder.refused("compare", "bad.json", "lonely.json", "lonely.json")
    (folder / "future.json").write_text((folder / "good.json").read_text().replace("result 3", "result 9"))
    assert "a result of version 9" in in_results_folder.refused("table", "future.json")


def test_a_result_is_not_compared_with_itself_nor_twice(in_results_folder):
    assert "it is the first result itself" in in_results_folder.refused("compare", "good.json", "./good.json")
    assert "it is named twice" in in_results_folder.refused("compare", "good.json", "bad.json", "bad.json")


def test_a_narrow_terminal_loses_scores_before_the_verdict(in_results_folder):
    for columns in ("70", "60"):
        output = in_results_folder("compare", "good.json", "bad.json", env={"COLUMNS": columns}).stdout
        [heading] = [line for line in output.splitlines() if line.startswith("Task ")]
        assert "verdict" in heading and "Δ" in heading and "left out at" in output


def test_a_changed_result_has_a_warning_wherever_its_numbers_stand(in_results_folder):
    folder = in_results_folder.folder
    content = json.loads((folder / "good.json").read_text())
    content["tasks"]["mmlu"]["value"] = 0.99
    (folder / "edited.json").write_text(json.dumps(content))
    shutil.copy(folder / "good.questions.jsonl", folder / "edited.questions.jsonl")
    warning = "changed after it was written"
    for words in (
        ["table", "edited.json"],
        ["table", "edited.json", "bad.json", "a.json"],
        ["compare", "edited.json", "bad.json"],
    ):
        assert warning in " ".join(in_results_folder(*words).stdout.split())
    assert warning not in in_results_folder("table", "good.json").stdout
    assert in_results_folder("page", "edited.json", "--out", "edited.html").returncode == 0
    assert (folder / "edited.html").read_text().count(warning) > 1


def test_a_quantised_result_says_what_its_difference_does_not_hold(in_results_folder):
    from orca_bench.models.model_warnings import in_full_precision, model_warnings

    (warning,) = model_warnings(False, [], 4.5, in_full_precision("GGUF"))

    def quantise(result):
        result["model"] |= {"bits": 4.5, "warnings": ["another warning", warning], "name": "small"}

    change_result(in_results_folder.folder, "good.json", "quantised.json", no_change, quantise)
    for words in (["good.json", "quantised.json"], ["quantised.json", "good.json"]):
        text = in_results_folder("compare", *words, "--format", "markdown").stdout
        assert "small: its weights are those of a file with 4.50 bits a weight, computed in full precision" in text
        assert "another warning" not in text
    assert "bits a weight" not in in_results_folder("compare", "good.json", "bad.json", "--format", "markdown").stdout
