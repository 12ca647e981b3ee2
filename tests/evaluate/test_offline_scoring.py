"""Requests out, answers made elsewhere back in: the same bytes each time, and the same scores as `eval`."""

import gzip
import json
import shlex
import subprocess
import sys

import pytest
from against_b281b092 import same_text

from orca_bench.evaluate import benchmark_rows, protocols, request_files
from orca_bench.evaluate.tasks import SUITE

BY_NAME = {task.name: task for task in SUITE}


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def orca(tmp_path_factory, command_in):
    return command_in(tmp_path_factory.mktemp("offline"))


@pytest.fixture(scope="module")
def evaluated(orca, tiny_model, mini):
    """Three questions of every task under each protocol: results and questions by protocol, and what `both` prints."""
    words = ["--benchmarks", mini["mini:benchmarks"], "--limit", 3]
    process = orca("eval", "--model", tiny_model, *words, "--protocol", "chat", "--out", "eval-chat.json")
    assert process.returncode == 0, process.stderr
    process = orca("eval", "--model", tiny_model, *words, "--protocol", "both", "--out", "eval.json", "--notes")
    assert process.returncode == 0, process.stderr
    results = {}
    for name in protocols.REQUEST_PROTOCOLS:
        path = orca.folder / f"eval-{name}.json"
        results[name] = json.loads(path.read_text()), lines_of(path.with_suffix(".questions.jsonl"))
    return results, process.stdout


def request_lines(orca, mini, protocol, *more):
    out = orca.folder / f"{protocol}.jsonl"
    words = ["--protocol", protocol, "--benchmarks", mini["mini:benchmarks"], "--limit", 3, "--out", out]
    process = orca("requests", *words, *more)
    assert process.returncode == 0, process.stderr
    return lines_of(out)


@pytest.mark.parametrize("protocol", protocols.REQUEST_PROTOCOLS)
def test_requests_are_all_that_the_protocol_sends_in_order(orca, mini, protocol):
    lines = request_lines(orca, mini, protocol)
    protocol_object = protocols.protocol_by_name(protocol, protocols.default_system_text(protocol))
    documents = [
        d
        for t in SUITE
        for d in protocol_object.documents(t, benchmark_rows.load_task_rows(t, mini["mini:benchmarks"]), 3)
    ]
    assert lines == list(request_files.request_lines(documents))
    keys = {"task", "index", "request", "context"}
    kinds = {frozenset(keys | {"continuation"}), frozenset(keys | {"until", "max_new_tokens"})}
    assert {frozenset(line) for line in lines} == kinds
    assert {line["task"] for line in lines} >= {"arc_challenge", "mmlu_formal_logic", "drop"}
    assert all(isinstance(line["until"], list) for line in lines if "until" in line)


def test_two_runs_give_the_same_bytes_and_gz_is_compressed(orca, mini):
    for name in ("a.jsonl.gz", "b.jsonl.gz", "c.jsonl"):
        process = orca("requests", "--tasks", "gsm8k", "--benchmarks", mini["mini:benchmarks"], "--out", name)
        assert process.returncode == 0, process.stderr
    first, second, plain = ((orca.folder / n).read_bytes() for n in ("a.jsonl.gz", "b.jsonl.gz", "c.jsonl"))
    assert first == second and gzip.decompress(first) == plain and len(first) < len(plain)


def test_no_model_library_is_loaded_for_requests_and_scores(mini, tmp_path):
    benchmarks, out = str(mini["mini:benchmarks"]), str(tmp_path / "r.jsonl")
    script = (
        "import sys; from pathlib import Path; from orca_bench.evaluate import offline_scoring, tasks;"
        "from orca_bench.question_limit import QuestionLimit;"
        f"benchmarks, limit = Path({benchmarks!r}), QuestionLimit(2);"
        "selection = offline_scoring.RequestSelection(tasks.select('all'), 'leaderboard', '', benchmarks, limit);"
        f"offline_scoring.write_requests(selection, Path({out!r}));"
        "print([name for name in ('torch', 'transformers', 'lm_eval') if name in sys.modules])"
    )
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert process.stdout.strip() == "[]", process.stderr


