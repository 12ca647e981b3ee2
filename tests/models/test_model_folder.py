"""What a model folder says of where it comes from; it may be anybody's."""

import json

import pytest

from orca_bench.models.model_folder import ModelFolder


@pytest.mark.parametrize(
    ("content", "origin"),
    [
        ({"run": "r", "step": 12}, {"run": "r", "step": 12}),
        ({"run": "r", "step": -1}, {"run": "r"}),
        ({"run": "r", "step": 10**13}, {"run": "r"}),
        ({"run": 5, "step": True}, {}),
        ([], {}),
    ],
)
def test_of_the_origin_of_a_model_only_what_a_run_writes_is_believed(tmp_path, content, origin):
    (tmp_path / "orca_bench.json").write_text(json.dumps(content))
    assert ModelFolder(str(tmp_path)).training_origin == origin
