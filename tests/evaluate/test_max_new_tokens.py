"""The token limit of an answer: one for each protocol and task, part of the request, and counted where a text reached it."""

import json

import pytest

from orca_bench import tokenizers
from orca_bench.errors import UserError
from orca_bench.evaluate import (
    benchmark_rows,
    protocols,
    request_encoding,
    request_files,
    result_building,
    verification,
)
from orca_bench.evaluate.config_building import token_limits_by_task
from orca_bench.evaluate.engine import tree_engine
from orca_bench.evaluate.harness.plain_protocol import Plain
from orca_bench.evaluate.protocols import Answer, Document, Request
from orca_bench.evaluate.request_encoding import GenerationPrompt
from orca_bench.evaluate.scoring import question_of
from orca_bench.evaluate.tasks import SUITE
from orca_bench.evaluate.tasks.task import Score
from orca_bench.models.model_folder import ModelFolder
from orca_bench.question_limit import QuestionLimit
from orca_bench.results import writing
from orca_bench.results.protocol_description import ProtocolDescription
from orca_bench.results.summary import summarize_task

BY_NAME = {task.name: task for task in SUITE}


def test_each_protocol_and_task_has_its_token_limit():
    assert protocols.protocol_by_name("orca", "S").describe()["max_new_tokens"] == {"gsm8k": 512, "drop": 256}
    assert protocols.protocol_by_name("leaderboard", "").describe()["max_new_tokens"] == 256
    assert Plain().describe()["max_new_tokens"] == 256
    changed = protocols.protocol_by_name("leaderboard", "", {"drop": 64}).describe()
    assert changed["max_new_tokens"] == {"gsm8k": 256, "drop": 64}


def test_a_protocol_is_made_again_from_what_a_result_says():
    for protocol in (
        protocols.protocol_by_name("orca", "S", {"gsm8k": 64}),
        protocols.protocol_by_name("leaderboard", ""),
        Plain({"drop": 9}),
    ):
        described = json.loads(json.dumps(protocol.describe()))
        if protocol.name != "plain":
            assert (
                protocols.protocol_of_result(ProtocolDescription.model_validate(described)).describe()
                == protocol.describe()
            )
    first = {"name": "orca", "version": 1, "system": "S", "max_new_tokens": 256}
    assert dict(protocols.protocol_of_result(ProtocolDescription.model_validate(first)).max_new_tokens_by_task) == {
        "gsm8k": 256,
        "drop": 256,
    }


def test_the_token_limit_belongs_to_the_hash_of_the_requests_where_it_is_not_the_leaderboards(mini):
    task = BY_NAME["gsm8k"]
    rows = benchmark_rows.load_task_rows(task, mini["mini:benchmarks"])
    digests = [
        request_files.requests_sha256(protocols.protocol_by_name(name, "S", limits).documents(task, rows, 5))
        for name, limits in (
            ("leaderboard", {}),
            ("leaderboard", {"gsm8k": 64}),
            ("orca", {}),
            ("orca", {"gsm8k": 256}),
        )
    ]
    assert len(set(digests)) == 4
    document = Document("gsm8k", 0, 0, {}, (Request("context", stop_strings=("\n",), max_new_tokens=256),))
    assert request_files.requests_sha256([document]) == request_files.sha256_of_json([["context", None, ["\n"]]])


@pytest.mark.parametrize(
    "words", [["gsm8k"], ["gsm8k="], ["gsm8k=0"], ["gsm8k=-1"], ["gsm8k=1.5"], ["arc=9"], ["=9"], [""]]
)
def test_a_token_limit_that_is_none_is_refused(words):
    with pytest.raises(UserError) as refused:
        token_limits_by_task(words)
    assert refused.value.where == "--max-new-tokens" and "TASK=N" in refused.value.hint


def test_a_window_without_place_for_an_answer_is_refused_before_anything_is_asked(tiny_model):
    rule = request_encoding.encoding_of_protocol("orca", tokenizers.load_tokenizer(tiny_model), 512)
    with pytest.raises(UserError, match="512 new tokens do not fit a context window of 512") as refused:
        rule.check_max_new_tokens(512, where="GSM8K under protocol orca")
    assert "--max-new-tokens" in refused.value.hint and refused.value.where == "GSM8K under protocol orca"
    rule.check_max_new_tokens(511)


@pytest.mark.parametrize("name", ["orca", "leaderboard"])
def test_the_engine_says_whether_a_text_reached_its_token_limit(tiny_model, name):
    folder = ModelFolder(str(tiny_model))
    own, tokenizer = tree_engine.load_engine(folder), folder.tokenizer
    rule = request_encoding.encoding_of_protocol(name, tokenizer, 1024)
    start = tokenizer.encode("Where does the frog live?")
    ids = own.generate_ids([start], lambda number, ids: False, 12)[0]
    stop = tokenizer.decode(ids[:6])[-2:]
    starts = [GenerationPrompt(start, 12), GenerationPrompt(start, 12), GenerationPrompt(start, 3)]
    texts = own.generate(starts, [[], [stop], [stop + "never said"]], rule)
    assert [ran_out for _, _, ran_out in texts] == [True, False, True]


