"""Asking in batches, against a real HTTP server of files and batches that misbehaves."""

import asyncio
import contextlib
import json
import sqlite3
from collections import Counter

import pytest
from batch_builds import COUNT, batch_settings, build, check_answers, fault_once, serving
from teacher_builds import make_requests, unknown_attempts
from teacher_server import running_teacher_server

from orca_bench.data.build import batch_teacher
from orca_bench.data.build.batch_teacher import ask_in_batches
from orca_bench.data.build.ledger import open_ledger
from orca_bench.data.build.prices import PICODOLLARS
from orca_bench.data.build.teacher import AskProgress
from orca_bench.errors import UserError


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr("orca_bench.data.build.concurrency._FIRST_BACKOFF_S", 0.01)


@pytest.fixture
def ledger_path(tmp_path):
    return tmp_path / "ledger.sqlite"


def test_all_requests_are_answered_in_batches_of_the_recipes_size(ledger_path):
    progress, lines = AskProgress(), []
    with serving() as server:
        assert not build(ledger_path, batch_settings(server.base_url), progress=progress, report=lines.append)
        assert server.calls["create"] == 3 and server.calls["upload"] == 3
        assert server.billed.total() == COUNT and len(server.billed) == COUNT
        assert len(set(server.custom_ids)) == COUNT
        assert server.bodies[0]["temperature"] == 0.7 and server.bodies[0]["model"] == "teacher"
    check_answers(ledger_path)
    assert progress.answered == COUNT and progress.batches.collected == 3 and progress.batches.open == 0
    assert lines[0] == "batch-1: created, 4 requests" and "completed: 4 of 4 requests answered" in lines[3]


def test_the_price_is_that_of_a_batch_to_the_token(ledger_path):
    with serving() as server:
        build(ledger_path, batch_settings(server.base_url, price_factor=0.25))
        dollars = 0.25 * (1.5 * server.prompt_tokens + 2.0 * server.completion_tokens) / 1e6
    with open_ledger(ledger_path) as ledger:
        spending = ledger.spending_by_source()["numbers"]
    assert spending.dollars == pytest.approx(dollars, abs=1e-12) and spending.unknown_attempts == 0
    assert spending.prompt_tokens == server.prompt_tokens


def test_a_file_has_no_more_bytes_than_the_recipe_allows(ledger_path):
    with serving() as server:
        build(ledger_path, batch_settings(server.base_url, most_requests=100, most_megabytes=0.001))
        inputs = [server.contents[batch["input_file_id"]] for batch in server.batches.values()]
        assert len(inputs) > 1 and all(len(content) <= 1000 for content in inputs)
        with pytest.raises(UserError, match="teacher.batch.most_megabytes: numbers-11 alone has "):
            build(ledger_path, batch_settings(server.base_url, most_megabytes=0.0001), count=11)
    check_answers(ledger_path)


def test_the_worst_case_of_a_batch_is_reserved_and_the_budget_is_not_passed(ledger_path):
    with serving() as server:
        settings = batch_settings(server.base_url)
        assert build(ledger_path, settings, budget=0.0) and not server.calls
        assert build(ledger_path, settings, budget=0.00025)
        with open_ledger(ledger_path) as ledger:
            assert 0 < ledger.committed_picodollars <= 0.00025 * PICODOLLARS
        assert 0 < server.billed.total() < COUNT
        assert not build(ledger_path, settings)
        assert server.billed.total() == COUNT
    check_answers(ledger_path)


def test_no_more_batches_are_open_than_the_recipe_allows(ledger_path):
    most_open = []
    with serving() as server:
        progress = AskProgress()
        report = lambda line: most_open.append(progress.batches.open)  # noqa: E731
        build(ledger_path, batch_settings(server.base_url, most_open=1), progress=progress, report=report)
    assert max(most_open) == 1
    check_answers(ledger_path)


