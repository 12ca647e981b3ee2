"""Questions that are in the training records are marked, and a task has its value without them."""

import json
import shutil
from dataclasses import replace

import pytest
from data_reports import hit_of, planted_report, write_planted_report
from displays import Lines

from orca_bench.errors import UserError
from orca_bench.evaluate import (
    benchmark_rows,
    config_building,
    evaluation,
    offline_scoring,
    overlap_marks,
    protocols,
    verification,
)
from orca_bench.evaluate.engine_config import EngineConfig
from orca_bench.evaluate.tasks import SUITE, arc_challenge
from orca_bench.models.model_folder import ModelFolder
from orca_bench.results import reading
from orca_bench.results.data_report import write_data_report
from orca_bench.results.hashing import compute_content_sha256
from orca_bench.results.models import Question
from orca_bench.stats.estimates import estimate_mean

TASKS = "arc_challenge,mmlu,drop"


def evaluate(model, folder, rows, tasks=TASKS, name="a.json", **options):
    display = Lines()
    config = config_building.evaluation_config(
        str(model), folder, tasks=tasks, benchmarks=rows, out=folder / name, **({"limit": 3} | options)
    )
    evaluation.evaluate(config, display)
    return reading.read_with_questions(folder / name), display.lines


@pytest.fixture(scope="module")
def rows_of(mini):
    """By task, the numbers of the rows in the order in which they are evaluated."""
    protocol = protocols.protocol_by_name("orca", "", {})
    return {
        task.name: [
            document.row_index
            for document in protocol.documents(task, benchmark_rows.load_task_rows(task, mini["mini:benchmarks"]), None)
        ]
        for task in SUITE
        if task.name in TASKS
    }


@pytest.fixture(scope="module")
def model_with_report(tmp_path_factory, tiny_model, mini, rows_of):
    """The tiny model with a report in its folder.

    It has the first and the ninth question of ARC-Challenge, a relative of the first and the second, seven rows of its training
    split, and one question of MMLU.
    """
    model = tmp_path_factory.mktemp("marks") / "model"
    shutil.copytree(tiny_model, model)
    first, second, *others = rows_of["arc_challenge"]
    report = planted_report(
        mini["mini:benchmarks"],
        {"arc_challenge": {first: 0.75, others[6]: 1.0}, "mmlu": rows_of["mmlu"][:1], "drop": []},
        {"arc_challenge": [first, second]},
    )
    report.overlap["arc_challenge"].questions["training"] = 7
    write_data_report(model / "data_report.json", report.without_texts())
    return model, report


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, model_with_report, mini):
    folder = tmp_path_factory.mktemp("evaluated")
    result_file, lines = evaluate(model_with_report[0], folder, mini["mini:benchmarks"])
    return folder, result_file, lines


def marks(result_file, task):
    questions = result_file.questions_by_task[task].questions_by_key.values()
    return [(question.overlap, question.relative) for question in questions]


MARKS = [(0.75, None), (None, 1.0), (None, None)]


def test_the_report_in_the_models_folder_marks_the_questions_that_were_evaluated(evaluated, model_with_report):
    _, result_file, lines = evaluated
    assert marks(result_file, "arc_challenge") == MARKS
    overlap = result_file.result.tasks["arc_challenge"].overlap
    assert (overlap.questions, overlap.relatives) == (1, 1), "the ninth question is beyond the limit"
    assert (overlap.training_rows, result_file.result.tasks["mmlu"].overlap.training_rows) == (7, 0)
    assert overlap.report_sha256 == model_with_report[1].sha256
    assert any("questions that are in the training records are marked" in line for line in lines)


def test_the_value_without_them_is_estimated_as_the_tasks_own(evaluated):
    _, result_file, _ = evaluated
    for name in TASKS.split(","):
        entry = result_file.result.tasks[name]
        questions = list(result_file.questions_by_task[name].questions_by_key.values())
        others = [question for question in questions if question.overlap is None]
        expected = estimate_mean(
            [question.score for question in others],
            [question.cluster for question in others] if name == "drop" else None,
            [question.task for question in others] if name == "mmlu" else None,
        )
        without = entry.overlap.without
        assert (without.value, without.stderr) == (expected.value, expected.stderr)
        assert without.interval == (expected.interval_low, expected.interval_high)
        assert entry.overlap.questions == len(questions) - len(others) == {"drop": 0}.get(name, 1)
    drop = result_file.result.tasks["drop"]
    assert drop.overlap.without.value == drop.value


