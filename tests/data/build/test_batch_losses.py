"""Answers of batches that the server has lost: what may have been paid is asked again only where the recipe says so."""

import pytest
from batch_builds import COUNT, batch_settings, build, check_answers, fault_once, serving
from teacher_builds import make_requests, unknown_attempts

from orca_bench.data.build.batch_ledger import open_batches
from orca_bench.data.build.ledger import open_ledger
from orca_bench.errors import UserError


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr("orca_bench.data.build.concurrency._FIRST_BACKOFF_S", 0.01)


@pytest.fixture
def ledger_path(tmp_path):
    return tmp_path / "ledger.sqlite"


@pytest.mark.parametrize(
    ("fault", "unknown_count"), [("no lines", 2), ("null output", 4), ("vanished", 4), ("status 0", 4)]
)
def test_answers_that_the_server_lost_are_asked_again_and_listed_as_unknown(ledger_path, fault, unknown_count):
    with serving(batch_fault_of=lambda number: fault if number == 1 else None) as server:
        build(ledger_path, batch_settings(server.base_url, ask_lost_again=True))
        assert server.billed.total() == COUNT + unknown_count
    assert len(unknown_attempts(ledger_path)) == unknown_count
    check_answers(ledger_path)


def test_a_batch_of_an_earlier_build_that_the_server_does_not_know_is_asked_again_on_demand_only(ledger_path):
    with serving() as server:
        settings = batch_settings(server.base_url, most_open=1)
        server.call_fault_of = lambda call, number: "no credit" if call == "retrieve" else None
        with pytest.raises(UserError):
            build(ledger_path, settings)
        server.call_fault_of = lambda call, number: None
        server.batches.clear()  # what another account sees
        with pytest.raises(UserError, match="does not know batch-1, which an earlier build created") as caught:
            build(ledger_path, settings)
        assert "ask_lost_again" in str(caught.value) and not unknown_attempts(ledger_path)
        build(ledger_path, batch_settings(server.base_url, most_open=1, ask_lost_again=True))
    assert len(unknown_attempts(ledger_path)) == 4
    check_answers(ledger_path)


@pytest.mark.parametrize("is_asked_again", [False, True])
def test_a_file_of_answers_that_the_server_does_not_have_is_asked_again_on_demand_only(ledger_path, is_asked_again):
    with serving(call_fault_of=fault_once("download", "not found")) as server:
        with pytest.raises(UserError, match=r"has no file file-\d, which an ended batch names"):
            build(ledger_path, batch_settings(server.base_url))
        assert not unknown_attempts(ledger_path)
        if is_asked_again:
            server.call_fault_of = fault_once("download", "not found", server.calls["download"] + 1)
        build(ledger_path, batch_settings(server.base_url, ask_lost_again=is_asked_again))
        assert server.billed.total() == COUNT + 4 * is_asked_again
    assert len(unknown_attempts(ledger_path)) == 4 * is_asked_again
    check_answers(ledger_path)


def test_a_batch_that_may_have_been_created_and_is_refused_now_is_asked_again_on_demand_only(ledger_path):
    faults = {("create", 1): "reply lost", ("list batches", 1): "wrong key"}
    with serving(call_fault_of=lambda *call: faults.get(call)) as server:
        with pytest.raises(UserError):
            build(ledger_path, batch_settings(server.base_url, most_open=1))
        server.batches.clear()
        server.contents.clear()
        with pytest.raises(UserError, match="ask_lost_again"):
            build(ledger_path, batch_settings(server.base_url, most_open=1))
        assert not unknown_attempts(ledger_path)
        build(ledger_path, batch_settings(server.base_url, most_open=1, ask_lost_again=True))
    assert len(unknown_attempts(ledger_path)) == 4
    check_answers(ledger_path)


def never_ending(number):
    """The second of three batches is in progress for ever."""
    return "never ends" if number == 2 else None


