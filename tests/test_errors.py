"""What the hints of errors say: the nearest names, and which there are."""

import pytest

from orca_bench.errors import join_names, spelling_hint


@pytest.mark.parametrize(
    ("word", "options", "hint"),
    [
        ("mini", {}, "did you mean 'minis'?"),
        ("mini", {"n": 2}, "did you mean 'minis' or 'mimi'?"),
        ("mini", {"prefix": "runs/"}, "did you mean 'runs/minis'?"),
        ("orca", {"n": 2}, None),
    ],
)
def test_the_nearest_names_are_named_once_each(word, options, hint):
    assert spelling_hint(word, ["mimi", "minis", "minis", "xyz"], **options) == hint


@pytest.mark.parametrize(
    ("names", "text"), [([], ""), (["a"], "a"), (["a", "b"], "a, b"), (["a", "b", "c", "d"], "a, b and 2 more")]
)
def test_the_names_beyond_the_first_are_counted(names, text):
    assert join_names(names, 2) == text
