"""A teacher's server that misbehaves, over HTTP: what is asked again, what ends the build, what is in the ledger."""

import asyncio
import random
from collections import Counter
from itertools import islice

import pytest
from teacher_builds import build, make_requests, teacher_settings, unknown_attempts
from teacher_server import REPLY_FAULTS, answer_text, count_tokens, running_teacher_server
from waiting import eventually

from orca_bench.data.build.ledger import open_ledger
from orca_bench.data.build.prices import PICODOLLARS, price_picodollars, worst_case_tokens
from orca_bench.data.build.teacher import AskProgress, ask
from orca_bench.data.build.teacher_client import check_key, key_note
from orca_bench.errors import UserError

KEY = "sk-a-key-that-is-secret"


def _faults(*faults_of_first_requests: str | None):
    """The faults of the first requests by number; all later ones are answered."""
    return lambda number, text: (
        faults_of_first_requests[number - 1] if number <= len(faults_of_first_requests) else None
    )


def _check_answers(ledger_path, requests, server):
    """Each request has its own answer, once; the ledger's tokens are the server's but for attempts of unknown outcome."""
    with open_ledger(ledger_path) as ledger:
        for request in requests:
            answer = ledger.answer_of(request.request_id)
            assert answer is not None and answer.outcome == "answered"
            assert answer.text == answer_text(request.messages)
            assert (answer.prompt_tokens, answer.completion_tokens) == count_tokens(request.messages)
        spendings = ledger.spending_by_source().values()
    unknown = Counter(request_id for request_id, _ in unknown_attempts(ledger_path))
    billed_unknown = [server.billed[request.messages[-1]["content"]] - 1 for request in requests]
    for request, billed_count in zip(requests, billed_unknown, strict=True):
        assert 0 <= billed_count <= unknown[request.request_id]
    lost_tokens = [count_tokens(request.messages) for request in requests]
    lost_prompt, lost_completion = (
        sum(count * tokens[part] for count, tokens in zip(billed_unknown, lost_tokens, strict=True)) for part in (0, 1)
    )
    assert sum(spending.prompt_tokens for spending in spendings) + lost_prompt == server.prompt_tokens
    assert sum(spending.completion_tokens for spending in spendings) + lost_completion == server.completion_tokens


def test_every_request_is_answered_once_and_never_asked_again(tmp_path):
    requests = list(make_requests(30))
    with running_teacher_server() as server:
        settings = teacher_settings(server.base_url)
        for _ in range(2):
            progress = AskProgress()
            assert not build(requests, tmp_path / "ledger.sqlite", settings, progress=progress)
            assert not progress.requests_by_outcome["failed"]
        assert progress.answered_before == 30 and not progress.answered
        assert sorted(server.received) == sorted(request.messages[-1]["content"] for request in requests)
        _check_answers(tmp_path / "ledger.sqlite", requests, server)
        assert server.bodies[0]["temperature"] == 0.7 and server.bodies[0]["max_tokens"] == 32
        assert progress.spent_dollars == pytest.approx(
            (server.prompt_tokens * 1.5 + server.completion_tokens * 2) / 1e6
        )


@pytest.mark.parametrize("fault", ["busy", "busy for 50 ms", "error", "bad gateway", "overloaded", *REPLY_FAULTS])
def test_a_request_that_met_a_fault_is_asked_again(tmp_path, fault):
    requests = list(make_requests(2))
    is_timed = fault in ("hang", "trickle")
    timeout = 1.0 if is_timed else 20.0
    with running_teacher_server(_faults(fault)) as server:
        build(requests, tmp_path / "ledger.sqlite", teacher_settings(server.base_url, timeout=timeout))
        assert (
            len(server.received) == 3 or is_timed and len(server.received) > 3
        )  # on a slow machine others time out too
        _check_answers(tmp_path / "ledger.sqlite", requests, server)


