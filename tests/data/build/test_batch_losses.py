"""Answers of batches that the server has lost: what may have been paid is asked again only where the recipe says so."""

import pytest
from batch_builds import COUNT, batch_settings, build, check_answers, fault_once, serving
from teacher_builds import unknown_attempts

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