@pytest.mark.parametrize("fault", ["busy", "error", "reply lost", "not done", "no id", "bad gateway"])
@pytest.mark.parametrize("call", ["upload", "create", "retrieve", "download"])
def test_a_call_that_fails_once_is_made_again_and_creates_no_second_batch(ledger_path, call, fault):
    with serving(call_fault_of=fault_once(call, fault)) as server:
        build(ledger_path, batch_settings(server.base_url))
        assert server.calls["create"] == 3 + (call == "create" and fault not in ("reply lost", "no id"))
        assert len(server.batches) == 3 and len(server.files) == 6
        assert server.billed.total() == COUNT
    check_answers(ledger_path)


def test_a_file_that_was_cut_off_is_downloaded_again(ledger_path):
    with serving(call_fault_of=fault_once("download", "half")) as server:
        build(ledger_path, batch_settings(server.base_url))
        assert server.billed.total() == COUNT and server.calls["download"] == 4
    check_answers(ledger_path)


@pytest.mark.parametrize("fault", ["expired", "cancelled"])
def test_a_batch_that_ended_early_gives_what_it_has_and_the_rest_is_asked_again(ledger_path, fault):
    lines = []
    with serving(batch_fault_of=lambda number: fault if number == 1 else None) as server:
        build(ledger_path, batch_settings(server.base_url), report=lines.append)
        assert server.billed.total() == COUNT and len(server.batches) == 4
    assert any(f"{fault}: 2 of 4 requests answered, 2 to be asked again" in line for line in lines)
    check_answers(ledger_path)
    assert not unknown_attempts(ledger_path)


def test_lines_without_choices_are_no_answers(ledger_path):
    with serving(batch_fault_of=lambda number: "no choices" if number == 1 else None) as server:
        build(ledger_path, batch_settings(server.base_url))
    assert {reason for _, reason in unknown_attempts(ledger_path)} == {"a reply without choices"}
    check_answers(ledger_path)


@pytest.mark.parametrize(
    ("fault", "remark"),
    [
        ("repeated lines", "1 line with the custom_id of another line"),
        ("foreign lines", "2 lines with a custom_id that is not of this batch"),
    ],
)
def test_lines_of_other_custom_ids_swap_no_answers(ledger_path, fault, remark):
    lines = []
    with serving(batch_fault_of=lambda number: fault) as server:
        build(ledger_path, batch_settings(server.base_url), report=lines.append, count=8)
        assert server.billed.total() == 8
    assert any(remark in line for line in lines)
    check_answers(ledger_path, 8)


@pytest.mark.parametrize("fault", ["error", "busy", "overloaded"])
def test_requests_of_the_error_file_are_asked_again(ledger_path, fault):
    faulty_number = "the number 3."
    numbers = Counter()

    def fault_of(number, text):
        numbers[text] += 1
        return fault if faulty_number in text and numbers[text] < 3 else None

    with serving(fault_of=fault_of) as server:
        build(ledger_path, batch_settings(server.base_url))
        assert server.billed.total() == COUNT and len(server.batches) == 5
    check_answers(ledger_path)


def test_a_request_that_fails_again_and_again_is_given_up(ledger_path):
    progress = AskProgress()
    with serving(fault_of=lambda number, text: "error" if "number 3." in text else None) as server:
        build(ledger_path, batch_settings(server.base_url, teacher={"attempts": 2}), progress=progress)
        assert len([text for text in server.received if "number 3." in text]) == 2
    assert progress.requests_by_outcome == {"answered": COUNT - 1, "failed": 1}


def test_outcomes_are_told_apart_as_those_of_single_requests(ledger_path):
    faults = {"number 1.": "refusal", "number 2.": "length", "number 3.": "rejected", "number 4.": "prompt filtered"}
    progress = AskProgress()
    with serving(fault_of=lambda n, text: next((faults[end] for end in faults if text.endswith(end)), None)) as server:
        build(ledger_path, batch_settings(server.base_url), progress=progress)
    expected = {"answered": COUNT - 4, "refused": 1, "truncated": 1, "rejected": 1, "filtered": 1}
    assert progress.requests_by_outcome == expected


