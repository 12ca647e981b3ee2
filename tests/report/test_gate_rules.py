"""The gate's rules: what is refused, with the key."""

import pytest

from orca_bench.errors import UserError
from orca_bench.report.gate_rules import read_rules


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("levle: 0.1", "unknown key 'levle'; did you mean 'level'?"),
        ("level: 2", "level: 2 is no number from 0 to 1"),
        ("floors: {helaswag: 3}", "no task 'helaswag'; did you mean 'hellaswag'?"),
        ("- a", "rules are a mapping"),
        ("", "no rule in this file"),
        ("# level: 0.1", "no rule in this file"),
        ("{}", "no rule in this file"),
        ("tasks: []", "tasks are `all` or a list of some"),
        ("tasks:", "tasks are `all` or a list of some"),
        ("tasks: [hellaswag, gsm]", "no task 'gsm'"),
        ("floors:", "floors are points by task"),
        ("level: 0", "at a level of 0 no loss fails"),
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
