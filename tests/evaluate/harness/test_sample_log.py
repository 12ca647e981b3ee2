"""`eval --log-samples`: lm-eval's own files, which say the same as the result when they are read here."""

import json

import pytest

from orca_bench.results import reading
from orca_bench.results.result_lookup import look_up_results


@pytest.fixture(scope="module")
def in_folder(tmp_path_factory, command_in, tiny_model, mini):
    command = command_in(tmp_path_factory.mktemp("sample_log"))
    command.options = ["--model", tiny_model, "--benchmarks", mini["mini:benchmarks"], "--limit", "4"]
    return command


@pytest.mark.parametrize(
    ("protocol", "tasks"),
    [
        ("orca", "arc_challenge,gsm8k"),
        ("plain", "arc_challenge"),
    ],
)
def test_the_files_are_lm_evals_and_say_what_the_result_says(in_folder, protocol, tasks):
    options = ["--protocol", protocol, "--tasks", tasks, "--out", f"{protocol}.json", "--log-samples", protocol]
    process = in_folder("eval", *in_folder.options, *options)
    assert process.returncode == 0, process.stderr
    own = reading.read_with_questions(in_folder.folder / f"{protocol}.json")
    (place,) = look_up_results(in_folder.folder / protocol, in_folder.folder / "no runs").paths
    (results_file,) = place.glob("results_*.json")
    assert str(results_file.relative_to(in_folder.folder)) in process.stderr + process.stdout
    content = json.loads(results_file.read_text(encoding="utf-8"))
    assert content["lm_eval_version"] and content["n-samples"]["arc_challenge"]["effective"] == 4
    assert len(content["task_hashes"]["arc_challenge"]) == 64
    log = reading.read_with_questions(place)
    for name in tasks.split(","):
        entry, own_entry = log.result.tasks[name], own.result.tasks[name]
        assert entry.value == pytest.approx(own_entry.value)
        assert (entry.n, entry.warnings) == (own_entry.n, [])
        assert content["results"][name][f"{entry.metric},none"] == entry.value
        own_questions = list(own.questions_by_task[name].questions_by_key.values())
        questions = list(log.questions_by_task[name].questions_by_key.values())
        assert [question.score for question in questions] == [question.score for question in own_questions]
        assert [question.answers for question in questions] == [question.answers for question in own_questions]


def test_without_a_folder_the_files_stand_beside_the_result(in_folder):
    options = ["--protocol", "orca", "--tasks", "winogrande", "--out", "here/orca.json"]
    process = in_folder("eval", *in_folder.options, *options, "--log-samples")
    assert process.returncode == 0, process.stderr
    (path,) = (in_folder.folder / "here" / "lm_eval" / "orca").rglob("samples_winogrande_*.jsonl")
    sample = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    assert {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "doc_hash", "prompt_hash"} <= set(sample)
    assert sample["arguments"]["gen_args_0"]["arg_0"].startswith("### System:")


def test_the_two_logs_of_one_protocol_are_compared(in_folder):
    for name in ("first", "second"):
        options = ["--protocol", "orca", "--tasks", "winogrande", "--out", f"{name}.json"]
        assert in_folder("eval", *in_folder.options, *options, "--log-samples", f"log-{name}").returncode == 0
    process = in_folder("compare", "log-first", "log-second", "--format", "json")
    assert process.returncode == 0, process.stderr
    (comparison,) = json.loads(process.stdout)
    assert comparison["lines"][0]["difference"]["value"] == 0


def test_a_log_of_a_task_of_the_suite_is_compared_with_our_own_result_row_by_row(in_folder):
    tasks = "arc_challenge,truthful_qa,mmlu,gsm8k"
    options = ["--protocol", "plain", "--tasks", tasks, "--out", "own.json", "--log-samples", "log-own"]
    process = in_folder("eval", *in_folder.options, *options)
    assert process.returncode == 0, process.stderr
    process = in_folder("compare", "own.json", "log-own", "--format", "json")
    assert process.returncode == 0, process.stderr
    (comparison,) = json.loads(process.stdout)
    lines = {line["name"]: line for line in comparison["lines"]}
    for name in ("arc_challenge", "truthful_qa", "gsm8k"):
        assert lines[name]["difference"]["n"] == 4 and abs(lines[name]["difference"]["value"]) < 1e-9
    for path in (in_folder.folder / "log-own").rglob("samples_arc_challenge_*"):
        samples = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for sample in samples:
            sample["target"] = str(3 - int(sample["target"]))
        path.write_text("".join(json.dumps(sample) + "\n" for sample in samples), encoding="utf-8")
    process = in_folder("compare", "own.json", "log-own", "--format", "json")
    (line,) = [line for line in json.loads(process.stdout)[0]["lines"] if line["name"] == "arc_challenge"]
    assert line["note"] == "other rows"
