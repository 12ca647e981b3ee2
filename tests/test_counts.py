"""Numbers of things in words."""

import pytest

from orca_bench.counts import counted, dollars_text, reporting


@pytest.mark.parametrize(("number", "text"), [(0, "0 steps"), (1, "1 step"), (2, "2 steps"), (12_345, "12,345 steps")])
def test_one_is_singular_and_thousands_have_commas(number, text):
    assert counted(number, "step") == text


def test_the_plural_of_batch_is_batches():
    assert [counted(number, "batch") for number in (0, 1, 2)] == ["0 batches", "1 batch", "2 batches"]


def test_small_amounts_of_money_have_digits_enough():
    assert [dollars_text(amount) for amount in (0, 0.00314, 0.5, 1, 1234.5)] == [
        "$0.00",
        "$0.0031",
        "$0.5000",
        "$1.00",
        "$1,234.50",
    ]


def test_every_thousandth_item_is_reported_when_it_is_done_with():
    events = []
    for item in reporting(range(1, 2002), events.append):
        if item % 1000 in (0, 1):
            events.append(-item)
    assert events == [-1, -1000, 1000, -1001, -2000, 2000, -2001]
