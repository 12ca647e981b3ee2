"""Protocol `chat` on its whole way: evaluated, verified, shown, compared, and refused where a template does not allow it."""

import json
import shutil

import pytest
from chat_templates import GEMMA, LLAMA2, MISTRAL

from orca_bench import api
from orca_bench.errors import UserError
from orca_bench.evaluate import benchmark_rows, config_building, protocols, verification
from orca_bench.evaluate.reconstructed_requests import rebuild_requests
from orca_bench.evaluate.tasks import SUITE
from orca_bench.report import gate_comparability
from orca_bench.results import reading
from orca_bench.results.reading import read_with_questions

TASKS = "winogrande,gsm8k"
SUITE_BY_NAME = {task.name: task for task in SUITE}


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory, tiny_model):
    """A function that gives a copy of the tiny model with a template."""
    folder = tmp_path_factory.mktemp("models")

    def make(name, template):
        path = folder / name
        if not path.exists():
            shutil.copytree(tiny_model, path)
            (path / "orca_bench.json").unlink()
            (path / "chat_template.jinja").unlink()
            if template is not None:
                (path / "chat_template.jinja").write_text(template, encoding="utf-8")
        return path

    return make


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, chat_model):
    """Results of one model under two templates, and under the first with other settings."""
    runs = tmp_path_factory.mktemp("chat")
    options = {"tasks": TASKS, "benchmarks": "mini:", "limit": 2, "protocol": "chat", "max_new_tokens": "gsm8k=16"}
    llama2, mistral = chat_model("llama2", LLAMA2), chat_model("mistral", MISTRAL)
    return runs, {
        "llama2": api.evaluate(llama2, runs, **options)["chat"],
        "mistral": api.evaluate(mistral, runs, **options)["chat"],
        "one turn": api.evaluate(llama2, runs, few_shot="one-turn", system="Be brief.", **options)["chat"],
    }


def test_a_result_says_which_template_and_which_turns(evaluated, chat_model):
    runs, files = evaluated
    import hashlib

    for name, text in (("llama2", LLAMA2), ("mistral", MISTRAL)):
        protocol = files[name].result.protocol
        assert protocol.template_sha256 == hashlib.sha256(text.encode()).hexdigest()
        assert (protocol.name_and_version, protocol.few_shot, protocol.system) == ("chat v1", "turns", None)
    one_turn = files["one turn"].result.protocol
    assert (one_turn.few_shot, one_turn.system) == ("one-turn", "Be brief.")
    assert files["llama2"].path == runs / "llama2" / "results" / "chat-gsm8k-room16-limit2.json"
    assert files["one turn"].path.name.startswith("chat-system-") and "-one-turn-" in files["one turn"].path.name
    requests, tokens = (
        {name: {getattr(entry, key) for entry in file.result.tasks.values()} for name, file in files.items()}
        for key in ("requests_sha256", "tokens_sha256")
    )
    assert requests["llama2"] == requests["mistral"]  # the same chats, which two templates write otherwise
    assert not requests["llama2"] & requests["one turn"] and not tokens["llama2"] & tokens["mistral"]


def test_log_probabilities_are_those_of_plain_transformers_in_apply_chat_template(evaluated, chat_model, mini):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = chat_model("llama2", LLAMA2)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.split_special_tokens = False  # an export's own setting
    rows = benchmark_rows.load_task_rows(SUITE_BY_NAME["winogrande"], mini["mini:benchmarks"])
    documents = protocols.Chat().documents(SUITE_BY_NAME["winogrande"], rows, 2)
    answers = {}
    for document in documents:
        for number, request in enumerate(document.requests):
            messages = json.loads(request.context)
            fed = tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
            messages.append({"role": "assistant", "content": request.continuation})
            whole = tokenizer.apply_chat_template(messages)["input_ids"]
            assert whole[: len(fed)] == fed and tokenizer.decode(whole[-2:]).endswith(tokenizer.eos_token)
            end = len(whole) - 1 - (tokenizer.decode(whole[-2:-1]).strip() == "")  # without ` </s>`
            with torch.inference_mode():
                table = model(torch.tensor([whole])).logits[0].double().log_softmax(-1)
            places = range(len(fed) - 1, end - 1)
            answers[document.document_index, number] = float(table[places, whole[len(fed) : end]].sum())
    questions = evaluated[1]["llama2"].questions_by_task["winogrande"].questions_by_key.values()
    log_probabilities = {
        (question.index, n): answer for question in questions for n, answer in enumerate(question.answers)
    }
    assert log_probabilities == pytest.approx(answers, abs=1e-4) and len(answers) == 4


