"""Responses that break off are known by listed rules; those that people write are not."""

import pytest

from orca_bench.data.record_checks.truncation import lacks_end_mark, truncation_rule

LONG = "The harbour was quiet in the morning and nobody had seen the ferry since the storm. " * 8

BROKEN = {
    "open code fence": ["Use this:\n```python\nprint(1)\n", "~~~\nx = 1"],
    "open sign": [
        "The sequencing of genomes has become easier and orders of magnitude faster.[",
        "The provinces are West-Flanders, East-Flanders, Antwerp, Hainaut, Namur,",
        "It returns the sum of all numbers in the list (",
    ],
    "half a word": [
        "Design a game in which the player guesses a number between 1-",
        "The commission has published nothing but its pre-",
    ],
    "unfinished sentence": [
        "Data is collected by literature reviews, interviews with experts, and",
        "The current state of the art is still largely experimental a",
        "Nobody in the whole village could find their way home because",
    ],
}
WHOLE = [
    "",
    "Yes",
    "Paris",
    "42",
    "The answer is 7.",
    "the, this, a, edit, here, the",  # a list of words in order of their length
    "Dear Professor [last name], my name is Ada and I write to you,",
    "Apple iPhone 11, Samsung Galaxy S20, a phone of somebody, Google Pixel 3a",
    "```python\nprint(1)\n```",
    "- one\n- two\n- the three of us",
    "The quick brown fox jumps over the lazy dog near the bank",  # without an end mark, but that is another finding
    "彼は学校に行きました。",
    "She sells 16 - 3 - 4 = <<16-3-4=9>>9 duck eggs a day.\n#### 18",
]


@pytest.mark.parametrize(("rule", "response"), [(rule, text) for rule, texts in BROKEN.items() for text in texts])
def test_a_response_that_breaks_off(rule, response):
    assert truncation_rule(response) == rule
    assert truncation_rule(response + "  \n") == rule


@pytest.mark.parametrize("response", WHOLE)
def test_a_response_that_ends(response):
    assert truncation_rule(response) is None
    assert not lacks_end_mark(response)


def test_a_long_response_without_an_end_mark():
    assert lacks_end_mark(LONG + "Then the fishermen came back from the other side of the bay")
    assert not lacks_end_mark(LONG.strip())
    assert not lacks_end_mark("It was late. Then the fishermen came back from the other side of the bay")  # short
    for ending in (
        "\n- a point of a list of things that the fishermen had brought",
        "\nV. Conclusion of the whole report about the fishermen of the bay",
        "Thank you all for coming to the market today my friends #fish",
        "Nobody knows where the ship went in that night of storms. - Ada Lovelace",
        "\nTwo words",
    ):
        assert not lacks_end_mark(LONG + ending), ending


def test_the_real_sets_hardly_break_off(shared):
    from orca_bench.data.instructions import read_instructions

    counts = {
        name: sum(
            truncation_rule(instruction.reference_answer) is not None
            for instruction in read_instructions(shared / folder / "train.jsonl.gz")
        )
        for name, folder in (("Alpaca", "instructions/alpaca"), ("GSM8K", "benchmarks/gsm8k"))
    }
    assert counts == {"Alpaca": 4, "GSM8K": 0}