@pytest.mark.parametrize(
    ("fault", "outcome", "text"),
    [
        ("refusal", "refused", "I cannot help with that."),
        ("length", "truncated", None),
        ("filter", "filtered", ""),
        ("prompt filtered", "filtered", ""),
        ("wordy filter", "filtered", ""),
        ("finish SAFETY", "filtered", None),
        ("finish tool_calls", "unfinished", None),
        ("finish None", "unfinished", None),
        ("finish end_turn", "answered", None),
        ("empty", "empty", " \n"),
        ("in parts", "answered", None),
        ("thinking", "answered", None),
        ("thinking tags", "answered", None),
        ("thinking without opening", "answered", None),
        ("no usage", "answered", None),
        ("endless count", "answered", None),
        ("half surrogate", "answered", "half a pair: ?"),
    ],
)
def test_kinds_of_answers_are_told_apart_and_are_final(tmp_path, fault, outcome, text):
    requests = list(make_requests(1))
    with running_teacher_server(lambda number, text: fault) as server:
        settings = teacher_settings(server.base_url)
        for _ in range(2):
            build(requests, tmp_path / "ledger.sqlite", settings)
        assert len(server.received) == 1
    with open_ledger(tmp_path / "ledger.sqlite") as ledger:
        answer = ledger.answer_of(requests[0].request_id)
        spending = ledger.spending_by_source()["numbers"]
    assert answer.outcome == outcome and answer.text == (answer_text(requests[0].messages) if text is None else text)
    assert answer.reasoning == ("Let me think." if fault.startswith("thinking") else None)
    assert spending.requests_by_outcome == {outcome: 1} and spending.unmetered_answers == answer.is_unmetered
    if fault in ("no usage", "endless count"):  # its worst case counts
        worst_case = price_picodollars(worst_case_tokens(requests[0], settings), settings) / PICODOLLARS
        assert spending.unmetered_answers == answer.is_unmetered == 1
        assert answer.completion_tokens is None and answer.dollars == spending.dollars == worst_case


@pytest.mark.parametrize(
    ("fault", "where", "words"),
    [
        ("wrong key", "teacher", "TEACHER_KEY"),
        ("unknown model", "teacher.model", "no model 'teacher'"),
        ("unknown model 400", "teacher.model", "no model 'teacher'"),
        ("no credit", "teacher", "credit"),
        ("no access", "teacher", "account"),
        ("flagged account", "teacher", "account"),
        ("no funds", "teacher", "account"),
    ],
)
def test_a_refused_key_model_or_account_ends_the_build_at_the_first_request(tmp_path, monkeypatch, fault, where, words):
    monkeypatch.setenv("TEACHER_KEY", KEY)
    with running_teacher_server(lambda number, text: fault) as server:
        settings = teacher_settings(server.base_url, api_key_variable="TEACHER_KEY")
        with pytest.raises(UserError, match=words) as caught:
            build(make_requests(50), tmp_path / "ledger.sqlite", settings)
        assert caught.value.where == where and len(server.received) == 1
        assert server.authorizations == {KEY}
    assert KEY not in str(caught.value) and caught.value.__cause__ is None
    for path in tmp_path.iterdir():
        assert KEY.encode() not in path.read_bytes()


@pytest.mark.parametrize(("fault", "word"), [("wrong parameter", "temprature"), ("filter parameter", "moderation")])
def test_a_parameter_that_the_server_rejects_ends_the_build_early(tmp_path, fault, word):
    with running_teacher_server(lambda number, text: fault) as server:
        with pytest.raises(UserError, match=word) as caught:
            build(make_requests(200), tmp_path / "ledger.sqlite", teacher_settings(server.base_url))
        assert caught.value.where == "teacher.parameters" and len(server.received) == 3


def test_a_server_that_never_gives_an_answer_ends_the_build_after_six_attempts(tmp_path):
    with running_teacher_server(lambda number, text: "html") as server:
        with pytest.raises(UserError, match="answered nothing: a reply that is not JSON"):
            build(make_requests(200), tmp_path / "ledger.sqlite", teacher_settings(server.base_url, attempts=2))
        assert len(server.received) == 6


@pytest.mark.parametrize("fault", ["rejected", "too large"])
def test_requests_that_are_too_long_are_counted_and_end_no_build(tmp_path, fault):
    requests = list(make_requests(30))
    long_texts = {request.messages[-1]["content"] for request in requests[:20]}  # the first ones, and many in a row
    with running_teacher_server(lambda number, text: fault if text in long_texts else None) as server:
        for answered_count in (10, 0):
            progress = AskProgress()
            settings = teacher_settings(server.base_url)
            build(requests, tmp_path / "ledger.sqlite", settings, progress=progress)
            assert progress.requests_by_outcome["rejected"] == 20 and progress.answered == answered_count
            assert not progress.requests_by_outcome["failed"]
        assert not any(server.billed[text] for text in long_texts)
        server.fault_of = _faults()  # now they fit
        build(requests, tmp_path / "ledger.sqlite", settings)
        _check_answers(tmp_path / "ledger.sqlite", requests, server)