def test_a_result_is_verified_without_the_model(evaluated, mini):
    for file in evaluated[1].values():
        findings = verification.verify(file.path, mini["mini:benchmarks"])
        assert [finding for finding in findings if finding.matches is False] == []
        assert {"protocol", "suite"} <= {finding.check_name for finding in findings if finding.matches}


def test_the_requests_of_a_result_are_shown_as_turns(evaluated, mini):
    result = evaluated[1]["one turn"].result
    lookup, notes = rebuild_requests(result, mini["mini:benchmarks"])
    (question, *_) = evaluated[1]["one turn"].questions_by_task["gsm8k"].questions_by_key.values()
    ((context, continuation, _),) = lookup(question.task, question.row).requests
    assert not notes and continuation is None
    assert context.startswith("[system]\nBe brief.\n\n[user]\nQuestion: ") and context.endswith("\nAnswer:")


def test_results_of_two_templates_are_not_comparable(evaluated, command):
    files = evaluated[1]
    (obstacle,) = gate_comparability.obstacles_to_comparison(
        read_with_questions(files["mistral"].path), [read_with_questions(files["llama2"].path)]
    )
    assert str(obstacle).startswith("other protocol: chat v1, chat template '")
    process = command("check", files["mistral"].path, "--baseline", files["llama2"].path)
    assert process.returncode == 1 and "other protocol" in process.stderr + process.stdout
    process = command("compare", files["llama2"].path, files["mistral"].path)
    hashes = [files[name].result.protocol.template_sha256[:8] for name in ("mistral", "llama2")]
    titles = ", ".join(f"chat v1 (chat template {template_hash})" for template_hash in hashes)
    assert f"The protocols differ ({titles}): a difference may be theirs." in " ".join(process.stdout.split())


