"""How long an evaluation takes: counted before it starts, told while it runs, ended by --max-time and gone on with."""

import json
import re

import pytest
from waiting import eventually

from orca_bench.cli.durations import duration_s
from orca_bench.cli.evaluation_display import EvaluationDisplay
from orca_bench.errors import UserError
from orca_bench.evaluate import benchmark_rows, protocols, request_encoding
from orca_bench.evaluate.answers import portions
from orca_bench.evaluate.answers.answer_cache import AnswerCache
from orca_bench.evaluate.answers.cache_files import has_unfinished_evaluation
from orca_bench.evaluate.answers.portions import SCORES, TEXTS
from orca_bench.evaluate.answers.workload import CompletionClock, Workload, duration_text
from orca_bench.evaluate.display import SilentDisplay
from orca_bench.evaluate.engine import prefix_tree, tree_engine
from orca_bench.evaluate.harness.language_model import HarnessModel
from orca_bench.evaluate.harness.protocol_tasks import instances_of, run_documents
from orca_bench.evaluate.request_encoding import GenerationPrompt, ScoredSequence
from orca_bench.evaluate.tasks import select
from orca_bench.models.model_folder import ModelFolder


def test_portions_give_back_the_requests_that_they_were_made_of():
    pairs = [
        ScoredSequence([1, 2, 3, 4], 2),
        ScoredSequence([1, 2, 3, 5, 6], 3),
        ScoredSequence([7, 8], 1),
        ScoredSequence([1, 2, 3, 4], 2),
        ScoredSequence([1, 2, 9], 1),
    ]
    call = portions.scoring_call(pairs, 0)
    numbers = [number for portion in call.portions for number in portion.request_indices]
    requests = [request for portion in call.portions for request in portion.requests()]
    assert sorted(numbers) == list(range(5))
    assert [[pairs[n].token_ids, pairs[n].scored_start] for n in numbers] == requests
    assert call.computed_token_count == prefix_tree.count_distinct_tokens(pairs) and call.fed_token_count == sum(
        len(pair.token_ids) - 1 for pair in pairs
    )
    starts = [GenerationPrompt([1, 2, 3], 5, 1), GenerationPrompt([1, 2], 4, 0), GenerationPrompt([1, 2, 3], 5, 0)]
    call = portions.generation_call(starts, [["a"], ["b", "c"], []], 0)
    (portion,) = call.portions
    assert portion.computed_token_count == 3 + 3 * 5 and call.discards_first_text_tokens
    rest = {0: [[1, 2, 3], 5, 1, ["a"]], 1: [[1, 2], 4, 0, ["b", "c"]], 2: [[1, 2, 3], 5, 0, []]}
    assert portion.requests() == [rest[number] for number in portion.request_indices]


def test_a_portion_has_another_key_for_whatever_differs_in_its_requests():
    def key(ids=(1, 2, 3), start=1, more=()):
        return portions.scoring_call([ScoredSequence(list(ids), start), *more], 0).portions[0].key()

    keys = [key(), key((1, 2, 4)), key((1, 2, 3, 3)), key(start=2), key(more=[ScoredSequence([1, 2, 3], 1)])]
    prompts = [
        (GenerationPrompt([1, 2, 3], 1), []),
        (GenerationPrompt([1, 2, 3], 2), []),
        (GenerationPrompt([1, 2, 3], 1, 1), []),
        (GenerationPrompt([1, 2, 3], 1), ["a"]),
    ]
    keys += [portions.generation_call([prompt], [stops], 0).portions[0].key() for prompt, stops in prompts]
    assert len(set(keys)) == len(keys) and key() == key()


@pytest.mark.parametrize("name", ["hellaswag", "drop"])
def test_what_is_counted_ahead_is_what_the_harness_then_asks(tiny_model, mini, tmp_path, name):
    folder = ModelFolder(str(tiny_model))
    engine, tokenizer = tree_engine.load_engine(folder), folder.tokenizer
    (task,) = select(name)
    protocol = protocols.protocol_by_name("leaderboard", "")
    documents = protocol.documents(task, benchmark_rows.load_task_rows(task, mini["mini:benchmarks"]), 6)
    lm = HarnessModel(
        engine,
        request_encoding.encoding_of_protocol("leaderboard", tokenizer, 1024),
        AnswerCache(tmp_path / "a.sqlite", 0),
    )
    planned = []
    lm.answer_progress = type("Progress", (SilentDisplay,), {"plan": lambda self, call: planned.append(call)})()
    call = lm.prepare(instances_of(task, protocol, documents))
    assert lm.cached_tokens(call) == 0
    lm.begin(call)
    run_documents(lm, task, protocol, documents)
    assert planned == [call] and planned[0] is call  # not encoded twice
    assert lm.cached_tokens(call) == call.computed_token_count > 0


def test_the_end_is_told_from_the_time_that_each_kind_took():
    now = [100.0]
    clock = CompletionClock(Workload({SCORES: 1000, TEXTS: 300}, {SCORES: 200, TEXTS: 0}), lambda: now[0])
    assert clock.sentence() is None and clock.remaining_seconds() is None
    now[0] += 50  # loading
    clock.begin(SCORES, 1000)
    clock.skip(SCORES, 200)
    now[0] += 10
    clock.advance(SCORES, 400)
    assert clock.computing_seconds == 10 and clock.remaining_seconds() == pytest.approx(
        400 / 40 + 300 / 40
    )  # texts not yet timed
    now[0] += 5  # a step that takes long
    assert clock.remaining_seconds() == pytest.approx(12.5)
    now[0] += 95
    assert clock.remaining_seconds() == pytest.approx(25)  # work that takes longer than expected does not end "in 0 s"
    now[0] -= 90
    clock.advance(SCORES, 400)
    clock.begin(TEXTS, 300)
    now[0] += 60
    clock.advance(TEXTS, 100)
    assert clock.remaining_seconds() == pytest.approx(120)
    assert re.fullmatch(r"ends about \d\d:\d\d, in 2 min", clock.sentence())