@pytest.mark.parametrize(
    ("call", "fault", "message"),
    [
        ("upload", "wrong key", "the server answered 401"),
        ("upload", "not found", r"teacher.batch: .*File Not Found.* leave teacher.batch out"),
        ("upload", "too large", r"Request entity too large; .*set teacher.batch.most_requests"),
        ("create", "no credit", "exceeded your current quota"),
        ("create", "not found", "leave teacher.batch out"),
        ("create", "file not found", r"No such File object.*set teacher.batch.most_requests"),
        ("create", "unknown model", "teacher.model: "),
    ],
)
def test_what_no_retry_can_help_stops_the_build_and_nothing_is_reserved(ledger_path, call, fault, message):
    with serving(call_fault_of=lambda this_call, number: fault if this_call == call else None) as server:
        with pytest.raises(UserError, match=message):
            build(ledger_path, batch_settings(server.base_url))
        assert server.calls[call] == 1 and not server.billed
        server.call_fault_of = lambda this_call, number: None
        build(ledger_path, batch_settings(server.base_url))
        assert server.billed.total() == COUNT
    check_answers(ledger_path)


def test_an_endpoint_without_a_batch_api_is_named(ledger_path):
    with running_teacher_server() as server, pytest.raises(UserError, match="the endpoint has no Batch API"):
        build(ledger_path, batch_settings(server.base_url))


def test_a_server_that_is_not_there_is_an_error(ledger_path):
    with pytest.raises(UserError, match="teacher.base_url: cannot reach http://127.0.0.1:9/v1"):
        build(ledger_path, batch_settings("http://127.0.0.1:9/v1"))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("failed", "teacher.batch: the batch failed: line 1: This line is not parseable"),
        ("unknown model", "teacher.model: the batch failed: .*'teacher' is not supported"),
        ("no room", "Enqueued token limit reached .*most_requests"),
    ],
)
def test_a_batch_that_fails_its_validation_says_why_and_costs_nothing(ledger_path, fault, message):
    with serving(batch_fault_of=lambda number: fault) as server:
        with pytest.raises(UserError, match=message):
            build(ledger_path, batch_settings(server.base_url, most_open=1))
        assert len(server.batches) == 1 and not server.billed
        server.batch_fault_of = lambda number: None
        build(ledger_path, batch_settings(server.base_url))
    check_answers(ledger_path)


def test_a_batch_without_room_waits_until_another_one_has_ended(ledger_path):
    with serving(batch_fault_of=lambda number: "no room" if number == 1 else None, batch_delay_s=0.1) as server:
        build(ledger_path, batch_settings(server.base_url))
        assert server.billed.total() == COUNT and len(server.batches) == 4
    check_answers(ledger_path)


@pytest.mark.parametrize("fault", ["wrong key", "unknown model", "wrong parameter"])
def test_a_fault_of_all_lines_stops_the_build_after_the_first_batch(ledger_path, fault):
    with serving(fault_of=lambda number, text: fault) as server:
        with pytest.raises(UserError, match="the server (answered|has answered nothing)"):
            build(ledger_path, batch_settings(server.base_url, most_open=1))
        assert len(server.batches) == 1


def test_a_teacher_that_bills_more_than_its_limit_stops_the_build(ledger_path):
    with serving(fault_of=lambda number, text: "dear") as server, pytest.raises(UserError, match="could not be kept"):
        build(ledger_path, batch_settings(server.base_url, most_open=1))


class Stop(Exception):
    """Ends a build as a kill would, but in this process."""


@pytest.mark.parametrize("step", ["_upload", "_create", "_poll", "_collect", "_end"])
@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
def test_a_build_that_was_stopped_at_a_step_adopts_its_batches(ledger_path, monkeypatch, step, is_after):
    original = getattr(batch_teacher._BatchBuild, step)

    async def stopped(self, *arguments, **options):
        if is_after:
            await original(self, *arguments, **options)
        raise Stop

    with serving() as server:
        settings = batch_settings(server.base_url, most_open=1)
        with monkeypatch.context() as patch:
            patch.setattr(batch_teacher._BatchBuild, step, stopped)
            with pytest.raises(Stop):
                build(ledger_path, settings)
        build(ledger_path, settings)
        assert len(server.batches) == 3 and server.billed.total() == COUNT
    check_answers(ledger_path)
    assert not unknown_attempts(ledger_path)


