"""A real evaluation through lm-evaluation-harness, from the command line, checked by hand against plain transformers."""

import hashlib
import importlib.metadata
import json
import random
import signal

import pytest
import torch
from waiting import PATIENCE_S, eventually

from orca_bench import prompt, tokenizers
from orca_bench.evaluate import benchmark_rows, protocols, request_encoding, request_files
from orca_bench.evaluate.tasks import SUITE
from orca_bench.models import model_identity
from orca_bench.models.model_folder import ModelFolder
from orca_bench.suite import TASK_NAMES_BY_AVERAGE
from orca_bench.system_messages import system_message
from orca_bench.tokenizers import hugging_face


@pytest.fixture(scope="module")
def orca(tmp_path_factory, command_in):
    return command_in(tmp_path_factory.mktemp("evaluation"))


@pytest.fixture(scope="module")
def evaluated(orca, tiny_model, mini):
    """All seven tasks of the mini suite, eight questions each: the result, its questions, its file."""
    out = orca.folder / "out" / "orca.json"
    process = orca("eval", "--model", tiny_model, "--benchmarks", mini["mini:benchmarks"], "--limit", 8, "--out", out)
    assert process.returncode == 0, process.stderr
    questions = [json.loads(line) for line in out.with_suffix(".questions.jsonl").read_text().splitlines()]
    return json.loads(out.read_text()), questions, out, process


def test_every_fact_of_a_result_is_computed_again_from_what_was_evaluated(evaluated, tiny_model, mini):
    from transformers import AutoModelForCausalLM

    result, _, out, process = evaluated
    tokenizer = tokenizers.load_tokenizer(tiny_model)
    protocol = protocols.Orca(system_message(5))
    assert list(result["tasks"]) == [task.name for task in SUITE]
    for task in SUITE:
        entry, rows = result["tasks"][task.name], benchmark_rows.load_task_rows(task, mini["mini:benchmarks"])
        documents = protocol.documents(task, rows, 8)
        assert {name: entry[name] for name in ("title", "metric", "shots", "n", "rows", "full_size")} == {
            "title": task.title,
            "metric": task.metric,
            "shots": task.shots,
            "n": len(documents),
            "rows": len(rows.evaluation_rows),
            "full_size": task.facts.row_count_by_split[task.evaluation_split],
        }
        assert entry["requests_sha256"] == request_files.requests_sha256(documents)
        encoding = request_encoding.encoding_of_protocol("orca", tokenizer, 1024)
        for request in (request for document in documents for request in document.requests):
            if request.continuation is None:
                encoding.encode_prompt(request.context, request.fixed_prefix_characters, request.max_new_tokens)
            else:
                encoding.encode_pair(request.context, request.continuation, request.fixed_prefix_characters)
        assert entry["shortened"] == encoding.shortened_context_count
        assert result["data_hashes"][task.name] == rows.hashes_by_split
        assert set(rows.hashes_by_split) == set(filter(None, (task.evaluation_split, task.few_shot_split)))
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    identity = result["model"]["identity"]
    assert result["model"]["fingerprint"] == identity["weights"] == model_identity.weights_sha256(model)
    assert model_identity.folder_part_hashes(ModelFolder(str(tiny_model))).items() <= identity.items()
    assert result["model"]["parameters"] == model.num_parameters()
    assert (result["model"]["dtype"], result["model"]["device"], result["model"]["path"]) == (
        "float32",
        "cpu",
        str(tiny_model),
    )
    assert result["protocol"] == json.loads(json.dumps(protocol.describe() | {"max_length": 1024}))
    assert result["suite"]["name"] == "mini" and not result["suite"]["comparable"] and result["limit"] == 8
    for name in ("torch", "lm_eval", "transformers"):
        assert result["versions"][name] == importlib.metadata.version(name)
    assert result["questions_sha256"] == hashlib.sha256(out.with_suffix(".questions.jsonl").read_bytes()).hexdigest()
    assert "not comparable" in process.stdout and "37.06" in process.stdout