def test_another_template_in_the_same_folder_makes_another_result(chat_model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(chat_model("llama2", LLAMA2), folder)
    options = {"tasks": "winogrande", "benchmarks": "mini:", "limit": 1, "protocol": "chat"}
    first = api.evaluate(folder, tmp_path, **options)["chat"]
    (folder / "chat_template.jinja").write_text(MISTRAL, encoding="utf-8")
    second = api.evaluate(folder, tmp_path, **options)["chat"]
    assert second.path == first.path and len(list(first.path.parent.glob("chat-limit1-*.json"))) == 1
    assert first.result.tasks["winogrande"].tokens_sha256 != second.result.tasks["winogrande"].tokens_sha256


@pytest.mark.parametrize(
    ("template", "options", "line"),
    [
        (None, {}, "no chat template in this model folder; `--protocol orca` needs none"),
        (
            GEMMA,
            {"system": 5},
            "the chat template refuses a system message: System role not supported; leave out --system",
        ),
        ("{{ 1 + }}", {}, "the chat template is no Jinja"),
        (LLAMA2 + "{{ [1] | random }}", {}, "the chat template writes another text every time: it uses 'random'"),
        (LLAMA2, {"few_shot": "pairs"}, "--few-shot: 'pairs' is not one of turns, one-turn"),
        (LLAMA2, {"system": 3, "protocol": "leaderboard"}, "--system: not an option of --protocol leaderboard"),
        (LLAMA2, {"few_shot": "turns", "protocol": "orca"}, "--few-shot: not an option of --protocol orca"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_the_model_is_loaded(tiny_model, tmp_path, template, options, line):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "orca_bench.json").unlink()
    (folder / "chat_template.jinja").unlink()
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    with pytest.raises(UserError) as refusal:
        api.evaluate(folder, tmp_path, benchmarks="mini:", **({"protocol": "chat"} | options))
    assert line in str(refusal.value)
    assert not (tmp_path / "model" / "results").exists()


def test_the_orca_protocol_says_how_a_model_is_asked_in_its_own_template(chat_model, tmp_path):
    options = {"tasks": "winogrande", "benchmarks": "mini:", "limit": 1}
    warnings = api.evaluate(chat_model("llama2", LLAMA2), tmp_path, **options)["orca"].result.model.warnings
    assert warnings[0].endswith("in which it is asked; `--protocol chat` asks it in its own")
    warnings = api.evaluate(chat_model("bare", None), tmp_path, **options)["orca"].result.model.warnings
    assert warnings == []


def test_requests_and_answers_elsewhere_are_those_of_the_evaluation(evaluated, command, mini, chat_model):
    words = ["--protocol", "chat", "--tasks", TASKS, "--limit", "2", "--benchmarks", mini["mini:benchmarks"]]
    words += ["--max-new-tokens", "gsm8k=16"]
    model = ["--token-ids", "--model", chat_model("llama2", LLAMA2)]
    process = command("requests", *words, *model, "--out", "requests.jsonl")
    assert process.returncode == 0, process.stderr
    next_words = process.stderr.split("next: ")[1]
    assert f"--model {model[-1]}" in next_words
    lines = [json.loads(line) for line in (command.folder / "requests.jsonl").read_text().splitlines()]
    assert all(line["prompt"].startswith("<s>[INST] ") and line["prompt"].endswith(" [/INST]") for line in lines)
    questions = {
        (question.task, question.index): question
        for questions in evaluated[1]["llama2"].questions_by_task.values()
        for question in questions.questions_by_key.values()
    }
    for line in lines:
        line["answer"] = questions[line["task"], line["index"]].answers[line["request"]]
    (command.folder / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    process = command("score", "answers.jsonl", *words)
    assert process.returncode == 0, process.stderr
    result = reading.read_result(command.folder / "answers.result.json")
    expected = evaluated[1]["llama2"].result
    assert {name: entry.value for name, entry in result.tasks.items()} == {
        name: entry.value for name, entry in expected.tasks.items()
    }
    assert result.requests_sha256 == expected.requests_sha256 and result.protocol.template_sha256 is None
    assert "the chat template that the answers were made with is not known" in process.stderr
    process = command("score", "answers.jsonl", *words, "--model", model[-1], "--out", "known.json")
    assert process.returncode == 0 and "is not known" not in process.stderr, process.stderr
    protocol = reading.read_result(command.folder / "known.json").protocol
    assert protocol.template_sha256 == expected.protocol.template_sha256 and protocol.template_sha256 is not None
    assert protocol.differing_keys(expected.protocol, result.tasks) == ["max_length"]
    refused = command("score", "answers.jsonl", *words[2:], "--protocol", "orca", "--model", model[-1])
    assert refused.returncode == 2 and "which has no chat template" in refused.stderr


def test_few_shot_and_system_have_the_protocols_own_defaults():
    select = config_building.request_selection
    chat, orca = select(protocol="chat", tasks="gsm8k"), select(protocol="orca", tasks="gsm8k")
    assert (chat.system_text, chat.few_shot) == (None, "turns")
    assert orca.system_text is not None and orca.system_text.startswith("You are an AI assistant that follows")
    assert select(protocol="chat", tasks="gsm8k", system=1).system_text == ""