def test_a_few_requests_that_the_server_rejects_do_not_end_a_build_whose_ledger_has_answers(tmp_path):
    requests = list(make_requests(20))
    rejected_texts = {request.messages[-1]["content"] for request in requests[:5]}
    with running_teacher_server(lambda number, text: "wrong parameter" if text in rejected_texts else None) as server:
        build(requests[5:], tmp_path / "ledger.sqlite", teacher_settings(server.base_url))
        for _ in range(2):
            progress = AskProgress()
            build(requests, tmp_path / "ledger.sqlite", teacher_settings(server.base_url), progress=progress)
            assert progress.requests_by_outcome["failed"] == 5


def test_a_first_request_that_hangs_is_asked_again(tmp_path):
    with running_teacher_server(_faults("hang")) as server:
        settings = teacher_settings(server.base_url, timeout=1.0)
        build(make_requests(3), tmp_path / "ledger.sqlite", settings, patience_s=0.5)
        assert len(server.received) >= 4


@pytest.mark.parametrize("reason", ["insufficient_system_resource", "abort"])
def test_an_answer_that_the_server_broke_off_is_paid_and_asked_again(tmp_path, reason):
    requests = list(make_requests(1))
    with running_teacher_server(_faults(f"finish {reason}")) as server:
        build(requests, tmp_path / "ledger.sqlite", teacher_settings(server.base_url))
    with open_ledger(tmp_path / "ledger.sqlite") as ledger:
        assert ledger.answer_of(requests[0].request_id).outcome == "answered"
        assert ledger.spending_by_source()["numbers"].prompt_tokens == server.prompt_tokens == 2 * 8
    assert not unknown_attempts(tmp_path / "ledger.sqlite")


def test_a_request_is_given_up_after_the_recipes_attempts_without_a_record(tmp_path):
    requests = list(make_requests(10))
    text_of_one = requests[3].messages[-1]["content"]
    with running_teacher_server(lambda number, text: "error" if text == text_of_one else None) as server:
        progress = AskProgress()
        settings = teacher_settings(server.base_url, attempts=3)
        build(requests, tmp_path / "ledger.sqlite", settings, progress=progress)
        assert progress.requests_by_outcome["failed"] == 1 and server.received.count(text_of_one) == 3
    with open_ledger(tmp_path / "ledger.sqlite") as ledger:
        assert ledger.answer_of(requests[3].request_id).outcome == "failed"
        assert ledger.answer_of(requests[3].request_id).text == ""
    assert not unknown_attempts(tmp_path / "ledger.sqlite")


def test_refusals_for_the_rate_are_no_attempts_of_a_request(tmp_path):
    requests = list(make_requests(1))
    with running_teacher_server(_faults(*["busy for 50 ms"] * 4)) as server:
        build(requests, tmp_path / "ledger.sqlite", teacher_settings(server.base_url, attempts=1))
        _check_answers(tmp_path / "ledger.sqlite", requests, server)


def test_a_server_that_is_not_there_ends_the_build(tmp_path):
    with running_teacher_server() as server:
        pass
    with pytest.raises(UserError, match="is it running") as caught:
        build(make_requests(50), tmp_path / "ledger.sqlite", teacher_settings(server.base_url))
    assert caught.value.where == "teacher.base_url"


def test_a_server_that_is_busy_for_ever_ends_the_build(tmp_path):
    with running_teacher_server(lambda number, text: "overloaded" if number > 5 else None) as server:
        settings = teacher_settings(server.base_url, timeout=1.5)
        with pytest.raises(UserError, match="no answer for .* Overloaded"):
            build(make_requests(50), tmp_path / "ledger.sqlite", settings, patience_s=1.0)


def test_a_key_that_no_header_can_hold_is_refused_without_being_repeated(tmp_path, monkeypatch):
    monkeypatch.setenv("TEACHER_KEY", "sk-secret\nX-Header: 1")
    with pytest.raises(UserError, match="not a key") as caught:
        settings = teacher_settings("http://127.0.0.1:1/v1", api_key_variable="TEACHER_KEY")
        build(make_requests(1), tmp_path / "ledger.sqlite", settings)
    assert "sk-secret" not in str(caught.value)


def test_the_key_as_a_parameter_is_refused_and_the_note_on_it_has_no_secret(monkeypatch):
    monkeypatch.setenv("TEACHER_KEY", KEY)
    settings = teacher_settings(
        "http://127.0.0.1:1/v1", api_key_variable="TEACHER_KEY", parameters={"max_tokens": 5, "user": KEY}
    )
    with pytest.raises(UserError, match="the key, which would be kept with the records") as caught:
        check_key(settings)
    assert KEY not in str(caught.value) and caught.value.where == "teacher.parameters.user"
    assert key_note(settings) == "the key in $TEACHER_KEY is sent to 127.0.0.1"
    monkeypatch.delenv("TEACHER_KEY")
    assert key_note(settings) == "no key in $TEACHER_KEY: 127.0.0.1 is asked without one"