def test_values_are_the_means_of_the_questions_and_lm_evals_own(evaluated):
    result, questions, *_ = evaluated
    for name, entry in result["tasks"].items():
        scores = [q["score"] for q in questions if q["task"].startswith(name)]
        assert entry["value"] == pytest.approx(sum(scores) / len(scores))
        means = [v[f"{entry['metric']},none"] for v in result["lm_eval"][name]["results"].values()]
        assert entry["value"] == pytest.approx(sum(means) / len(means))
    for name, tasks in TASK_NAMES_BY_AVERAGE.items():
        values = [result["tasks"][task]["value"] for task in tasks]
        assert result["averages"][name]["value"] == pytest.approx(sum(values) / len(values))


def by_hand(model, tokenizer, context, response):
    """The log-probability of a response after a prompt, in plain transformers."""
    prompt_ids, answered = [tokenizer.bos_id, *tokenizer.encode(context)], tokenizer.encode(response)
    ids = torch.tensor([prompt_ids + answered])
    with torch.inference_mode():
        table = model(input_ids=ids).logits[0].double().log_softmax(-1)
    return sum(float(table[len(prompt_ids) + i - 1, token]) for i, token in enumerate(answered))


def test_every_choice_question_is_what_plain_transformers_says(evaluated, tiny_model, mini):
    from transformers import AutoModelForCausalLM

    _, questions, *_ = evaluated
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    tokenizer = tokenizers.load_tokenizer(tiny_model)
    checked = 0
    for task in SUITE:
        if task.generates_text:
            continue
        documents = protocols.Orca(system_message(5)).documents(
            task, benchmark_rows.load_task_rows(task, mini["mini:benchmarks"]), 8
        )
        mine = [q for q in questions if q["task"].startswith(task.name)]
        for document, question in zip(documents, mine, strict=True):
            assert (document.part_name, document.document_index, document.row_index) == (
                question["task"],
                question["index"],
                question["row"],
            )
            ids = [len(tokenizer.encode(r.context)) for r in document.requests]
            if max(ids) > 900:
                continue  # shortened
            for request, answer in zip(document.requests, question["answers"], strict=True):
                assert answer == pytest.approx(
                    by_hand(model, tokenizer, request.context, request.continuation), abs=1e-4
                )
                checked += 1
    assert checked > 100


def test_generated_answers_are_plain_greedy_generation(evaluated, tiny_model, mini):
    from transformers import AutoModelForCausalLM

    _, questions, *_ = evaluated
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    tokenizer = tokenizers.load_tokenizer(tiny_model)
    task = next(t for t in SUITE if t.name == "drop")
    documents = protocols.Orca(system_message(5)).documents(
        task, benchmark_rows.load_task_rows(task, mini["mini:benchmarks"]), 8
    )
    mine = [q for q in questions if q["task"] == "drop"]
    for document, question in list(zip(documents, mine, strict=True))[:3]:
        prompt_ids = torch.tensor([[tokenizer.bos_id, *tokenizer.encode(document.requests[0].context)]])
        out = model.generate(prompt_ids, max_new_tokens=256, do_sample=False, pad_token_id=0)
        text = tokenizer.decode(out[0, prompt_ids.shape[1] :].tolist())
        for stop in document.requests[0].stop_strings:
            text = text.split(stop)[0]
        assert question["answers"] == [text]


def test_two_evaluations_are_equal_but_for_time(orca, evaluated, tiny_model, mini):
    result, _, out, _ = evaluated
    again = orca.folder / "again.json"
    words = ["--benchmarks", mini["mini:benchmarks"], "--limit", 8, "--out", again, "--format", "json"]
    process = orca("eval", "--model", tiny_model, *words)
    assert process.returncode == 0
    assert again.with_suffix(".questions.jsonl").read_bytes() == out.with_suffix(".questions.jsonl").read_bytes()
    printed = json.loads(process.stdout)
    assert {n: t["value"] for n, t in printed["tasks"].items()} == {n: t["value"] for n, t in result["tasks"].items()}


def test_the_system_message_matters_and_is_recorded(orca, tiny_model, mini):
    out = orca.folder / "system.json"
    words = [
        "--benchmarks",
        mini["mini:benchmarks"],
        "--limit",
        4,
        "--tasks",
        "arc",
        "--system",
        "Be brief.",
        "--out",
        out,
    ]
    assert orca("eval", "--model", tiny_model, *words).returncode == 0
    assert json.loads(out.read_text())["protocol"]["system"] == "Be brief."


