"""What serve_load.py judges and what it refuses, without a server."""

import sys

import pytest
import serve_load
from serve_figures import memory_growth, seconds_sentence


def test_a_server_that_needs_more_and_more_memory_is_not_flat():
    leak = [1000 + 1 * sample for sample in range(180)]  # a MiB every ten seconds
    assert memory_growth(leak) > serve_load.MAX_MEMORY_GROWTH


@pytest.mark.parametrize(
    "sizes", [[1000.0], [1000.0, 1040.0, 1030.0, 1041.0], [1000.0, 1500.0, 1500.0, 1500.0], [0, 0]]
)
def test_memory_that_grows_at_first_and_then_stays_is_flat(sizes):
    assert memory_growth(sizes) <= serve_load.MAX_MEMORY_GROWTH


def test_no_answer_has_no_median():
    assert "No answer" in seconds_sentence([])
    assert "2.0 s (median), at most 9.0 s" in seconds_sentence([9.0, 1.0, 2.0])


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--clients", "x"),
        ("--clients", "4,,8"),
        ("--clients", "0"),
        ("--requests", "0"),
        ("--rounds", "-1"),
        ("--leavers", "-1"),
        ("--overload", "many"),
        ("--slow-seconds", "nan"),
        ("--minutes", "-1"),
        ("--max-tokens", "1.5"),
        ("--cache-tokens", "0"),
        ("--model", "nowhere"),
        ("--tokenizer", "nowhere"),
    ],
)
def test_a_value_that_an_option_cannot_have_is_refused_in_a_sentence(monkeypatch, capsys, option, value):
    monkeypatch.setattr(sys, "argv", ["serve_load.py", f"{option}={value}"])
    with pytest.raises(SystemExit, match="2"):
        serve_load.main()
    error = capsys.readouterr().err
    assert option in error and ("is not a number of" in error or "no such" in error)
