"""Fields that no check computes again are named."""

from result_contents import result_content

from orca_bench.results.coverage import leaves, name_of, uncovered
from orca_bench.results.models import Result


def test_every_leaf_has_a_place_and_an_empty_list_has_none():
    assert list(leaves({"a": [1, {"b": 2}], "c": [], "d": {}})) == [("a", "0"), ("a", "1", "b"), ("d",)]
    assert name_of(("tasks", "gsm8k", "seconds")) == "tasks.*.seconds"
    assert name_of(("versions", "torch")) == "versions" and name_of(("model", "path", "x")) == "model.path"


def test_a_covered_place_covers_what_lies_below_it():
    result = Result.from_file_content(result_content(names=("gsm8k", "drop")))
    names = uncovered(result, {("tasks", "gsm8k"), ("averages",), ("model",)})
    assert "tasks.*.value" in names and not any(name.startswith(("averages", "model")) for name in names)
    names = uncovered(result, {("tasks",), ("averages",), ("model",)})
    assert not any(name.startswith("tasks") for name in names) and "limit" in names
