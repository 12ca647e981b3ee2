"""The report on a recipe's records goes into the run and its models, and is of these records."""

import functools
import json
import shutil

import pytest
from data_reports import planted_report
from displays import Lines
from tiny_llamas import make_model

from orca_bench import api, recipe_file, tokenizers
from orca_bench.errors import UserError
from orca_bench.files import file_sha256
from orca_bench.mini import resolve_recipe
from orca_bench.models import model_identity
from orca_bench.models.model_folder import ModelFolder
from orca_bench.recipe import first_difference
from orca_bench.results.data_report import RecordFile, read_data_report, write_data_report
from orca_bench.suite import ALL_TASKS
from orca_bench.train import data_reports, student_model
from orca_bench.train.run_folder import Run
from orca_bench.train.train_recipe import SilentTrainingDisplay, describe_training, train_recipe


@pytest.fixture
def recipe(mini):
    return resolve_recipe(recipe_file.read_recipe_file("mini"), mini["mini:records"].parents[1], where="mini")


@pytest.fixture
def report(mini):
    """The report on the mini records, with two test questions and one relative in them."""
    sha256 = file_sha256(mini["mini:records"])
    return planted_report(mini["mini:benchmarks"], {"arc_challenge": [0], "gsm8k": [1]}, {"gsm8k": [2]}, sha256)


def with_data(recipe, **keys):
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=keys)})


def test_a_recipe_names_a_report_or_benchmarks_and_may_change_them(recipe, tmp_path, mini):
    assert recipe.data.report is None and data_reports.report_of_recipe(recipe, None) is None
    assert first_difference(recipe, with_data(recipe, report="r.json")) is None
    named = resolve_recipe(
        recipe_file.read_recipe_file("mini", ["data.benchmarks=mini:benchmarks"]),
        mini["mini:records"].parents[1],
        where="mini",
    )
    assert named.data.benchmarks == str(mini["mini:benchmarks"])
    with pytest.raises(UserError, match="give either report .* or benchmarks"):
        recipe_file.read_recipe_file("mini", ["data.benchmarks=mini:benchmarks", "data.report=r.json"])


def test_the_report_is_read_or_made(recipe, report, tmp_path):
    write_data_report(tmp_path / "r.json", report)
    named_report = data_reports.report_of_recipe(with_data(recipe, report=str(tmp_path / "r.json")), None)
    new_report = data_reports.report_of_recipe(with_data(recipe, benchmarks="rows"), lambda: report)
    assert named_report.sha256 == new_report.sha256 == report.sha256
    assert data_reports.report_of_recipe(recipe, lambda: report) is None, "nothing is made where nothing is wanted"


def test_a_report_on_other_records_is_refused(recipe, report, tmp_path, mini):
    def refused(other_report, recipe=recipe):
        write_data_report(tmp_path / "r.json", other_report)
        with pytest.raises(UserError) as error:
            describe_training(with_data(recipe, report=str(tmp_path / "r.json")))
        return str(error.value)

    other = report.model_copy(update={"files": [RecordFile(name="x.jsonl", sha256="b" * 64, rows=3)]})
    assert f"made for other records: {mini['mini:records']} is not among its files" in refused(other)
    more = report.model_copy(update={"files": [*report.files, *other.files]})
    assert "made for other records: x.jsonl is not in data.records" in refused(more)
    assert "the report of shard 1/2 alone" in refused(report.model_copy(update={"shard": "1/2"}))
    assert "nobody/set is on the hub" in refused(report, with_data(recipe, records=["nobody/set"]))
    assert "absent.jsonl: no such file" in refused(report, with_data(recipe, records=["absent.jsonl"]))


def test_the_command_refuses_it_before_anything_is_written(command, report, tmp_path, mini):
    write_data_report(command.folder / "r.json", report.model_copy(update={"files": []}))
    error = command.refused("train", "mini", "-o", "data.report=r.json", "--runs", command.folder / "runs")
    assert "made for other records" in error and not (command.folder / "runs" / "mini").exists()


def test_the_run_has_the_report_and_the_manifest_its_summary(recipe, report, tmp_path):
    run = Run(tmp_path / "mini")
    run.folder.mkdir()
    named = with_data(recipe, report="r.json")
    assert data_reports.lacks_report(run, named) and not data_reports.lacks_report(run, recipe)
    assert data_reports.report_for_models(run) is None
    data_reports.store_report(run, named, report)
    assert read_data_report(run.data_report_file).hits == report.hits
    assert run.manifest["data_report"] == {
        "source": "r.json",
        "sha256": report.sha256,
        "suite": "mini",
        "records": 100,
        "tasks": {
            "arc_challenge": {"questions": {"test": 1, "relative": 0}, "records": {"test": 1, "relative": 0}},
            "gsm8k": {"questions": {"test": 1, "relative": 1}, "records": {"test": 1, "relative": 1}},
        },
    }
    assert not data_reports.lacks_report(run, named)
    assert data_reports.lacks_report(run, with_data(recipe, report="other.json"))
    assert data_reports.report_for_models(run) == report.without_texts()
    remark = "test questions of the benchmarks are in the records: ARC-Challenge 1, GSM8K 1; scores of the model say so"
    assert data_reports.overlap_remark(report) == remark
    for overlap in report.overlap.values():
        overlap.questions["training"] = 1_200
    training_remark = "training rows of the benchmarks: ARC-Challenge 1,200, GSM8K 1,200"
    assert data_reports.overlap_remark(report) == f"{remark}; {training_remark}"
    for overlap in report.overlap.values():
        overlap.questions["test"] = 0
    clean_remark = "no test question of the benchmarks is in the records"
    assert data_reports.overlap_remark(report) == f"{clean_remark}; {training_remark}"