def test_without_a_report_a_result_says_nothing_of_it(model_with_report, tiny_model, evaluated, mini):
    folder, result_file, _ = evaluated
    plain, _ = evaluate(model_with_report[0], folder, mini["mini:benchmarks"], name="plain.json", data_report="none")
    other, _ = evaluate(tiny_model, folder, mini["mini:benchmarks"], name="other.json")
    for each in (plain, other):
        text = each.path.read_text() + reading.questions_path_for(each.path).read_text()
        assert "overlap" not in text and "relative" not in text
    assert plain.result.questions_sha256 == other.result.questions_sha256 != result_file.result.questions_sha256
    assert plain.result.model.identity == other.result.model.identity == result_file.result.model.identity


def findings(path, rows, report=None):
    return {
        finding.check_name: finding
        for finding in verification.verify(path, rows, rows is not None, data_report_path=report)
    }


def test_verification_computes_the_overlap_again(evaluated, mini):
    folder, result_file, _ = evaluated
    whole = findings(result_file.path, mini["mini:benchmarks"])
    assert all(finding.matches is not False for finding in whole.values())
    assert whole["ARC-Challenge: overlap"].detail == "1 of 3 questions" and whole["ARC-Challenge: marks"].matches
    assert "overlap" not in whole["not computed again"].detail
    without_rows = findings(result_file.path, None)
    assert "tasks.*.overlap" in without_rows["not computed again"].detail


def write_edited(result_file, name, edit_result, edit_question):
    """A copy of both files with changes, whose hash of the whole is right again."""
    content = json.loads(result_file.path.read_text())
    lines = [json.loads(line) for line in reading.questions_path_for(result_file.path).read_text().splitlines()]
    edit_result(content["tasks"]["arc_challenge"])
    for line in lines:
        edit_question(line)
    content["result_sha256"] = compute_content_sha256(content)
    path = result_file.path.with_name(name)
    path.write_text(json.dumps(content))
    reading.questions_path_for(path).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def unmark(line):
    if line["task"] == "arc_challenge":
        line.pop("overlap", None)


@pytest.mark.parametrize(
    ("edit_result", "edit_question", "check_name", "text"),
    [
        (
            lambda entry: entry["overlap"].update(questions=0),
            lambda line: None,
            "overlap",
            "questions 0 in the result, 1",
        ),
        (
            lambda entry: entry["overlap"].update(relatives=3),
            lambda line: None,
            "overlap",
            "relatives 3 in the result, 1",
        ),
        (lambda entry: entry["overlap"]["without"].update(value=0.9), lambda line: None, "overlap", "without"),
        (lambda entry: entry.pop("overlap"), lambda line: None, "overlap", "2 questions marked, and no word of it"),
        (lambda entry: None, unmark, "overlap", "questions 1 in the result, 0 by the questions"),
        (lambda entry: entry["overlap"].update(questions=0), unmark, "marks", "line 1 (arc_challenge row "),
        (
            lambda entry: entry["overlap"].update(training_rows=0),
            lambda line: None,
            "marks",
            "training_rows 0 in the result, 7 in the report",
        ),
    ],
)
def test_an_edited_overlap_is_found(evaluated, mini, edit_result, edit_question, check_name, text):
    _, result_file, _ = evaluated
    path = write_edited(result_file, "edited.json", edit_result, edit_question)
    finding = findings(path, mini["mini:benchmarks"])[f"ARC-Challenge: {check_name}"]
    assert finding.matches is False and text in finding.detail


