"""What a server's headers say of waits and limits, in every form that servers write."""

import pytest

from orca_bench.data.build.rate_headers import RemainingRequests, duration_s, remaining_requests, retry_after_s


@pytest.mark.parametrize(
    ("header_text", "seconds"),
    [("6m0s", 360.0), ("20ms", 0.02), ("1h2m3.5s", 3723.5), ("7", 7.0), ("1d", 86400.0), ("0s", 0.0)]
    + [(text, None) for text in ("", "soon", "-3", "nan", "inf", "3 apples", "1s later")],
)
def test_durations(header_text, seconds):
    assert duration_s(header_text) == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "later"}, None),
        ({"retry-after": "-1"}, None),
    ],
)
def test_the_wait_that_a_refusal_names(headers, seconds):
    assert retry_after_s(headers) == seconds


def test_a_date_is_compared_with_the_servers_clock_and_not_with_this_ones():
    date = "Thu, 01 Jan 1970 00:00:10 GMT"
    for year in (1970, 2126):  # a clock that was set back, here or there, changes no wait
        headers = {
            "date": date.replace("1970", str(year)),
            "retry-after": date.replace("1970", str(year)).replace(":10", ":25"),
        }
        assert retry_after_s(headers) == 15.0
    assert retry_after_s({"date": date, "retry-after": "Wed, 31 Dec 1969 00:00:00 GMT"}) == 0.0
    assert retry_after_s({"retry-after": date}) == 0.0


def test_the_limit_that_is_nearer_counts():
    headers = {"x-ratelimit-remaining-requests": "50", "x-ratelimit-reset-requests": "1s"}
    assert remaining_requests(headers, 100.0) == RemainingRequests(50.0, 1.0)
    headers |= {"x-ratelimit-remaining-tokens": "1000", "x-ratelimit-reset-tokens": "6m0s"}
    assert remaining_requests(headers, 100.0) == RemainingRequests(10.0, 360.0)
    assert remaining_requests({"x-ratelimit-remaining-requests": "many"}, 1.0) is None
