"""Logs of lm-eval and inspect_ai wherever a command takes a result."""

import json
import shutil

import pytest


@pytest.fixture(scope="module")
def in_logs(tmp_path_factory, command_in, lm_eval_output):
    folder = tmp_path_factory.mktemp("commands_on_logs")
    shutil.copytree(lm_eval_output, folder / "output")
    return command_in(folder)


FIRST, SECOND = "output/someone__first", "output/someone__second"


def test_a_table_has_every_task_and_metric(in_logs):
    process = in_logs("table", "output", "--format", "markdown", "--reported", "none")
    assert process.returncode == 0, process.stderr
    for words in ("someone/first", "someone/second", "| choice_plain |", "bits_per_byte", "exact_match,strict-match"):
        assert words in process.stdout
    assert "does not tell token ids nor hashes of the model" in process.stdout


def test_a_table_has_the_examples_that_a_log_tells_and_no_others(in_logs, lm_eval_output, inspect_output):
    def shots(words, task):
        lines = in_logs("table", *words, "--format", "csv", "--reported", "none").stdout.splitlines()
        column = lines[0].split(",").index("shots")
        return {line.split(",")[column] for line in lines if line.startswith(task)}

    assert shots((FIRST, SECOND), "choice_shots") == {"2"}
    shutil.copytree(lm_eval_output / "someone__second", in_logs.folder / "three_shots")
    path = next((in_logs.folder / "three_shots").glob("results_*"))
    content = json.loads(path.read_text(encoding="utf-8"))
    content["n-shot"]["choice_shots"] = 3
    path.write_text(json.dumps(content), encoding="utf-8")
    assert shots((FIRST, "three_shots"), "choice_shots") == {""}
    assert shots((inspect_output / "mockllm__a",), "matched") == {""}


def test_two_logs_are_compared_document_by_document_and_by_each_metric(in_logs):
    process = in_logs("compare", FIRST, SECOND, "--format", "json")
    assert process.returncode == 0, process.stderr
    (comparison,) = json.loads(process.stdout)
    lines = {line["name"]: line for line in comparison["lines"]}
    assert lines["choice_plain"]["difference"]["n"] == 24 and lines["parts"]["difference"]["n"] == 48
    for name in ("choice_plain:acc_norm", "sums:exact_match,flexible-extract", "pages:bits_per_byte"):
        assert lines[name]["difference"]["n"] == 24


def test_the_gate_passes_and_says_what_it_could_not_hold(in_logs):
    process = in_logs("check", SECOND, "--baseline", FIRST)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "token ids were not compared, for a result does not know them: parts" in " ".join(process.stdout.split())


def test_the_gate_holds_requests_by_what_lm_eval_logged(in_logs, lm_eval_output):
    changed = in_logs.folder / "other_prompt"
    shutil.copytree(lm_eval_output / "someone__second", changed)
    samples = next(changed.glob("samples_choice_plain_*"))
    samples.write_text(samples.read_text(encoding="utf-8").replace("Answer:", "The answer:"), encoding="utf-8")
    process = in_logs("check", "other_prompt", "--baseline", FIRST)
    assert process.returncode == 1
    assert "other requests of choice_plain: the prompt is not what it was" in " ".join(process.stdout.split())


def test_a_log_without_hashes_is_compared_by_number_and_the_gate_says_so(in_logs, lm_eval_output):
    for source, target in (("someone__first", "old_first"), ("someone__second", "old_second")):
        shutil.copytree(lm_eval_output / source, in_logs.folder / target)
        samples = next((in_logs.folder / target).glob("samples_choice_plain_*"))
        lines = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
        for line in lines:
            for key in ("doc_hash", "prompt_hash", "target_hash", "arguments"):
                del line[key]
        samples.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    process = in_logs("check", "old_second", "--baseline", "old_first")
    text = " ".join(process.stdout.split())
    assert process.returncode == 0, text + process.stderr
    for noun in ("rows", "requests"):
        assert f"{noun} were not compared, for a log does not tell them: choice_plain" in text


def test_documents_that_differ_are_not_paired(in_logs, lm_eval_output):
    changed = in_logs.folder / "other_documents"
    shutil.copytree(lm_eval_output / "someone__second", changed)
    samples = next(changed.glob("samples_choice_plain_*"))
    lines = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    for line in lines[:10]:
        line["doc_hash"] = "0" * 64
    samples.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    process = in_logs("compare", FIRST, "other_documents", "--format", "markdown")
    assert "14 questions in common, of 24 and 24" in process.stdout
    process = in_logs("check", "other_documents", "--baseline", FIRST)
    assert process.returncode == 1 and "other rows of choice_plain" in " ".join(process.stdout.split())


def test_page_and_pictures_show_logs(in_logs):
    process = in_logs("page", FIRST, SECOND, "--out", "page.html", "--reported", "none")
    assert process.returncode == 0, process.stderr
    assert "576 scored questions of 2 results" in process.stderr
    page = (in_logs.folder / "page.html").read_text(encoding="utf-8")
    assert "someone/second" in page and "choice_plain" in page
    process = in_logs("plot", FIRST, SECOND, "--to", "plots", "--reported", "none")
    assert process.returncode == 0 and (in_logs.folder / "plots" / "differences.png").is_file()


def test_what_needs_results_of_this_program_refuses_logs(in_logs):
    assert "its scores cannot be computed again here" in in_logs.refused("verify", FIRST)
    assert "which a log does not tell" in in_logs.refused("publish", FIRST)


def test_scores_without_samples_are_compared_unpaired_and_said(in_logs, lm_eval_output):
    scores = in_logs.folder / "scores_only"
    shutil.copytree(lm_eval_output / "someone__second", scores, ignore=shutil.ignore_patterns("samples_*"))
    assert in_logs("table", "scores_only", "--reported", "none").returncode == 0
    process = in_logs("compare", FIRST, "scores_only", "--format", "markdown")
    assert process.returncode == 0, process.stderr
    assert "the log scores_only has no questions" in process.stdout
    assert "the log has scores and no questions" in in_logs.refused("check", "scores_only", "--baseline", FIRST)


def test_logs_of_inspect_are_results_too(command_in, inspect_output):
    in_logs = command_in(inspect_output)
    process = in_logs("table", ".", "--format", "markdown", "--reported", "none")
    assert process.returncode == 0, process.stderr
    assert "| some_errors |" in process.stdout and "2 of 12 samples ended in an error" in process.stdout
    (comparison,) = json.loads(in_logs("compare", "mockllm__a", "mockllm__b", "--format", "json").stdout)
    lines = {line["name"]: line for line in comparison["lines"]}
    assert lines["matched"]["difference"]["n"] == 12 and lines["two_scorers:accuracy,includes"]["difference"]["n"] == 12
    process = in_logs("check", "mockllm__b", "--baseline", "mockllm__a")
    assert process.returncode == 0, process.stdout + process.stderr