def test_a_report_made_anew_under_the_same_name_is_another_one(recipe, report, tmp_path):
    run, path = Run(tmp_path / "mini"), tmp_path / "r.json"
    run.folder.mkdir()
    named = with_data(recipe, report=str(path))
    write_data_report(path, report)
    data_reports.store_report(run, named, report)
    assert not data_reports.lacks_report(run, named)
    write_data_report(path, report.model_copy(update={"records": 99}))
    assert data_reports.lacks_report(run, named)
    path.unlink()
    assert not data_reports.lacks_report(run, named), "the run has its own copy"


def test_a_models_folder_has_it_without_texts_and_the_same_identity(recipe, report, tmp_path):
    tokenizer = tokenizers.load_tokenizer(recipe.model.tokenizer_source)
    model = student_model.build_random_model(student_model.student_config(recipe, tokenizer), 0)
    for name, data_report in (("plain", None), ("reported", report)):
        student_model.save_model(model, tokenizer, tmp_path / name, {"run": "r", "step": 1}, data_report)
    text = (tmp_path / "reported" / "data_report.json").read_text()
    assert "of the record" not in text and "/home/me" not in text
    assert read_data_report(tmp_path / "reported" / "data_report.json").sha256 == report.sha256
    assert not (tmp_path / "plain" / "data_report.json").exists()
    identities = [
        model_identity.folder_part_hashes(ModelFolder(str(tmp_path / name))) for name in ("plain", "reported")
    ]
    assert identities[0] == identities[1]


class Display(Lines, SilentTrainingDisplay):
    """Keeps the lines of a training."""


def test_a_finished_run_gets_the_report_that_its_recipe_names_later(recipe, report, tmp_path, mini):
    run = Run(tmp_path / recipe.name)
    run.folder.mkdir()
    run.recipe_file.write_text(recipe.to_yaml())
    run.update_manifest(
        status="finished", records=[{"name": str(mini["mini:records"]), "sha256": file_sha256(mini["mini:records"])}]
    )
    for folder in (run.model, run.best_model):
        make_model(folder, mini["mini:tokenizer"])
    calls, display = [], Display()

    def make():
        calls.append(1)
        return report

    named = with_data(recipe, benchmarks="rows")
    for _ in range(2):
        train_recipe(named, tmp_path, display=display, make_data_report=make)
    assert calls == [1], "a report that is there is not made again"
    for folder in (run.model, run.best_model):
        assert read_data_report(folder / "data_report.json") == report.without_texts()
    assert any("test questions of the benchmarks are in the records: ARC-Challenge 1" in line for line in display.lines)


@pytest.mark.slow
def test_a_trained_model_carries_its_report_into_its_results(report, tmp_path, mini):
    write_data_report(tmp_path / "r.json", report)
    runs = tmp_path / "runs"
    shutil.copytree(mini["mini:records"].parent, runs / "mini-files")
    overrides = ["train.max_steps=2", "train.export_every=1", "train.processes=1", "train.global_batch=2"]
    overrides += ["train.micro_batch=2", "train.accumulation=1", f"data.report={tmp_path / 'r.json'}"]
    run = api.train("mini", overrides, runs)
    for folder in (run.model, run.exports_folder / "step-1"):
        assert read_data_report(folder / "data_report.json") == report.without_texts()
    assert run.manifest["data_report"]["sha256"] == report.sha256
    (result_file,) = api.evaluate(
        run.model, runs, tasks=["arc_challenge", "gsm8k"], benchmarks="mini:", max_new_tokens="gsm8k=4"
    ).values()
    tasks = result_file.result.tasks
    assert (tasks["arc_challenge"].overlap.questions, tasks["gsm8k"].overlap.questions) == (1, 1)
    assert tasks["gsm8k"].overlap.relatives == 1
    assert json.loads(result_file.path.read_text())["tasks"]["gsm8k"]["overlap"]["report_sha256"] == report.sha256


def test_benchmarks_in_a_recipe_make_the_report(recipe, mini):
    named = with_data(recipe, benchmarks=str(mini["mini:benchmarks"]))
    make = functools.partial(api.compare_records_with_benchmarks, named, SilentTrainingDisplay())
    report = data_reports.report_of_recipe(named, make)
    assert report.suite == "mini" and report.records == 5800
    assert list(report.overlap) == [task.name for task in ALL_TASKS]
