"""What inspect_ai logged, read as a result: its own reductions and values, samples by id, what failed."""

import builtins
import shutil

import pytest

from orca_bench.errors import UserError
from orca_bench.results import reading
from orca_bench.results.result_lookup import look_up_results

inspect_log = pytest.importorskip("inspect_ai.log")


@pytest.fixture(scope="module")
def first(inspect_output):
    return reading.read_with_questions(inspect_output / "mockllm__a")


def test_every_value_and_standard_error_is_inspects_own(first, inspect_output):
    compared = 0
    for path in inspect_output.glob("*.eval"):
        log = inspect_log.read_eval_log(path, header_only=True)
        if log.eval.model != "mockllm/a" or log.results is None:
            continue
        for score in log.results.scores:
            for key in {"accuracy", "mean"} & set(score.metrics):
                entry = first.result.tasks[log.eval.task]
                metric = entry.metrics[",".join(filter(None, (key, score.name, score.reducer)))]
                assert metric.value == score.metrics[key].value
                assert metric.aggregation == "mean"
                if "stderr" in score.metrics and metric.stderr:
                    assert metric.stderr == pytest.approx(score.metrics["stderr"].value)
                compared += 1
    assert compared == 13


def test_the_score_is_the_metric_that_inspect_shows(first):
    entries = first.result.tasks
    assert entries["two_scorers"].metric == "accuracy,match"
    assert entries["two_scorers"].warnings == ["the score is accuracy,match; the log has accuracy,includes too"]
    assert entries["dictionary"].metric == "mean,first" and "mean,second" in entries["dictionary"].metrics


def test_epochs_are_reduced_as_inspect_does(first):
    entry = first.result.tasks["three_epochs"]
    assert (entry.metric, entry.n) == ("accuracy,match,mean", 12)
    assert "3 epochs, reduced by inspect_ai (mean, at_least_2)" in entry.warnings
    question = next(iter(first.questions_by_task["three_epochs"].questions_by_key.values()))
    assert len(question.answers) == 3
    # The reducer `mode` gives inspect's letters, which are numbers here.
    assert {each.score for each in first.questions_by_task["voted"].questions_by_key.values()} == {0.0, 1.0}


def test_letters_and_booleans_and_numbers_are_scores(first):
    def scores(task):
        return [question.score for question in first.questions_by_task[task].questions_by_key.values()]

    assert scores("graded") == [1.0, 0.0, 0.5, 0.0] * 3
    assert set(scores("true_or_false")) == {0.0, 1.0}
    assert scores("dictionary") == pytest.approx([number / 10 for number in range(12)])
    assert first.result.tasks["dictionary"].unit == "points"


def test_samples_that_ended_in_an_error_are_counted(first):
    entry = first.result.tasks["some_errors"]
    assert (entry.n, entry.warnings) == (10, ["2 of 12 samples ended in an error, without a score"])


def test_runs_that_failed_and_tasks_without_scorer_are_left_out_and_named(first):
    assert "failed" not in first.result.tasks and "unscored" not in first.result.tasks
    notes = first.result.answer_notes
    assert notes[0].startswith("a log of inspect 0.3.") and "does not tell token ids" in notes[0]
    assert any(
        "left out 1 log: " in note and "ended with 'error': ValueError('no such thing')" in note for note in notes
    )
    assert "unscored has no score in the log" in notes


def test_a_failed_run_that_is_named_itself_is_refused(inspect_copy):
    (path,) = inspect_copy("failed")
    with pytest.raises(UserError, match="the run of this log ended with 'error'"):
        reading.read_result(path)


def test_a_task_without_scorer_has_no_score(inspect_copy):
    (path,) = inspect_copy("unscored")
    with pytest.raises(UserError, match="a log without any score"):
        reading.read_result(path)


def test_json_says_what_eval_says(inspect_output, first):
    other = reading.read_with_questions(inspect_output / "json" / "mockllm__a")
    for task in ("matched", "voted"):
        assert other.result.tasks[task] == first.result.tasks[task]
        assert other.result.data_hashes[task] == first.result.data_hashes[task]


def test_samples_are_paired_by_id_and_numbered_ones_by_input_too(first, inspect_output):
    second = reading.read_with_questions(inspect_output / "mockllm__b")
    for task in ("matched", "letters"):
        hashes = [
            {question.document_sha256 for question in file.questions_by_task[task].questions_by_key.values()}
            for file in (first, second)
        ]
        assert hashes[0] == hashes[1]
        assert first.result.tasks[task].requests_sha256 == second.result.tasks[task].requests_sha256


def test_a_folder_of_one_models_logs_is_a_result(inspect_copy, tmp_path):
    inspect_copy("matched", "letters")
    named = look_up_results(tmp_path, tmp_path / "no runs")
    assert named.paths == (tmp_path,)
    assert list(reading.read_result(tmp_path).tasks) == ["matched", "letters"]


def test_a_folder_of_several_models_is_a_result_each(inspect_output):
    named = look_up_results(inspect_output / "json", inspect_output / "no runs")
    assert [path.name for path in named.paths] == ["mockllm__a", "mockllm__b"]
    assert look_up_results(str(inspect_output / "json" / "mockllm__b"), inspect_output / "no runs").paths
    with pytest.raises(UserError, match="logs of 2 models in this folder"):
        reading.read_result(inspect_output / "json")


def test_a_file_that_is_no_archive_or_cut_off_is_refused(inspect_copy):
    (path,) = inspect_copy("matched")
    content = path.read_bytes()
    path.write_bytes(content[:3000])
    with pytest.raises(UserError, match="inspect_ai cannot read this log"):
        reading.read_result(path)
    path.write_bytes(b"hello")
    with pytest.raises(UserError, match="not a zip archive; was it copied whole"):
        reading.read_result(path)
    path.write_bytes(content)
    assert reading.read_result(path).tasks["matched"].n == 12


def test_without_the_package_the_extra_is_named(inspect_copy, monkeypatch):
    (path,) = inspect_copy("matched")
    import_module = builtins.__import__

    def refuse(name, *arguments, **options):
        if name.startswith("inspect_ai"):
            raise ImportError(name)
        return import_module(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UserError, match=r"pip install 'orca-bench\[inspect\]'"):
        reading.read_result(path)


def test_the_newest_of_two_logs_of_a_task_is_read_and_said(inspect_copy, inspect_output, tmp_path):
    (older,) = inspect_copy("matched")
    newer = sorted(inspect_output.glob("*_matched_*.eval"))[0]
    shutil.copy(newer, tmp_path / f"2031-{newer.name}")
    result = reading.read_result(tmp_path)
    assert "of several logs of matched the newest is read" in result.answer_notes
