"""Numbers of things in words."""

import pytest

from orca_bench.counts import counted


@pytest.mark.parametrize(("number", "text"), [(0, "0 steps"), (1, "1 step"), (2, "2 steps"), (12_345, "12,345 steps")])
def test_one_is_singular_and_thousands_have_commas(number, text):
    assert counted(number, "step") == text