def test_token_ids_are_those_that_eval_feeds(orca, mini, tiny_model):
    from orca_bench import tokenizers

    tokenizer = tokenizers.load_tokenizer(tiny_model)
    for protocol in protocols.REQUEST_PROTOCOLS:
        discards = 0
        for line in request_lines(orca, mini, protocol, "--token-ids", "--model", tiny_model):
            begins = line["context_ids"][0] == tokenizer.bos_id
            assert begins == (protocol != "leaderboard")
            if "until" in line:
                limit = 512 if protocol != "leaderboard" and line["task"] == "gsm8k" else 256
                assert line["max_new_tokens"] == limit and len(line["context_ids"]) <= 1024 - limit
                discards += line["discard"]
            elif protocol == "orca":
                assert line["continuation_ids"] == tokenizer.encode(line["continuation"])
            elif protocol == "chat":
                assert tokenizer.decode(line["continuation_ids"]) == line["continuation"]
                assert line["prompt"].endswith("\n\n### Response:\n") and line["prompt"].startswith("<s>### System:\n")
            else:
                whole = tokenizer.encode(line["context"] + line["continuation"])
                assert whole[-len(line["continuation_ids"]) :] == line["continuation_ids"]
        assert discards == 0


@pytest.mark.parametrize("protocol", protocols.REQUEST_PROTOCOLS)
def test_answers_of_another_engine_score_as_eval_does(orca, mini, tiny_model, evaluated, protocol):
    """requests → plain transformers → score gives the values of eval."""
    import torch
    from transformers import AutoModelForCausalLM

    from orca_bench import tokenizers

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    tokenizer = tokenizers.load_tokenizer(tiny_model)
    lines = request_lines(orca, mini, protocol, "--token-ids", "--model", tiny_model)
    with torch.inference_mode():
        for line in lines:
            fed = line.pop("context_ids")
            if "until" in line:
                limit = line["max_new_tokens"]
                out = model.generate(torch.tensor([fed]), max_new_tokens=limit, do_sample=False, pad_token_id=0)
                line["answer"] = tokenizer.decode(out[0, len(fed) + line["discard"] :].tolist())
                ended = tokenizer.decode(out[0, len(fed) :].tolist())
                line["ran_out"] = int(out[0, -1]) != tokenizer.eos_id and not any(
                    stop in ended for stop in line["until"]
                )
            else:
                scored = line.pop("continuation_ids")
                table = model(torch.tensor([fed + scored])).logits[0].double().log_softmax(-1)
                places = range(len(fed) - 1, len(fed) + len(scored) - 1)
                line["answer"] = float(table[places, scored].sum())
    path = write_lines(orca.folder / f"{protocol}-answers.jsonl", lines)
    words = ["--protocol", protocol, "--benchmarks", mini["mini:benchmarks"], "--limit", 3, "--cut-at-stop"]
    process = orca("score", path, *words, "--format", "json")
    assert process.returncode == 0, process.stderr
    result, (expected, questions) = json.loads(process.stdout), evaluated[0][protocol]
    result_file = path.with_name(f"{protocol}-answers.result.json")
    assert json.loads(result_file.read_text()) == result and result["complete"]
    assert result["requests_sha256"] == expected["requests_sha256"]
    assert result["data_hashes"] == expected["data_hashes"]
    for name, entry in result["tasks"].items():
        assert entry["value"] == pytest.approx(expected["tasks"][name]["value"], abs=1e-6)
        assert entry["warnings"] == expected["tasks"][name]["warnings"]
    for mine, theirs in zip(lines_of(result_file.with_suffix(".questions.jsonl")), questions, strict=True):
        assert (mine["task"], mine["index"], mine["prediction"]) == (
            theirs["task"],
            theirs["index"],
            theirs["prediction"],
        )
        if isinstance(mine["answers"][0], str):
            assert mine["answers"] == theirs["answers"]
        else:
            assert mine["answers"] == pytest.approx(theirs["answers"], abs=1e-4)


