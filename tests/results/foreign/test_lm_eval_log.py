"""What lm-eval logged, read as a result: its own values, our errors where they follow from the questions, what is not told."""

import json
import shutil

import pytest

from orca_bench.errors import UserError
from orca_bench.results import reading
from orca_bench.results.result_lookup import look_up_results


@pytest.fixture(scope="module")
def first(lm_eval_output):
    return reading.read_with_questions(lm_eval_output / "someone__first")


@pytest.fixture(scope="module")
def logged_json(lm_eval_output):
    (path,) = (lm_eval_output / "someone__first").glob("results_*.json")
    return json.loads(path.read_text(encoding="utf-8"))


def test_every_value_is_lm_evals_own(first, logged_json):
    compared = 0
    for name, entry in first.result.tasks.items():
        logged = logged_json["results"].get(name) or logged_json["groups"][name]
        for metric_name, metric in entry.metrics.items():
            metric_part, _, filter_part = metric_name.partition(",")
            assert metric.value == logged[f"{metric_part},{filter_part or 'none'}"]
            compared += 1
    assert compared == 21
    assert list(first.result.tasks) == first.result.order
    assert not any(entry.warnings for name, entry in first.result.tasks.items() if name != "sums")


def test_how_values_follow_from_questions_is_computed_and_not_believed(first):
    entries = first.result.tasks
    assert entries["choice_plain"].harness.aggregation == "mean"
    assert (entries["last_word"].harness.aggregation, entries["last_word"].unit) == ("perplexity", "perplexity")
    assert not entries["last_word"].higher_is_better
    pages = entries["pages"].metrics
    assert [pages[name].aggregation for name in ("word_perplexity", "byte_perplexity", "bits_per_byte")] == [
        "weighted_perplexity",
        "weighted_perplexity",
        "bits_per_byte",
    ]
    assert pages["bits_per_byte"].unit == "bits per byte"
    assert entries["choice_mcc"].interval is None
    assert "is no mean of questions" in entries["choice_mcc"].interval_note
    assert entries["choice_brier"].metrics["brier_score"].unit == "points"
    assert entries["translation"].metric == "exact_match"  # BLEU stands first and is no mean


def test_standard_errors_of_means_are_lm_evals(first, logged_json):
    for name in ("choice_plain", "choice_norm", "choice_shots", "sums"):
        entry = first.result.tasks[name]
        metric_part, _, filter_part = entry.metric.partition(",")
        logged = logged_json["results"][name][f"{metric_part}_stderr,{filter_part or 'none'}"]
        assert entry.stderr == pytest.approx(logged)


def test_filters_are_metrics_and_the_chosen_one_is_said(first):
    entry = first.result.tasks["sums"]
    assert entry.metric == "exact_match,strict-match"
    assert list(entry.metrics) == ["exact_match,strict-match", "exact_match,flexible-extract"]
    assert entry.warnings == ["the score is exact_match,strict-match; the log has exact_match,flexible-extract too"]
    question = next(iter(first.questions_by_task["sums"].questions_by_key.values()))
    assert set(question.metrics) == set(entry.metrics)
    assert question.answers[0].startswith("it is ") and question.prediction in question.answers[0]


def test_a_group_is_one_entry_with_its_tasks_as_parts(first, logged_json):
    entry = first.result.tasks["parts"]
    assert list(entry.subjects) == ["part_one", "part_two"]
    assert entry.subjects["part_one"].value == logged_json["results"]["part_one"]["acc,none"]
    assert (entry.n, entry.weighting) == (48, "questions")
    assert "part_one" not in first.result.tasks
    assert {question.task for question in first.questions_by_task["parts"].questions_by_key.values()} == {
        "part_one",
        "part_two",
    }


def test_documents_have_lm_evals_hashes_and_requests_a_hash_of_their_texts(first, lm_eval_output):
    second = reading.read_with_questions(lm_eval_output / "someone__second")
    for name, entry in first.result.tasks.items():
        assert entry.requests_sha256 == second.result.tasks[name].requests_sha256
        assert first.result.data_hashes[name] == second.result.data_hashes[name]
        hashes = [
            {question.document_sha256 for question in file.questions_by_task[name].questions_by_key.values()}
            for file in (first, second)
        ]
        assert hashes[0] == hashes[1] and None not in hashes[0]
    assert first.result.questions_sha256 != second.result.questions_sha256


def test_what_a_log_does_not_say_is_absent(first):
    model = first.result.model
    assert (model.identity, model.fingerprint, model.tokenizer_sha256) == (None, None, None)
    assert all(entry.tokens_sha256 is None for entry in first.result.tasks.values())
    (note,) = first.result.answer_notes
    assert note == "a log of lm-eval 0.4.13, which does not tell token ids nor hashes of the model"


def test_a_folder_of_several_models_is_a_result_each(lm_eval_output):
    named = look_up_results(lm_eval_output, lm_eval_output / "no runs")
    assert [path.name for path in named.paths] == ["someone__first", "someone__second"]
    assert named.note is None


def test_the_newest_of_several_runs_is_read_and_said(lm_eval_copy):
    (path,) = lm_eval_copy.glob("results_*.json")
    content = json.loads(path.read_text(encoding="utf-8"))
    content["model_name"] = "someone/earlier"
    earlier = lm_eval_copy / "results_2001-01-01T00-00-00.000000.json"
    earlier.write_text(json.dumps(content, indent=2), encoding="utf-8")
    named = look_up_results(lm_eval_copy, lm_eval_copy / "no runs")
    assert named.note == (
        f"{lm_eval_copy}: 2 runs, of which {path.name} is the newest and read; name it to read {earlier.name}"
    )
    newest = reading.read_result(named.paths[0])
    assert newest.model.name == "someone/first"
    assert f"of 2 runs in this folder the newest is read: {path.name}" in newest.answer_notes
    older = reading.read_result(look_up_results(earlier, lm_eval_copy).paths[0])
    assert older.model.name == "someone/earlier" and not any(
        "runs in this folder" in note for note in older.answer_notes
    )