def test_nothing_is_sent_for_a_budget_of_zero(tmp_path):
    with running_teacher_server() as server:
        assert build(make_requests(5), tmp_path / "ledger.sqlite", teacher_settings(server.base_url), budget=0.0)
    assert not server.received


@pytest.mark.parametrize("fault", [None, "mixed"])
def test_the_budget_is_never_passed_by_what_the_server_bills(tmp_path, fault):
    requests = list(make_requests(300))
    rng = random.Random(5)
    kinds = [None, None, "cut", "error", "no usage"] if fault == "mixed" else [None]
    faults = [None, None, *(rng.choice(kinds) for _ in range(3000))]
    with running_teacher_server(lambda number, text: faults[number]) as server:
        settings = teacher_settings(server.base_url, attempts=2)
        worst_case = max(price_picodollars(worst_case_tokens(request, settings), settings) for request in requests)
        budget = 12 * worst_case / PICODOLLARS
        for _ in range(2):  # what an earlier build has spent counts
            assert build(requests, tmp_path / "ledger.sqlite", settings, budget=budget)
        billed_dollars = (server.prompt_tokens * 1.5 + server.completion_tokens * 2) / 1e6
        assert 0 < billed_dollars <= budget
        if fault is None:  # nearly all of it is used
            assert billed_dollars > budget - 2 * worst_case / PICODOLLARS


def test_a_server_that_counts_more_than_the_worst_case_ends_the_build(tmp_path):
    with running_teacher_server(lambda number, text: "dear") as server:
        settings = teacher_settings(server.base_url)
        with pytest.raises(UserError, match="counted 8 prompt and 1,000,0.. response tokens, where at most") as caught:
            build(make_requests(50), tmp_path / "ledger.sqlite", settings, budget=5.0)
    assert caught.value.where == "teacher.parameters" and len(server.received) == 1


def test_a_thousand_requests_with_mixed_failures_are_each_answered_exactly_once(tmp_path):
    requests = list(make_requests(1000))
    rng = random.Random(3)
    kinds = ["busy", "busy for 50 ms", "error", "overloaded", "bad gateway", "cut", "not json", "no choices", "null"]
    faults = [rng.choice(kinds) if rng.random() < 0.1 else None for _ in range(5000)]
    with running_teacher_server(lambda number, text: faults[number], delay_s=0.02) as server:
        progress = AskProgress()
        build(requests, tmp_path / "ledger.sqlite", teacher_settings(server.base_url), progress=progress)
        assert progress.answered == 1000
        _check_answers(tmp_path / "ledger.sqlite", requests, server)
        assert server.most_in_flight <= 64
        assert progress.rate_refusals + progress.failed_attempts == len(server.received) - 1000 > 50


def test_one_request_twice_is_sent_once(tmp_path):
    requests = [*make_requests(5), *make_requests(5)]
    with running_teacher_server() as server:
        build(requests, tmp_path / "ledger.sqlite", teacher_settings(server.base_url))
    assert len(server.received) == 5


def test_an_error_of_the_requests_comes_after_the_answers_to_those_before(tmp_path):
    def requests():
        yield from make_requests(200)
        raise UserError("not JSON", where="rows.jsonl:201")

    with running_teacher_server() as server:
        with pytest.raises(UserError, match="rows.jsonl:201"):
            build(requests(), tmp_path / "ledger.sqlite", teacher_settings(server.base_url))
        answered = list(islice(make_requests(200), 128))
    with open_ledger(tmp_path / "ledger.sqlite") as ledger:
        assert len(ledger.final_ids([request.request_id for request in answered])) == len(server.received)


def test_what_is_in_flight_at_an_interruption_is_listed_as_unknown(tmp_path):
    requests = list(make_requests(40))

    async def interrupt(server):
        with open_ledger(tmp_path / "ledger.sqlite") as ledger:
            task = asyncio.create_task(ask(requests, ledger, teacher_settings(server.base_url), 100.0))
            await asyncio.to_thread(eventually, lambda: server.in_flight == 8 or None)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with running_teacher_server(lambda number, text: "hang" if number > 7 else None) as server:
        asyncio.run(interrupt(server))
        unknown = unknown_attempts(tmp_path / "ledger.sqlite")
        assert len(unknown) == sum(server.billed.values()) - 7
        assert {reason for _, reason in unknown} == {"the build was interrupted"}
        server.fault_of = _faults()
        build(requests, tmp_path / "ledger.sqlite", teacher_settings(server.base_url))
        _check_answers(tmp_path / "ledger.sqlite", requests, server)