def test_another_report_is_a_finding_of_verification(evaluated, tiny_model, mini, tmp_path):
    _, result_file, _ = evaluated
    other = write_planted_report(tmp_path / "r.json", mini["mini:benchmarks"], {"arc_challenge": [1]})
    finding = findings(result_file.path, mini["mini:benchmarks"], other)["marks"]
    assert finding.matches is False and finding.detail == f"marked by another report than {other}"
    plain, _ = evaluate(tiny_model, tmp_path, mini["mini:benchmarks"], "arc_challenge", limit=1)
    finding = findings(plain.path, mini["mini:benchmarks"], other)["marks"]
    assert finding.matches is None and "no question of this result was compared" in finding.detail


def test_a_report_in_the_models_folder_that_does_not_fit_is_left_out(tiny_model, mini, tmp_path):
    rows, model = tmp_path / "rows", tmp_path / "model"
    shutil.copytree(mini["mini:benchmarks"], rows)
    shutil.copytree(tiny_model, model)
    report = write_planted_report(model / "data_report.json", rows, {"arc_challenge": [0]})
    split = next((rows / "arc_challenge").glob("test*"))
    split.write_bytes(b"".join(split.read_bytes().splitlines(keepends=True)[:-1]))
    for text in ("made for other rows of ARC-Challenge", "not a report of `orca-bench data check`"):
        result_file, lines = evaluate(model, tmp_path, rows, "arc_challenge", limit=1)
        assert result_file.result.tasks["arc_challenge"].overlap is None
        assert any("the report in the model's folder is left out" in line and text in line for line in lines)
        with pytest.raises(UserError, match=text):
            evaluate(model, tmp_path, rows, "arc_challenge", limit=1, data_report=report)
        report.write_text("{}")


def test_the_value_of_drop_without_them_is_that_of_its_passages(mini):
    task = next(task for task in SUITE if task.name == "drop")
    rows = benchmark_rows.load_task_rows(task, mini["mini:benchmarks"])
    report = planted_report(mini["mini:benchmarks"], {"drop": [1]})
    marker = overlap_marks.OverlapMarker(None, report, report.sha256)
    scores, passages = [1.0, 0.0, 1.0, 0.0, 0.0, 1.0], ["p", "p", "p", "q", "q", "r"]
    questions = [
        Question(task="drop", index=row, row=row, score=score, cluster=passage, answers=[])
        for row, (score, passage) in enumerate(zip(scores, passages, strict=True))
    ]
    overlap = marker.mark(task, rows, questions)
    others = [row for row in range(6) if row != 1]
    expected = estimate_mean([scores[row] for row in others], [passages[row] for row in others])
    assert overlap.questions == 1 and overlap.without.value == expected.value == 0.6
    assert overlap.without.stderr == expected.stderr != estimate_mean([scores[row] for row in others]).stderr


def test_tasks_of_an_earlier_evaluation_keep_what_their_report_said(model_with_report, mini, tmp_path):
    model, report = model_with_report
    evaluate(model, tmp_path, mini["mini:benchmarks"], "arc_challenge")
    merged, _ = evaluate(model, tmp_path, mini["mini:benchmarks"], "winogrande", data_report="none")
    assert merged.result.tasks["winogrande"].overlap is None
    assert merged.result.tasks["arc_challenge"].overlap.report_sha256 == report.sha256
    assert marks(merged, "arc_challenge") == MARKS
    assert all(finding.matches is not False for finding in findings(merged.path, mini["mini:benchmarks"]).values())


def test_a_task_that_the_report_does_not_cover_is_named_and_not_marked(model_with_report, mini, tmp_path):
    result_file, lines = evaluate(model_with_report[0], tmp_path, mini["mini:benchmarks"], "arc_challenge,winogrande")
    assert result_file.result.tasks["winogrande"].overlap is None
    assert any("(not of Winogrande, which it does not cover)" in line for line in lines)


def test_all_questions_of_a_task_leave_no_value_without_them(tiny_model, mini, tmp_path, rows_of):
    planted_rows = {"arc_challenge": rows_of["arc_challenge"][:3]}
    report = write_planted_report(tmp_path / "r.json", mini["mini:benchmarks"], planted_rows)
    result_file, _ = evaluate(tiny_model, tmp_path, mini["mini:benchmarks"], "arc_challenge", data_report=report)
    assert json.loads(result_file.path.read_text())["tasks"]["arc_challenge"]["overlap"]["without"] is None
    assert all(
        finding.matches is not False for finding in findings(result_file.path, mini["mini:benchmarks"], report).values()
    )