def check_overdue_batch(ledger_path, settings, server, message):
    """The build collects the other batches, names the one that never ends and keeps it; later it is collected."""
    with pytest.raises(UserError, match=message) as caught:
        build(ledger_path, settings)
    assert str(caught.value).startswith("teacher.batch: ") and "ask_lost_again" in str(caught.value)
    with open_ledger(ledger_path) as ledger:
        assert [batch.batch_id for batch in open_batches(ledger)] == ["batch-2"]
        assert sum(ledger.answer_of(request.request_id) is not None for request in make_requests(COUNT)) == COUNT - 4
    assert not unknown_attempts(ledger_path)
    server.batches["batch-2"]["fault"] = None
    build(ledger_path, settings)
    assert server.billed.total() == COUNT
    check_answers(ledger_path)


def test_a_batch_that_is_in_progress_long_after_its_end_ends_the_build_and_is_collected_later(ledger_path):
    with serving(batch_fault_of=never_ending, expires_in_s=-25 * 3600) as server:
        check_overdue_batch(
            ledger_path, batch_settings(server.base_url), server, "batch-2 is in_progress, and was to end by 20"
        )


def test_a_batch_without_a_time_of_its_end_is_overdue_after_as_long_a_wait(ledger_path, monkeypatch):
    monkeypatch.setattr("orca_bench.data.build.batch_expiry._MARGIN_S", 0.1)
    monkeypatch.setattr("orca_bench.data.build.batch_expiry._COMPLETION_WINDOW_S", 0.1)
    with serving(batch_fault_of=never_ending, expires_in_s=None) as server:
        check_overdue_batch(
            ledger_path, batch_settings(server.base_url), server, r"batch-2 is in_progress after \d+ hours"
        )


def test_a_batch_that_is_a_little_late_is_waited_for(ledger_path):
    with serving(batch_delay_s=0.2, expires_in_s=-23 * 3600) as server:
        build(ledger_path, batch_settings(server.base_url))
        assert server.billed.total() == COUNT and len(server.batches) == 3
    check_answers(ledger_path)


@pytest.mark.parametrize("open_status", ["finalizing", "cancelling"])
def test_a_batch_whose_files_the_server_is_about_to_give_is_waited_for(ledger_path, open_status):
    with serving(batch_delay_s=0.2, expires_in_s=-25 * 3600, open_status=open_status) as server:
        build(ledger_path, batch_settings(server.base_url, ask_lost_again=True))
        assert server.billed.total() == COUNT and len(server.batches) == 3
    check_answers(ledger_path)


def test_a_batch_that_says_when_it_ends_is_waited_for_until_then(ledger_path, monkeypatch):
    monkeypatch.setattr("orca_bench.data.build.batch_expiry._MARGIN_S", 0.01)
    monkeypatch.setattr("orca_bench.data.build.batch_expiry._COMPLETION_WINDOW_S", 0.01)
    with serving(batch_delay_s=0.3) as server:
        build(ledger_path, batch_settings(server.base_url))
        assert server.billed.total() == COUNT and len(server.batches) == 3
    check_answers(ledger_path)


def test_what_the_files_of_an_overdue_batch_have_is_not_asked_again(ledger_path):
    def half_of_the_second(number):
        return "half and never ends" if number == 2 else None

    with serving(batch_fault_of=half_of_the_second, expires_in_s=-25 * 3600) as server:
        build(ledger_path, batch_settings(server.base_url, ask_lost_again=True))
        assert server.billed.total() == COUNT + 2
    assert len(unknown_attempts(ledger_path)) == 2
    check_answers(ledger_path)


def test_the_requests_of_an_overdue_batch_are_asked_again_on_demand(ledger_path):
    with serving(batch_fault_of=never_ending, expires_in_s=-25 * 3600) as server:
        build(ledger_path, batch_settings(server.base_url, ask_lost_again=True))
        assert server.billed.total() == COUNT + 4
    assert len(unknown_attempts(ledger_path)) == 4
    check_answers(ledger_path)
