"""Requests at one time against servers that have a limit, over HTTP: how much of it is used, and how many are refused."""

import asyncio
import time

import pytest
from teacher_builds import build, make_requests, teacher_settings
from teacher_server import running_teacher_server

from orca_bench.data.build.concurrency import ConcurrencyLimit, Turn


def test_the_limit_doubles_each_round_until_a_refusal_and_stays_below_it():
    limit = ConcurrencyLimit(64)
    for answers, expected in ((1, 2), (2, 4), (4, 8), (8, 16), (48, 64), (10, 64)):
        for _ in range(answers):
            limit.in_flight += 1
            limit.record_answer(Turn(1, 0), {})
        assert limit.limit == expected


async def _answers_and_refusals(true_limit: int, request_count: int) -> tuple[float, float]:
    """Shares of a server's true limit that is used and of requests that are refused, with one answer after another."""
    limit, turns = ConcurrencyLimit(64), []
    refused = used = steps = 0
    while steps < request_count:
        while limit.in_flight < int(limit.limit):
            turns.append(await limit.acquire())
            if limit.in_flight > true_limit:
                limit.record_refusal(turns.pop(), {})
                refused += 1
        steps, used = steps + 1, used + limit.in_flight
        limit.record_answer(turns.pop(0), {})
    return used / steps / true_limit, refused / (refused + steps)


@pytest.mark.parametrize("true_limit", [1, 2, 5, 20, 50])
def test_nearly_all_of_a_true_limit_is_used_and_hardly_any_request_refused(true_limit):
    used_share, refused_share = asyncio.run(_answers_and_refusals(true_limit, 4000))
    assert used_share >= 0.95 and refused_share <= 0.01


def test_refusals_that_come_at_any_number_in_flight_do_not_end_at_one_request_at_a_time():
    limit = ConcurrencyLimit(64)
    for n in range(5000):
        limit.in_flight = int(limit.limit)
        turn = Turn(n + 1, limit._round)
        limit.record_refusal(turn, {}) if n % 50 == 49 else limit.record_answer(turn, {})
    assert limit.limit > 8


def test_a_server_with_a_limit_of_requests_at_one_time(tmp_path):
    with running_teacher_server(limit=10, delay_s=0.05) as server:
        settings = teacher_settings(server.base_url)
        build(make_requests(600), tmp_path / "ledger.sqlite", settings)
        assert server.refused <= 60  # 20 as a rule, of the rounds that found the limit; hundreds where it is not kept


def test_a_server_with_a_window_of_requests_that_it_tells_in_headers(tmp_path):
    with running_teacher_server(window=(40, 2.0), delay_s=0.01) as server:
        build(make_requests(160), tmp_path / "ledger.sqlite", teacher_settings(server.base_url))
        assert server.refused <= 40  # 0 as a rule; some where this machine is busier than a window is long


@pytest.mark.parametrize("header", [{"Retry-After": "1"}, {"retry-after-ms": "1000"}])
def test_nothing_is_sent_before_the_time_that_a_refusal_names(tmp_path, header):
    times_s = []

    def fault_of(number, text):
        times_s.append(time.monotonic())
        return "busy" if number == 3 else None

    with running_teacher_server(fault_of, retry_headers=header) as server:
        build(make_requests(10), tmp_path / "ledger.sqlite", teacher_settings(server.base_url, most_in_flight=1))
    assert times_s[3] - times_s[2] >= 0.95
