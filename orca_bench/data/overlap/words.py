"""Texts in, numbers of their words out: without case, punctuation and line breaks, so that only the words themselves count.

A word is a run of letters and digits, normalised by NFKC and in lower case. An apostrophe is no part of it and does not end it,
so that "don't", "dont" and "don t" are one word; nor does the comma of "80,000". Its number is its place in the vocabulary of the
benchmarks; a word that no benchmark has is UNKNOWN_WORD. Its own module because the search compares numbers alone, and because
this is the part that sees every character: pyarrow splits and numbers the words of many texts at once, in C++.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow

UNKNOWN_WORD = -1

#: Bytes of ASCII text to those of its normal form: letters in lower case, digits, and spaces for all else.
_ASCII_TABLE = bytes(ord(chr(code).lower()) if chr(code).isalnum() else ord(" ") for code in range(128)) + bytes(128)
_NO_WORD_CHARACTERS = re.compile(r"[\W_]+")
_APOSTROPHES = re.compile("['\u2018\u2019\u02bc]")
_THOUSANDS_COMMA = re.compile(r",(?<=\d,)(?=\d{3})")
_MARKER = "\x01"  # at both ends of a text; in no normalised text
_MARKER_NUMBER = 0  # every vocabulary begins with the marker


def normalize(text: str) -> str:
    """The words of a text in lower case, with spaces between them."""
    text = _THOUSANDS_COMMA.sub("", text)
    if text.isascii():
        words = text.encode().translate(_ASCII_TABLE, b"'").decode()
    else:
        words = _NO_WORD_CHARACTERS.sub(" ", _APOSTROPHES.sub("", unicodedata.normalize("NFKC", text).lower()))
    return " ".join([*words.split(), ""]).replace(" s ", "s ").replace(" t ", "t ")


def words_of(text: str) -> list[str]:
    """The words of a text, normalised."""
    return normalize(text).split()


class Vocabulary:
    """The words of some texts, each with a number, in the order in which they first stand there; 0 is no word."""

    def __init__(self, known_words: pyarrow.Array) -> None:
        self._known_words = known_words
        self.words: list[str] = known_words.to_pylist()

    def __len__(self) -> int:
        return len(self.words)

    def numbers_of(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """(the word numbers of all texts, int32 [words]; where each text begins and the last one ends, int64 [texts + 1])."""
        from pyarrow import compute

        words = _split_words(texts)
        places = compute.index_in(words, value_set=self._known_words)  # null for an unknown word, 0 for the marker
        return _without_markers(places.fill_null(UNKNOWN_WORD).to_numpy())


def number_words(texts: Sequence[str]) -> tuple[Vocabulary, np.ndarray, np.ndarray]:
    """The vocabulary of some texts, and of these texts what `Vocabulary.numbers_of` gives: in one pass over them."""
    words = _split_words(texts).dictionary_encode()
    return Vocabulary(words.dictionary), *_without_markers(words.indices.to_numpy())


def _without_markers(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the numbers of words alone, where each text begins and the last one ends)."""
    markers = np.flatnonzero(numbers == _MARKER_NUMBER)
    return np.delete(numbers, markers), markers - np.arange(len(markers))


def _split_words(texts: Sequence[str]) -> pyarrow.Array:
    """The words of all texts, with a marker before, between and after them."""
    import pyarrow
    from pyarrow import compute

    joined_text = f" {_MARKER} ".join(["", *map(normalize, texts), ""]).strip()
    return compute.ascii_split_whitespace(pyarrow.array([joined_text], pyarrow.large_string())).values
