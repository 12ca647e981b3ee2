"""`/v1/completions` by the clients that people use: openai's, and lm_eval's `local-completions`."""

import json

import openai
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.openai_completions import LocalCompletionsAPI
from waiting import PATIENCE_S

CONTEXT = "Tom has three apples and buys four more at the market."


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def harness_model(server, tiny_model):
    return LocalCompletionsAPI(
        base_url=f"{server.url}/v1/completions",
        model="model",
        tokenizer=str(tiny_model),
        tokenizer_backend="huggingface",
        max_length=1024,
        batch_size=2,
        timeout=int(PATIENCE_S),
    )


@pytest.fixture(scope="module")
def greedy_ids(plain_model, tokenizer):
    """A function: the ids that transformers generates after others, without those that end the text."""

    def generate(ids, count):
        with torch.inference_mode():
            out = plain_model.generate(torch.tensor([ids]), max_new_tokens=count, do_sample=False)[0, len(ids) :]
        return [token_id for token_id in out.tolist() if token_id not in tokenizer.stop_ids]

    return generate


def test_an_echoed_prompt_has_the_log_probabilities_of_transformers(client, tokenizer, plain_scores):
    ids = [*tokenizer.prefix, *tokenizer.encode(CONTEXT)]
    completion = client.completions.create(
        model="model", prompt=ids, echo=True, logprobs=3, max_tokens=1, temperature=0
    )
    logprobs = completion.choices[0].logprobs
    values, top_values = plain_scores(ids)
    assert logprobs.token_logprobs[0] is None and len(logprobs.token_logprobs) == len(ids) + 1
    assert logprobs.token_logprobs[1 : len(ids)] == pytest.approx(values, abs=1e-4)
    assert [max(top.values()) for top in logprobs.top_logprobs[1 : len(ids)]] == pytest.approx(top_values, abs=1e-4)
    assert "".join(logprobs.tokens) == completion.choices[0].text
    assert all(token in top for token, top in zip(logprobs.tokens[1:], logprobs.top_logprobs[1:], strict=True))
    assert [
        completion.choices[0].text[offset:][: len(token)]
        for offset, token in zip(logprobs.text_offset, logprobs.tokens, strict=True)
    ] == logprobs.tokens
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (len(ids), 1)


def test_a_prompt_can_be_scored_without_a_new_token(client, tokenizer):
    ids = tokenizer.encode(CONTEXT)
    completion = client.completions.create(model="model", prompt=ids, echo=True, logprobs=0, max_tokens=0)
    assert len(completion.choices[0].logprobs.tokens) == len(ids)
    assert completion.choices[0].finish_reason == "length" and completion.choices[0].text == CONTEXT


def test_while_a_long_echoed_prompt_of_ids_is_decoded_others_are_answered(server, monkeypatch):
    tokenizer, ids = server.schedulers["model"].tokenizer, [5] * 500
    decode, statuses = tokenizer.decode, []

    def decode_after_another_answer(token_ids):
        if len(token_ids) == len(ids):
            statuses.append(server.client.get("/health", timeout=60).status_code)
        return decode(token_ids)

    monkeypatch.setattr(tokenizer, "decode", decode_after_another_answer)
    answer = server.post("/v1/completions", model="model", prompt=ids, echo=True, max_tokens=0)
    assert answer.json()["choices"][0]["text"] == decode(ids)
    assert statuses == [200]


def test_lm_evals_own_client_scores_as_transformers_does(harness_model, tokenizer, plain_scores):
    texts = [
        (CONTEXT, " He has seven."),
        (CONTEXT, " He has none"),
        ("Why?", " a"),
        (CONTEXT + " So", " it is so so so."),
    ]
    requests = [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(texts)]
    answers = harness_model.loglikelihood(requests, disable_tqdm=True)
    for (context, continuation), (log_probability, is_greedy) in zip(texts, answers, strict=True):
        context_ids, continuation_ids = harness_model._encode_pair(context, continuation)
        values, top_values = plain_scores([*context_ids, *continuation_ids])
        count = len(continuation_ids)
        assert log_probability == pytest.approx(sum(values[-count:]), abs=1e-4)
        assert is_greedy == (values[-count:] == top_values[-count:])


def test_a_continuation_counts_as_greedy_and_whole_also_where_the_text_ends_after_it(
    harness_model, client, tokenizer, plain_scores, greedy_ids
):
    """lm_eval drops the last token of the list, the generated one; it is there also where it ends the text."""
    ids = [*tokenizer.prefix, *tokenizer.encode(CONTEXT)]
    continuation_ids = greedy_ids(ids, 5)
    stop_id = greedy_ids([*ids, *continuation_ids], 1)[0]
    completion = client.completions.create(
        model="model",
        prompt=[*ids, *continuation_ids],
        echo=True,
        logprobs=1,
        max_tokens=1,
        temperature=0,
        extra_body={"stop_token_ids": [stop_id]},
    )
    choice = completion.choices[0]
    assert choice.finish_reason == "stop" and len(choice.logprobs.tokens) == len(ids) + len(continuation_ids) + 1
    outputs = completion.model_dump()
    (answer,) = harness_model.parse_logprobs(outputs, ctxlens=[len(ids)])
    values, _ = plain_scores([*ids, *continuation_ids])
    assert answer == (pytest.approx(sum(values[-len(continuation_ids) :]), abs=1e-4), True)