def test_both_protocols_stand_side_by_side_with_version_hash_and_warning(evaluated):
    results, printed = evaluated
    text = " ".join(printed.split())
    for name in ("leaderboard", "orca"):
        result, _ = results[name]
        assert f"mini, protocol {name}: percent;" in text
        version, requests_hash = result["protocol"]["version"], result["requests_sha256"][:16]
        assert f"• protocol {name} v{version}, requests {requests_hash}" in text
    assert "a scored on the text before the first colon: a model that writes" in text
    first, second = (results[name][0] for name in ("leaderboard", "orca"))
    assert first["model"] == second["model"] and first["requests_sha256"] != second["requests_sha256"]


def test_our_tasks_in_lm_evals_own_hf_class_give_our_answers(tiny_model, mini, evaluated):
    """`simple_evaluate` as a user calls it, with lm-eval's own model: log-probabilities to 1e-4, texts equal."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    from orca_bench.evaluate.harness.protocol_tasks import protocol_tasks

    tasks = protocol_tasks("all", "leaderboard", mini["mini:benchmarks"], 3)
    theirs = HFLM(pretrained=str(tiny_model), device="cpu", dtype="float32", batch_size=1, add_bos_token=False)
    theirs_reported = lm_eval.simple_evaluate(theirs, tasks=tasks)
    result, questions = evaluated[0]["leaderboard"]
    answers = {
        (question.task, question.index, number): (answer, None if question.greedy is None else question.greedy[number])
        for task in tasks
        for question in task.questions
        for number, answer in enumerate(question.answers)
    }
    compared = 0
    for question in questions:
        for number, value in enumerate(question["answers"]):
            answer, greedy = answers.pop((question["task"], question["index"], number))
            if isinstance(value, str):
                assert same_text(answer, value)
            else:
                assert answer == pytest.approx(value, abs=1e-4) and greedy == question["greedy"][number]
            compared += 1
    assert not answers and compared == 96
    for name, entry in result["tasks"].items():
        values = [v[f"{entry['metric']},none"] for n, v in theirs_reported["results"].items() if n.startswith(name)]
        assert entry["value"] == pytest.approx(sum(values) / len(values), abs=1e-6)
    assert "acc_norm_stderr,none" in theirs_reported["results"]["arc_challenge"]


def test_each_command_names_the_next_with_all_that_requests_depend_on(command, mini):
    words = [
        "--benchmarks",
        mini["mini:benchmarks"],
        "--limit",
        1,
        "--system",
        "Be short.",
        "--max-new-tokens",
        "gsm8k=9",
    ]
    process = command("requests", "--tasks", "gsm8k", *words, "--out", "r.jsonl", "--runs", "my runs")
    (next_line,) = (line for line in process.stderr.splitlines() if line.startswith("next: "))
    lines = [line | {"answer": "1"} for line in lines_of(command.folder / "r.jsonl")]
    write_lines(command.folder / "ANSWERS.jsonl", lines)
    assert next_line.endswith(" --runs 'my runs'")
    process = command(*shlex.split(next_line.removeprefix("next: orca-bench ")))
    assert process.returncode == 0 and process.stderr.splitlines()[-1] == "next: orca-bench page ANSWERS.result.json"
    result = json.loads((command.folder / "ANSWERS.result.json").read_text())
    assert result["protocol"]["system"] == "Be short."
    default = command("requests", "--tasks", "gsm8k", *words[:2], "--out", "r.jsonl").stderr
    assert default.endswith(f"next: orca-bench score ANSWERS.jsonl --protocol orca --benchmarks {words[1]}\n")


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.fixture
def answered(command, mini):
    """GSM8K and ARC, two questions each, with answers; and the words that score them."""
    out = command.folder / "requests.jsonl"
    words = ["--protocol", "leaderboard", "--benchmarks", mini["mini:benchmarks"], "--limit", 2]
    assert command("requests", "--tasks", "arc,gsm8k", *words, "--out", out).returncode == 0
    lines = [line | {"answer": "#### 1" if "until" in line else -1.0} for line in lines_of(out)]
    out.unlink()
    return lines, words


def refused(command, answered, change):
    lines, words = answered
    lines = [dict(line) for line in lines]
    changed = change(lines)
    lines = changed if isinstance(changed, list) else lines
    path = write_lines(command.folder / "a.jsonl", lines)
    line = command.refused("score", path, *words)
    assert [p.name for p in command.folder.iterdir()] == ["a.jsonl"]
    return line


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ls: ls[0].update(answer=float("nan")), "a.jsonl:1: answer 'nan' to arc_challenge document 0 request 0"),
        (lambda ls: ls[1].update(answer=float("-inf")), "a.jsonl:2: answer '-inf'"),
        (lambda ls: ls[1].update(answer="-1.5"), "a.jsonl:2: answer '-1.5' to arc_challenge document 0 request 1"),
        (lambda ls: ls[1].update(answer=True), "is not a finite number"),
        (lambda ls: ls[1].update(answer=10**400), "is not a finite number"),
        (lambda ls: ls[1].update(answer=None), "is not a finite number; the log-probability"),
        (lambda ls: ls[-1].update(answer=3.5), "gsm8k document 1 request 0 is not a text"),
        (lambda ls: ls[-1].update(answer="a\ud800"), "is not a text"),
        (lambda ls: ls[0].pop("answer"), "a.jsonl:1: no 'answer'"),
        (lambda ls: ls[0].pop("index"), "a.jsonl:1: no 'index'"),
        (lambda ls: ls[0].update(index="0"), "a.jsonl:1: 'index' is '0', not a whole number"),
        (lambda ls: ls[0].update(greedy="yes"), "a.jsonl:1: 'greedy' is 'yes'"),
        (lambda ls: ls[2].update(request=0), "a.jsonl:3: arc_challenge document 0 request 0 is answered a second time"),
        (
            lambda ls: ls[0].update(index=2),
            "is no request of this protocol; arc_challenge has 2 documents under this protocol",
        ),
        (
            lambda ls: ls[0].update(request=9),
            "request 9 is no request of this protocol; that document has other requests",
        ),
        (
            lambda ls: ls[0].update(task="poetry"),
            "poetry document 0 request 0 is no request of this protocol; no request is of task 'poetry'",
        ),
        (lambda ls: ls[0].update(context="x"), "the context of arc_challenge document 0 request 0 is not the one"),
        (lambda ls: ls[0].update(continuation="x"), "the continuation of arc_challenge document 0 request 0 is not"),
        (lambda ls: ls[-1].update(until=["x"]), "the until of gsm8k document 1 request 0 is not the one"),
        (
            lambda ls: [line for line in ls if line["task"] == "gsm8k"][:1],
            "1 of 2 answers are missing: gsm8k document 1",
        ),
        (lambda ls: [{"task": "poetry", "index": 0, "request": 0, "answer": -1}], "no answer to a task of the suite"),
    ],
)
def test_answers_that_are_none_or_were_not_asked(command, answered, change, message):
    assert message in refused(command, answered, change)


def test_missing_answers_are_counted_and_the_first_five_named(command, answered):
    line = refused(command, answered, lambda lines: lines[:1])
    assert "7 of 8 answers are missing" in line
    places = ("0 request 1", "0 request 2", "0 request 3", "1 request 0", "1 request 1")
    assert ", ".join(f"arc_challenge document {place}" for place in places) + ", …" in line


def test_a_task_that_must_be_answered(command, answered):
    lines, words = answered
    path = write_lines(command.folder / "a.jsonl", [line for line in lines if line["task"] == "gsm8k"])
    assert "answers are missing: arc_challenge document 0" in command.refused(
        "score", path, *words, "--tasks", "arc,gsm8k"
    )
    process = command("score", path, *words)
    assert process.returncode == 0 and "GSM8K" in process.stdout


def test_files_that_are_no_answers(command, answered, tmp_path):
    words = answered[1]
    assert "no such file" in command.refused("score", "absent.jsonl", *words)
    (tmp_path / "a.jsonl").write_text("")
    assert "a.jsonl: no answers" in command.refused("score", "a.jsonl", *words)
    (tmp_path / "a.jsonl").write_text("[1]\n")
    assert "a.jsonl:1: a list, not a JSON object" in command.refused("score", "a.jsonl", *words)


def test_rows_and_splits_are_checked_before_anything_is_written(command, mini, tmp_path):
    import shutil

    shutil.copytree(mini["mini:benchmarks"], tmp_path / "b")
    (tmp_path / "b" / "drop" / "train.jsonl").unlink()
    words = ["--benchmarks", "b", "--out", "r.jsonl"]
    assert "the split 'train' of drop is missing" in command.refused("requests", *words)
    path = tmp_path / "b" / "truthful_qa" / "validation.jsonl"
    path.write_text(path.read_text().replace("mc1_targets", "mc_1"))
    line = command.refused("requests", "--tasks", "truthful_qa", *words)
    assert "validation.jsonl:1: no column 'mc1_targets'" in line
    path = tmp_path / "b" / "gsm8k" / "test.jsonl"
    path.write_text(json.dumps({"question": "q\ud800", "answer": "#### 1"}) + "\n")
    assert "test.jsonl:1: a text with a lone surrogate" in command.refused("requests", "--tasks", "gsm8k", *words)
    path.write_text(json.dumps({"question": "q", "answer": "one"}) + "\n")
    assert "test.jsonl:1: not a row of gsm8k" in command.refused("requests", "--tasks", "gsm8k", *words)
    assert not (tmp_path / "r.jsonl").exists()


def test_tokens_want_a_model_and_a_model_wants_tokens(command, mini):
    words = ["--benchmarks", mini["mini:benchmarks"], "--out", "r.jsonl"]
    assert "--model: --token-ids needs a tokenizer" in command.refused("requests", "--token-ids", *words)
    assert "without --token-ids" in command.refused("requests", "--model", "x", *words)
    assert "no such" in command.refused("requests", "--token-ids", "--model", "./absent", *words)


def test_what_looks_wrong_in_answers_is_said_and_scored(command, answered):
    lines, words = answered
    lines = [line | ({"answer": 0.5} if "until" not in line else {"answer": "Step 1: #### 1"}) for line in lines]
    path = write_lines(command.folder / "a.jsonl", lines)
    process = command("score", path, *words)
    assert process.returncode == 0
    assert "8 answers are above 0" in process.stderr
    assert "2 texts hold a stop string" in process.stderr
    with_notes = command("table", "a.result.json", "--notes")
    assert "2 texts hold a stop string" in " ".join(with_notes.stdout.split())
    cut = command("score", path, *words, "--cut-at-stop")
    assert "stop string" not in cut.stderr


def test_requests_can_be_piped(command, mini):
    words = ["--tasks", "arc", "--benchmarks", str(mini["mini:benchmarks"]), "--out", "/dev/stdout"]
    process = subprocess.run(
        f"{sys.executable} -m orca_bench requests {' '.join(words)} | head -n 1",
        shell=True,
        cwd=command.folder,
        capture_output=True,
        text=True,
    )
    assert json.loads(process.stdout)["task"] == "arc_challenge" and "Traceback" not in process.stderr
