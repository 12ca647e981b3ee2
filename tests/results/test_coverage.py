"""Fields that no check computes again are named."""

from result_contents import result_content

from orca_bench.results.coverage import field_name, fields_not_recomputed, leaf_paths
from orca_bench.results.models import Result


def test_every_leaf_has_a_place_and_an_empty_list_has_none():
    assert list(leaf_paths({"a": [1, {"b": 2}], "c": [], "d": {}})) == [("a", "0"), ("a", "1", "b"), ("d",)]
    assert field_name(("tasks", "gsm8k", "seconds")) == "tasks.*.seconds"
    assert field_name(("versions", "torch")) == "versions" and field_name(("model", "path", "x")) == "model.path"


def test_a_covered_place_covers_what_lies_below_it():
    result = Result.from_file_content(result_content(names=("gsm8k", "drop")))
    names = fields_not_recomputed(result, {("tasks", "gsm8k"), ("averages",), ("model",)})
    assert "tasks.*.value" in names and not any(name.startswith(("averages", "model")) for name in names)
    names = fields_not_recomputed(result, {("tasks",), ("averages",), ("model",)})
    assert not any(name.startswith("tasks") for name in names) and "limit" in names