def test_plain_is_what_lm_eval_reports_for_its_own_hf_class(orca, tiny_model, mini):
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from orca_bench.evaluate.harness import plain_protocol

    out = orca.folder / "plain.json"
    words = ["--benchmarks", mini["mini:benchmarks"], "--limit", 2, "--protocol", "plain", "--out", out]
    process = orca("eval", "--model", tiny_model, *words)
    assert process.returncode == 0, process.stderr
    ours = json.loads(out.read_text())["tasks"]
    manager = TaskManager(include_defaults=False)  # the default one reads thousands of files
    theirs = HFLM(pretrained=str(tiny_model), device="cpu", dtype="float32", batch_size=1, add_bos_token=True)
    for task in SUITE:
        rows = benchmark_rows.load_task_rows(task, mini["mini:benchmarks"])
        parts = list(plain_protocol.harness_parts(task, rows))
        harness_tasks = plain_protocol.load_harness_tasks(task, parts)
        results = lm_eval.simple_evaluate(
            theirs, tasks=harness_tasks, limit=2, bootstrap_iters=0, task_manager=manager
        )["results"]
        facts = task.facts.harness_facts
        values = [results[part.harness_task_name][f"{facts.metric},{facts.filter_name}"] for part in parts]
        assert ours[task.name]["value"] == pytest.approx(sum(values) / len(values), abs=1e-6), task.name


def test_ctrl_c_keeps_the_tasks_that_are_done(orca, tiny_model, mini):
    out = orca.folder / "stopped.json"
    process = orca.start("eval", "--model", tiny_model, "--benchmarks", mini["mini:benchmarks"], "--out", out)
    eventually(lambda: out.is_file() or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130 and str(out) in err and "Traceback" not in err
    result = json.loads(out.read_text())
    assert not result["complete"] and "arc_challenge" in result["tasks"]
    table = orca("table", out)
    assert table.returncode == 0 and "unfinished" in table.stdout


def test_ctrl_c_in_the_second_protocol_keeps_the_first(orca, tiny_model, mini):
    words = ["--benchmarks", mini["mini:benchmarks"], "--limit", 20, "--tasks", "arc,mmlu,gsm8k", "--protocol", "both"]
    process = orca.start("eval", "--model", tiny_model, *words, "--out", "two.json")
    second = orca.folder / "two-orca.json"
    eventually(lambda: second.is_file() or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130 and "leaderboard is in two-leaderboard.json; stopped after arc_challenge" in err
    assert json.loads((orca.folder / "two-leaderboard.json").read_text())["complete"]
    assert not json.loads(second.read_text())["complete"]


def test_real_rows_in_the_orca_prompt(orca, shared, tiny_model):
    out = orca.folder / "real.json"
    words = [
        "--benchmarks",
        shared / "benchmarks",
        "--limit",
        2,
        "--out",
        out,
        "--tasks",
        "arc,hellaswag,truthful_qa,winogrande,drop",
        "--notes",
    ]
    process = orca("eval", "--model", tiny_model, *words)
    assert process.returncode == 0, process.stderr
    result = json.loads(out.read_text())
    assert result["suite"]["comparable"] and result["tasks"]["arc_challenge"]["rows"] == 1172
    text = " ".join(process.stdout.split())
    assert "mixes model and protocol" in text and "only the first 2 questions" in text


def test_real_prompts_and_records_have_sentencepieces_ids(shared, tmp_path):
    """Requests of all seven real tasks and real instructions, through the exported LLaMA tokenizer."""
    from orca_bench.data import instructions

    truth = tokenizers.load_tokenizer(shared / "tokenizer" / "tokenizer.model")
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    tokenizers.export_tokenizer(truth, tmp_path)
    plain = hugging_face.load_transformers_tokenizer(tmp_path)
    texts = []
    for task in SUITE:
        for document in protocols.Orca("S").documents(
            task, benchmark_rows.load_task_rows(task, shared / "benchmarks"), 3
        ):
            texts += [t for r in document.requests for t in (r.context, r.continuation) if t]
    for name in ("alpaca", "dolly"):
        examples = list(instructions.read_instructions(shared / "instructions" / name / "train.jsonl.gz"))
        for item in random.Random(0).sample(examples, 400):
            texts += [prompt.render("S", item.instruction_text, item.input_text), item.reference_answer]
    assert len(texts) > 2000
    assert tokenizers.first_disagreement(truth, plain, texts) is None