def test_what_was_not_counted_or_kept_meanwhile_is_taken_in_when_it_comes():
    clock = CompletionClock(Workload(uncounted_protocols=["plain"]), lambda: 0.0)
    clock.begin(SCORES, 500, is_counted=False)
    clock.skip(SCORES, 100)
    assert clock.remaining_tokens_by_kind[SCORES] == 400
    clock = CompletionClock(Workload({SCORES: 500, TEXTS: 0}, {SCORES: 50, TEXTS: 0}), lambda: 0.0)
    clock.skip(SCORES, 150)  # another process has kept 100 more
    assert clock.remaining_tokens_by_kind[SCORES] == 350


def test_sentences_are_for_people():
    assert Workload().sentence() == "to compute: nothing"
    assert Workload(uncounted_protocols=["plain"]).sentence() == "to compute: plain, counted task by task"
    work = Workload({SCORES: 12_000, TEXTS: 900}, {SCORES: 2_000, TEXTS: 0}, ["plain"])
    assert work.sentence() == (
        "to compute: 10,000 tokens of log-likelihoods, at most 900 tokens of texts, 2,000 tokens were cached by an earlier run; "
        "plain, counted task by task"
    )
    assert [duration_text(s) for s in (5, 600, 7260, 200_000)] == ["5 s", "10 min", "2 h 1 min", "2 d 7 h"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90m", 5400),
        ("2h", 7200),
        ("1h30m", 5400),
        ("45", 45),
        ("1m30", 90),
        ("45s", 45),
        ("1d", 86400),
        ("1.5h", 5400),
        (" 2 H ", 7200),
    ],
)
def test_lengths_of_time(text, seconds):
    assert duration_s(text) == seconds and duration_s(None) is None


@pytest.mark.parametrize("text", ["", "0", "-5", "h", "2 weeks", "nan", "m90"])
def test_what_is_no_length_of_time_is_refused(text):
    with pytest.raises(UserError, match="--max-time: .* is not a length of time; give 90m"):
        duration_s(text)


def test_without_a_terminal_the_time_left_is_printed_again_and_again_also_in_a_long_step(capsys):
    (task,) = select("mmlu")
    call = portions.scoring_call([ScoredSequence(list(range(n, n + 50)), 40) for n in range(100)], 0)
    lines = []

    def wait_for(count, pattern):
        """Until so many lines fit a pattern."""

        def enough():
            lines.extend(capsys.readouterr().err.splitlines())
            return sum(re.search(pattern, line) is not None for line in lines) >= count

        eventually(enough)

    with EvaluationDisplay(line_interval_s=0.1, estimate_after_s=0.05) as display:
        display.count(task, "orca")
        wait_for(1, "^counting tokens: MMLU as orca asks it$")
        display.expect(Workload({SCORES: 2 * call.computed_token_count, TEXTS: 0}))
        display.begin(task, "orca")
        display.plan(call)
        wait_for(2, r"MMLU: 0 %, 4\.9k tokens left$")  # nothing was timed yet
        display.advance(call.computed_token_count // 2)
        wait_for(2, r"MMLU: 50 %, 2\.45k tokens left, .*; all tasks: ends about \d\d:\d\d, in \d+ s")
    assert f"to compute: {2 * call.computed_token_count:,} tokens of log-likelihoods" in lines


def test_out_of_time_it_ends_cleanly_and_the_same_command_goes_on(tiny_model, mini, command):
    eval_ = ["eval", "--model", tiny_model, "--benchmarks", mini["mini:benchmarks"], "--tasks", "hellaswag,truthful_qa"]
    whole = command(*eval_, "--out", "whole/r.json")
    assert whole.returncode == 0 and re.search(r"^to compute: [\d,]+ tokens of log-likelihoods$", whole.stderr, re.M)
    stopped = command(*eval_, "--out", "parts/r.json", "--max-time", "0.001")
    assert stopped.returncode == 130 and "Traceback" not in stopped.stderr
    assert "interrupted: stopped by --max-time before the first task of protocol orca was finished; " in stopped.stderr
    assert "the same command goes on from there" in stopped.stderr
    answers = command.folder / "parts" / "answers.sqlite"
    assert has_unfinished_evaluation(answers) and not has_unfinished_evaluation(command.folder / "whole" / answers.name)
    rest = command(*eval_, "--out", "parts/r.json", "--max-time", "1h")
    assert not has_unfinished_evaluation(answers)
    assert rest.returncode == 0 and re.search(r"[\d,]+ tokens were cached by an earlier run", rest.stderr)
    again = command(*eval_, "--out", "parts/r.json")
    assert again.returncode == 0 and re.search(r"^to compute: nothing, [\d,]+ tokens were cached", again.stderr, re.M)
    one, other = (json.loads((command.folder / name / "r.json").read_text()) for name in ("whole", "parts"))
    assert one["questions_sha256"] == other["questions_sha256"] and other["complete"]
    assert "is not a length of time" in command.refused(*eval_, "--max-time", "soon")