def test_a_report_of_other_rows_is_refused_and_names_the_split(tiny_model, mini, tmp_path):
    rows = tmp_path / "rows"
    shutil.copytree(mini["mini:benchmarks"], rows)
    report = write_planted_report(tmp_path / "r.json", rows, {"arc_challenge": [0]})
    split = next((rows / "arc_challenge").glob("test*"))
    lines = split.read_bytes().splitlines(keepends=True)
    split.write_bytes(b"".join(lines[:-1]))
    with pytest.raises(
        UserError, match="made for other rows of ARC-Challenge: split test has 120 rows there and 119 here"
    ):
        evaluate(tiny_model, tmp_path, rows, "arc_challenge", data_report=report)
    assert not (tmp_path / "a.json").exists()


def test_what_is_no_whole_report_is_refused(tiny_model, mini, tmp_path):
    rows = mini["mini:benchmarks"]
    shard = write_planted_report(tmp_path / "s.json", rows, {"arc_challenge": [0]}, shard="1/4")
    with pytest.raises(UserError, match="the report of shard 1/4 alone"):
        evaluate(tiny_model, tmp_path, rows, "arc_challenge", data_report=shard)
    (tmp_path / "n.json").write_text("{}")
    with pytest.raises(UserError, match="not a report of `orca-bench data check`"):
        evaluate(tiny_model, tmp_path, rows, "arc_challenge", data_report=tmp_path / "n.json")


class ArcTwin(arc_challenge.ArcChallenge):
    """A task that reads the rows of ARC-Challenge."""

    facts = replace(arc_challenge.TASK.facts, name="arc_twin")


def test_two_tasks_that_share_rows_are_marked_each_by_its_own_hits(mini):
    task = arc_challenge.TASK
    twin = ArcTwin()
    rows = benchmark_rows.load_task_rows(task, mini["mini:benchmarks"])
    report = planted_report(mini["mini:benchmarks"], {"arc_challenge": [0]})
    report = report.model_copy(
        update={
            "benchmarks": {**report.benchmarks, "arc_twin": report.benchmarks["arc_challenge"]},
            "hits": [*report.hits, hit_of(twin, rows, 1, "test")],
        }
    )
    marker = overlap_marks.OverlapMarker(None, report, report.sha256)

    def marked(of_task):
        questions = [Question(task=of_task.name, index=row, row=row, score=1.0, answers=[]) for row in range(3)]
        marker.check_rows(of_task, rows)
        marker.mark(of_task, rows, questions)
        return [question.row for question in questions if question.overlap is not None]

    assert marked(task) == [0] and marked(twin) == [1]


def test_answers_of_another_engine_are_marked_too(model_with_report, evaluated, mini, tmp_path):
    _, result_file, _ = evaluated
    selection = config_building.request_selection(tasks="arc_challenge", benchmarks=mini["mini:benchmarks"], limit=3)
    offline_scoring.write_requests(selection, tmp_path / "q.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "q.jsonl").read_text().splitlines()]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line | {"answer": -1.0}) + "\n" for line in lines))
    report = model_with_report[0] / "data_report.json"
    offline_scoring.score_answers(tmp_path / "a.jsonl", selection, tmp_path / "a.json", "m", data_report_path=report)
    scored = reading.read_with_questions(tmp_path / "a.json")
    assert marks(scored, "arc_challenge") == marks(result_file, "arc_challenge")


def test_a_served_model_has_no_report_unless_it_is_named(model_with_report, mini):
    folder = ModelFolder(str(model_with_report[0]))
    assert overlap_marks.report_path(None, folder) == model_with_report[0] / "data_report.json"
    config = config_building.evaluation_config(
        folder.path,
        model_with_report[0],
        tasks="arc_challenge",
        benchmarks=mini["mini:benchmarks"],
        name="served",
        engine=EngineConfig(engine_name="api", base_url="http://localhost:9/v1"),
    )
    assert config.data_report_path is None
    assert overlap_marks.report_path(None, None) is None and overlap_marks.report_path("none", folder) is None