def test_results_without_samples_are_scores_without_questions(lm_eval_copy):
    for path in lm_eval_copy.glob("samples_*"):
        path.unlink()
    result = reading.read_result(lm_eval_copy)
    assert result.tasks["choice_plain"].n == 24 and result.tasks["choice_plain"].stderr > 0
    assert not reading.has_questions(lm_eval_copy)
    with pytest.raises(UserError, match="the log has scores and no questions; lm_eval --log_samples writes them"):
        reading.read_with_questions(lm_eval_copy)


def test_samples_without_results_are_of_a_run_that_did_not_end(lm_eval_copy):
    samples = next(lm_eval_copy.glob("samples_sums_*"))
    orphan = lm_eval_copy / "samples_sums_2031-01-01T00-00-00.000000.jsonl"
    shutil.copy(samples, orphan)
    note = look_up_results(lm_eval_copy, lm_eval_copy / "no runs").note
    assert f"{orphan.name} is of a run without results, which goes on or failed" in note
    for path in lm_eval_copy.glob("results_*"):
        path.unlink()
    with pytest.raises(UserError, match="no result in this folder"):
        look_up_results(lm_eval_copy, lm_eval_copy / "no runs")


def test_a_line_that_is_cut_off_is_named(lm_eval_copy):
    samples = next(lm_eval_copy.glob("samples_sums_*"))
    samples.write_bytes(samples.read_bytes()[:-40])
    with pytest.raises(UserError, match=rf"{samples.name}:48: the line is cut off"):
        reading.read_result(lm_eval_copy)


def test_a_line_of_another_shape_is_named(lm_eval_copy):
    samples = next(lm_eval_copy.glob("samples_sums_*"))
    lines = samples.read_text(encoding="utf-8").splitlines(keepends=True)
    for line, problem in (("[1]\n", "no JSON object"), ('{"doc_id": 3}\n', "a sample without 'resps'")):
        samples.write_text("".join([lines[0], line, *lines[2:]]), encoding="utf-8")
        with pytest.raises(UserError, match=rf"{samples.name}:2: .*{problem}"):
            reading.read_result(lm_eval_copy)


def test_lines_that_repeat_a_document_are_counted_once_and_said(lm_eval_copy):
    samples = next(lm_eval_copy.glob("samples_choice_plain_*"))
    lines = samples.read_text(encoding="utf-8").splitlines(keepends=True)
    samples.write_text("".join([*lines, lines[3], lines[4]]), encoding="utf-8")
    entry = reading.read_result(lm_eval_copy).tasks["choice_plain"]
    assert (entry.n, entry.warnings) == (24, [f"2 lines of {samples.name} repeat a document"])


def test_samples_that_do_not_give_the_value_are_said(lm_eval_copy):
    samples = next(lm_eval_copy.glob("samples_choice_plain_*"))
    lines = samples.read_text(encoding="utf-8").splitlines(keepends=True)
    samples.write_text("".join(lines[:-9]), encoding="utf-8")
    (first_warning, *others) = reading.read_result(lm_eval_copy).tasks["choice_plain"].warnings
    assert first_warning == "the log has samples of 15 of 24 documents"
    assert any("in the log's results and" in warning for warning in others)


def test_results_of_another_version_are_refused_by_their_keys(lm_eval_copy):
    (path,) = lm_eval_copy.glob("results_*.json")
    path.write_text('{"results": {"a": {"acc": 0.5}}, "versions": {"a": 0}}', encoding="utf-8")
    with pytest.raises(UserError, match="results of lm-eval of an unknown version without 'configs'"):
        reading.read_result(path)
    path.write_text('{"results": {}, "configs": {}, "n-shot": {}}', encoding="utf-8")
    with pytest.raises(UserError, match="a log without any score"):
        reading.read_result(path)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("results", "sums"), 7),
        (("configs",), None),
        (("configs", "choice_plain", "output_type"), 7),
        (("configs", "sums", "generation_kwargs"), "greedy"),
        (("group_subtasks",), [1]),
        (("n-shot",), []),
        (("n-shot", "choice_plain"), True),
        (("n-samples", "choice_plain", "effective"), "many"),
        (("versions",), None),
        (("higher_is_better",), [1]),
    ],
    ids=str,
)
def test_values_of_another_shape_are_an_error_in_one_line(lm_eval_copy, keys, value):
    (path,) = lm_eval_copy.glob("results_*.json")
    content = json.loads(path.read_text(encoding="utf-8"))
    place = content
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=rf"{path.name}: a log (of another shape|whose values no result can hold)"):
        reading.read_result(path)


@pytest.mark.parametrize(("key", "value"), [("resps", 7), ("doc_id", True), ("metrics", 3), ("filter", [1])])
def test_a_sample_with_a_value_of_another_shape_ends_in_no_traceback(lm_eval_copy, key, value):
    samples = next(lm_eval_copy.glob("samples_choice_plain_*"))
    lines = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    lines[1][key] = value
    samples.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    try:
        reading.read_result(lm_eval_copy)
    except UserError as error:
        assert "a log" in error.problem


def test_results_that_are_no_json_are_refused(lm_eval_copy):
    (path,) = lm_eval_copy.glob("results_*.json")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match=path.name):
        reading.read_result(lm_eval_copy)
