"""System messages and samples by a row's texts: the paper's table, and which questions are multiple choice."""

from collections import Counter

import pytest

from orca_bench.data.instructions import Instruction
from orca_bench.data.row_choices import choose_system_id, is_multiple_choice, policy_system_ids


def instruction(text, input_text=""):
    return Instruction(text, input_text, "", "source", 1, "f:1")


@pytest.mark.parametrize(
    ("policy", "text", "system_ids"),
    [
        ("uniform", "Why?", tuple(range(2, 17))),
        ("cot", "Why?", (6, 11, 16)),
        ("niv2", "Why?", (1, 2, 5, 7, 9, 12, 13, 14, 15)),
        ("t0", "Why?", (1, 2, 3, 5, 7)),
        ("flan2021", "Why?", (3, 4, 7)),
        ("flan2021", "Which?\n\nOPTIONS:\n- yes\n- no", (3, 4, 7, 8, 10)),
        ("cot", "Which?\n\nOPTIONS:\n- yes\n- no", (6, 11, 16)),
    ],
)
def test_a_policy_has_the_messages_of_the_papers_table(policy, text, system_ids):
    assert tuple(policy_system_ids(policy, instruction(text))) == system_ids


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Is it so?\nOPTIONS:\n- yes\n- no", True),
        ("Pick one.\nOptions: yes, no", True),
        ("Pick one.\n(A) yes\n(B) no", True),
        ("Pick one.\nA. yes\nB. no", True),
        ("Pick one.\n 1) yes\n 2) no", True),
        ("Pick one.\n[A] yes\n[B] no", True),
        ("What are my options here?", False),
        ("A. Smith wrote it.", False),
        ("I. Newton\nwas born when?", False),
        ("Write a list:\n- one\n- two", False),
        ("", False),
    ],
)
def test_a_question_that_lists_its_choices_is_multiple_choice(text, expected):
    assert is_multiple_choice(instruction(text)) is expected
    assert is_multiple_choice(instruction("Pick one.", text)) is expected


def test_messages_are_chosen_uniformly_and_by_the_seed():
    rows = [instruction(f"question {number}") for number in range(3000)]
    ids = tuple(range(2, 17))
    counts = Counter(choose_system_id(row, ids, 0) for row in rows)
    # 200 of each are expected, with a standard deviation of 13.7: five of them are 68.
    assert set(counts) == set(ids) and all(132 < count < 268 for count in counts.values())
    assert [choose_system_id(row, ids, 0) for row in rows] != [choose_system_id(row, ids, 1) for row in rows]
