"""The gate's rules: what is refused, with the key."""

import pytest

from orca_bench.errors import UserError
from orca_bench.report.gate_rules import read_rules


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("levle: 0.1", "unknown key 'levle'; did you mean 'level'?"),
        ("level: 2", "level: 2 is no number from 0 to 1"),
        ("floors: {helaswag: 3}", "unknown task 'helaswag'; did you mean 'hellaswag'?"),
        ("- a", "rules are a mapping"),
        ("", "no rule in this file"),
        ("# level: 0.1", "no rule in this file"),
        ("{}", "no rule in this file"),
        ("tasks: []", "tasks are `all` or a list of some"),
        ("tasks:", "tasks are `all` or a list of some"),
        ("tasks: [hellaswag, gsm]", "unknown task 'gsm'"),
        ("floors:", "floors are points by task"),
        ("level: 0", "at a level of 0 no loss fails"),
        ("max_overlap: -1", "max_overlap: -1 is no number of questions"),
        ("max_overlap: true", "max_overlap: True is no number of questions"),
        ("max_overlap: few", "max_overlap: 'few' is no number of questions"),
        ("level: .nan", "is no number from 0 to 1"),
        ("a: [", "not YAML"),
    ],
)
def test_wrong_rules_are_refused_with_their_key(tmp_path, text, message):
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        read_rules(path)
    assert message in str(error.value)


def test_the_rules_name_tasks_as_eval_does(tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text("floors: {arc: 30, TruthfulQA: 40}\ntasks: [arc, MMLU, truthfulqa_mc2]")
    rules = read_rules(path)
    assert rules.floors == {"arc_challenge": 30, "truthful_qa": 40}
    assert rules.tasks == ("arc_challenge", "mmlu", "truthful_qa")