def questions(ran_out):
    score = Score(1.0, "1", "1", {})
    return [question_of(("gsm8k", n, n), score, [Answer("1", hit_token_limit=flag)]) for n, flag in enumerate(ran_out)]


def test_texts_that_ran_out_are_counted_and_warned_of():
    entry = summarize_task(BY_NAME["gsm8k"].facts, questions([True, False, True, None]))
    assert entry.ran_out == 2
    rows = benchmark_rows.BenchmarkRows([{}], [], {})
    warned = result_building.reader_warnings(protocols.protocol_by_name("orca", ""), BY_NAME["gsm8k"], entry, rows)
    assert any("2 of 4 answers had not ended after 512 tokens" in line for line in warned)
    assert summarize_task(BY_NAME["gsm8k"].facts, questions([None, None])).ran_out is None
    quiet = summarize_task(BY_NAME["gsm8k"].facts, questions([False]))
    assert quiet.ran_out == 0 and not any(
        "ended" in w for w in result_building.reader_warnings(Plain(), BY_NAME["gsm8k"], quiet, rows)
    )


def test_eval_and_score_take_token_limits_and_count_texts_that_ran_out(command, mini, tiny_model):
    words = [
        "--tasks",
        "gsm8k,drop",
        "--benchmarks",
        mini["mini:benchmarks"],
        "--limit",
        4,
        "--max-new-tokens",
        "gsm8k=3",
    ]
    words += ["--max-new-tokens", "drop=2"]
    process = command("eval", "--model", tiny_model, *words, "--out", "r.json")
    assert process.returncode == 0, process.stderr
    result = json.loads((command.folder / "r.json").read_text())
    assert result["protocol"]["max_new_tokens"] == {"gsm8k": 3, "drop": 2}
    lines = [json.loads(line) for line in (command.folder / "r.questions.jsonl").read_text().splitlines()]
    for name, limit in (("gsm8k", 3), ("drop", 2)):
        flags = [line["ran_out"] for line in lines if line["task"] == name]
        assert flags == [[True]] * 4 and result["tasks"][name]["ran_out"] == 4
        assert (
            f"4 of 4 answers had not ended after {limit} tokens, and are scored as they are"
            in result["tasks"][name]["warnings"]
        )
    assert command("verify", "r.json", "--benchmarks", mini["mini:benchmarks"]).returncode == 0

    assert command("requests", *words, "--out", "q.jsonl").returncode == 0
    request_lines = [json.loads(line) for line in (command.folder / "q.jsonl").read_text().splitlines()]
    assert [line["max_new_tokens"] for line in request_lines] == [3] * 4 + [2] * 4
    for line in request_lines:
        line |= {"answer": "The answer is 5.", "ran_out": line["index"] == 0}
    (command.folder / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in request_lines))
    options = ["--protocol", "orca", "--benchmarks", mini["mini:benchmarks"], "--limit", 4]
    line = command.refused("score", "a.jsonl", *options)
    assert "the max_new_tokens of gsm8k document 0 request 0 is not the one that this protocol makes" in line
    process = command(
        "score", "a.jsonl", *options, "--max-new-tokens", "gsm8k=3", "--max-new-tokens", "drop=2", "--format", "json"
    )
    assert process.returncode == 0, process.stderr
    scored = json.loads(process.stdout)
    assert scored["tasks"]["gsm8k"]["requests_sha256"] == result["tasks"]["gsm8k"]["requests_sha256"]
    assert [scored["tasks"][name]["ran_out"] for name in ("gsm8k", "drop")] == [1, 1]


def test_scores_of_an_earlier_version_are_said_to_be_no_longer_scored(mini, tmp_path):
    """A result of version 1 stays readable: its values and requests are checked, its scores are taken as they are."""
    task = BY_NAME["gsm8k"]
    rows = benchmark_rows.load_task_rows(task, mini["mini:benchmarks"])
    first = protocols.protocol_by_name("orca", "S", {"gsm8k": 256})
    result = result_building.start_result(
        benchmark_rows.read_suite(mini["mini:benchmarks"]), first, QuestionLimit(3), {"name": "m", "path": None}
    )
    result.protocol.version, result.order = 1, ["gsm8k"]
    documents = first.documents(task, rows, 3)
    score = Score(0.0, "18.00", "18", {"rule": "marked"})
    scored = [
        question_of((d.part_name, d.document_index, d.row_index), score, [Answer("#### 18.00")]) for d in documents
    ]
    result_building.add_task_result(result, task, rows, first, scored, request_files.requests_sha256(documents))
    path = tmp_path / "r.json"
    writing.write_result(path, result, scored)
    findings = {finding.check_name: finding for finding in verification.verify(path, mini["mini:benchmarks"])}
    scores = findings["GSM8K: scores"]
    assert scores.matches is None and "version 1 of orca, which is no longer scored here" in scores.detail
    assert findings["GSM8K: requests"].matches and findings["GSM8K: value"].matches
