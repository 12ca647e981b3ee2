"""Texts are normalised alike, whatever else stands in them."""

import pytest

from orca_bench.data.overlap.words import Vocabulary, normalize, number_words, words_of


@pytest.mark.parametrize(
    "text",
    [
        "seconds (s). What",
        "It weren't 1,000 t; it's\tx_2 -- s, t!",
        "a 's b 't c",
        "  s t  ",
        "Q: 3:2\n\nA: (T) or (S)?",
    ],
)
def test_a_character_that_is_not_ascii_changes_no_other_word(text):
    assert normalize(text + " \u2764").split() == normalize(text).split()
    assert words_of(text + " caf\u00e9") == [*words_of(text), "caf\u00e9"]


def test_words_have_the_numbers_of_the_vocabulary_and_texts_their_bounds():
    texts = ["The lamp, the oil", "", "OIL \u2764"]
    vocabulary, numbers, bounds = number_words(texts)
    assert [vocabulary.words[number] for number in numbers] == ["the", "lamp", "the", "oil", "oil"]
    assert bounds.tolist() == [0, 4, 4, 5]
    assert isinstance(vocabulary, Vocabulary)
    other_numbers, other_bounds = vocabulary.numbers_of(["oil of the lamp"])
    assert [number for number in other_numbers.tolist() if number >= 0] == [numbers[3], numbers[0], numbers[1]]
    assert other_numbers[1] == -1 and other_bounds.tolist() == [0, 4]