@pytest.mark.parametrize("call", ["upload", "create"])
def test_a_build_that_was_stopped_while_a_reply_was_under_way_finds_what_it_had_sent(ledger_path, call):
    with serving(call_fault_of=fault_once(call, "reply lost")) as server:
        settings = batch_settings(server.base_url, most_open=1)

        async def stop_after_first_call():
            with open_ledger(ledger_path) as ledger:
                asking = asyncio.create_task(ask_in_batches(list(make_requests(COUNT)), ledger, settings, 100.0))
                while not server.calls[call]:
                    await asyncio.sleep(0.001)
                asking.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await asking

        asyncio.run(stop_after_first_call())
        build(ledger_path, settings)
        assert len(server.batches) == 3 and server.billed.total() == COUNT
        assert len(server.files) == 6
    check_answers(ledger_path)


def test_a_batch_that_may_have_been_created_is_looked_for_by_the_next_build(ledger_path):
    faults = {("create", 1): "reply lost", ("list batches", 1): "wrong key"}
    with serving(call_fault_of=lambda *call: faults.get(call)) as server:
        with pytest.raises(UserError, match="the server answered 401"):
            build(ledger_path, batch_settings(server.base_url))
        assert len(server.batches) == 1
        build(ledger_path, batch_settings(server.base_url))
        assert len(server.batches) == 3 and server.billed.total() == COUNT
    check_answers(ledger_path)


def test_a_batch_of_another_file_is_not_adopted(ledger_path):
    with serving() as server:
        settings = batch_settings(server.base_url, most_open=1)
        with pytest.raises(UserError):
            server.call_fault_of = lambda call, number: "no credit" if call == "retrieve" else None
            build(ledger_path, settings)
        (batch,) = server.batches.values()
        batch["metadata"]["sha256"], batch["input_file_id"] = "0" * 64, "another file"
        with contextlib.closing(sqlite3.connect(ledger_path)) as database:
            database.execute("UPDATE batches SET state = 'creating', batch_id = NULL")
            database.commit()
        server.call_fault_of = lambda call, number: None
        build(ledger_path, settings)
        assert len(server.batches) == 4
    check_answers(ledger_path)


def test_a_batch_is_found_by_its_file_where_the_server_keeps_no_metadata(ledger_path):
    with serving(call_fault_of=fault_once("create", "reply lost")) as server:
        server.keeps_metadata = False
        build(ledger_path, batch_settings(server.base_url))
        assert len(server.batches) == 3 and server.billed.total() == COUNT
    check_answers(ledger_path)


def test_open_batches_at_another_address_are_not_given_up(ledger_path):
    with serving(batch_fault_of=lambda number: "never ends") as server:
        server.call_fault_of = lambda call, number: "no credit" if call == "retrieve" else None
        with pytest.raises(UserError):
            build(ledger_path, batch_settings(server.base_url))
        with pytest.raises(UserError, match=f"teacher.base_url: 3 batches of this build are open at {server.base_url}"):
            build(ledger_path, batch_settings("http://127.0.0.1:9/v1"))


def test_a_file_that_was_lost_before_it_was_sent_is_written_again(ledger_path, monkeypatch):
    async def stopped(self, *arguments):
        raise Stop

    with serving() as server:
        with monkeypatch.context() as patch:
            patch.setattr(batch_teacher._BatchBuild, "_upload", stopped)
            with pytest.raises(Stop):
                build(ledger_path, batch_settings(server.base_url))
        (path,) = ledger_path.with_name(".batches").iterdir()
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert [line["url"] for line in lines] == ["/v1/chat/completions"] * 4
        path.write_text("changed")
        build(ledger_path, batch_settings(server.base_url))
        assert server.billed.total() == COUNT
    check_answers(ledger_path)


def test_a_ledger_of_version_1_is_read(ledger_path):
    with open_ledger(ledger_path):
        pass
    with contextlib.closing(sqlite3.connect(ledger_path)) as database:
        database.execute("DROP TABLE batches")
        database.execute("DROP TABLE records_files")
        database.execute("PRAGMA user_version = 1")
        database.commit()
    with serving() as server:
        build(ledger_path, batch_settings(server.base_url))
    check_answers(ledger_path)