def test_lm_evals_own_client_generates_what_transformers_generates(harness_model, tokenizer, greedy_ids):
    request = Instance("generate_until", {}, (CONTEXT, {"until": ["\n\n"], "max_gen_toks": 12}), 0)
    (text,) = harness_model.generate_until([request], disable_tqdm=True)
    ids = harness_model.tok_encode(CONTEXT)
    whole_text = tokenizer.decode([*ids, *greedy_ids(ids, 12)])
    assert text == whole_text.removeprefix(tokenizer.decode(ids)).split("\n\n")[0]


def test_texts_and_ids_one_and_many_are_the_same_prompts(client, tokenizer):
    ids = [tokenizer.encode(text) for text in ("Why?", CONTEXT)]

    def texts(prompt, **options):
        completion = client.completions.create(model="model", prompt=prompt, max_tokens=4, temperature=0, **options)
        return [choice.text for choice in completion.choices]

    with_bos = [[*tokenizer.prefix, *each] for each in ids]
    assert texts(["Why?", CONTEXT]) == texts(with_bos) == texts("Why?") + texts(with_bos[1])
    assert texts("Why?", extra_body={"add_special_tokens": False}) == texts(ids[0])


def test_a_stream_is_the_whole_answer_in_pieces(client):
    options = {
        "model": "model",
        "prompt": [CONTEXT, "Why?"],
        "max_tokens": 12,
        "seed": 3,
        "n": 2,
        "logprobs": 1,
        "echo": True,
    }
    whole = client.completions.create(**options)
    texts, tokens, reasons, usage = {}, {}, {}, None
    for event in client.completions.create(**options, stream=True, stream_options={"include_usage": True}):
        usage = event.usage or usage
        for choice in event.choices:
            texts[choice.index] = texts.get(choice.index, "") + choice.text
            tokens.setdefault(choice.index, []).extend(choice.logprobs.tokens)
            reasons[choice.index] = choice.finish_reason or reasons.get(choice.index)
    assert [texts[choice.index] for choice in whole.choices] == [choice.text for choice in whole.choices]
    assert [tokens[choice.index] for choice in whole.choices] == [choice.logprobs.tokens for choice in whole.choices]
    assert [reasons[choice.index] for choice in whole.choices] == [choice.finish_reason for choice in whole.choices]
    counts = usage.prompt_tokens, usage.completion_tokens
    assert counts == (whole.usage.prompt_tokens, whole.usage.completion_tokens)
    assert len({choice.text for choice in whole.choices}) == 4, "each answer has a seed of its own"


def test_a_seed_gives_its_answer_again_whatever_else_is_asked_for(client):
    def texts(seed, n):
        completion = client.completions.create(model="model", prompt="Why?", max_tokens=8, seed=seed, n=n)
        return [choice.text for choice in completion.choices]

    first, second, third = texts(5, 3)
    assert texts(5, 1) == [first] and texts(6, 2) == [second, third]


def test_an_answer_ends_before_a_stop_text(client):
    whole = client.completions.create(model="model", prompt=CONTEXT, max_tokens=12, temperature=0).choices[0]
    stop = whole.text[5:8]
    choice = client.completions.create(
        model="model", prompt=CONTEXT, max_tokens=12, temperature=0, stop=[stop, "never"], logprobs=0
    ).choices[0]
    assert choice.text == whole.text.split(stop)[0] and choice.finish_reason == "stop"
    assert "".join(choice.logprobs.tokens) == choice.text


def test_an_evaluation_over_the_server_gives_the_scores_of_one_in_this_process(command, server, tiny_model, mini):
    options = [
        "--model",
        tiny_model,
        "--benchmarks",
        mini["mini:benchmarks"],
        "--tasks",
        "arc_challenge,gsm8k",
        "--limit",
        3,
    ]
    options += ["--max-new-tokens", "gsm8k=12", "--dtype", "float32"]
    process = command("eval", *options, "--out", "here.json")
    assert process.returncode == 0, process.stderr
    base_url = ["--engine", "api", "--base-url", f"{server.url}/v1"]
    process = command("eval", *options[:-2], *base_url, "--out", "server.json")
    assert process.returncode == 0, process.stderr
    here, there = (_questions(command.folder / f"{name}.questions.jsonl") for name in ("here", "server"))
    assert "orca-bench serve 0." in (command.folder / "server.json").read_text(encoding="utf-8"), (
        "what answered is named"
    )
    assert here.keys() == there.keys() and len(here) == 6
    for key, question in here.items():
        assert there[key]["prediction"] == question["prediction"]
        for answer, other in zip(question["answers"], there[key]["answers"], strict=True):
            assert other == (answer if isinstance(answer, str) else pytest.approx(answer, abs=1e-4))


def _questions(path):
    questions = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {(question["task"], question["index"]): question for question in questions}
