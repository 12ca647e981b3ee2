"""The templates of the seven benchmarks in, records with invented content out: none of them is a benchmark question.

A template is what many rows of a task share: preambles, stems, sets of choices, the last sentence of a word problem, a passage
about a game. They stand in look_alikes.json, with words for their names in braces; a name that is there more than once has
another word each time. Its own module because it plants no real row.
"""

from __future__ import annotations

import itertools
import json
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

from planted_forms import Texts

_TEMPLATE_FILE = Path(__file__).with_suffix(".json")


def look_alikes(count: int, random: Random) -> list[Texts]:
    """So many records, of all templates in turn."""
    content = json.loads(_TEMPLATE_FILE.read_text(encoding="utf-8"))
    templates = itertools.islice(itertools.cycle(content["templates"]), count)
    return [
        _fill(template["instruction"], template["choices"], _Words(content["words"], random)) for template in templates
    ]


class _Words:
    """The words of one record: no word comes twice."""

    def __init__(self, words_by_name: Mapping[str, Sequence[str]], random: Random) -> None:
        self.random = random
        self._words_by_name = words_by_name
        self._used: set[str] = set()

    def next(self, name: str) -> str:
        """A word, or a number in digits, for a name."""
        if name in _NUMBER_RANGES:
            return str(self.random.randint(*_NUMBER_RANGES[name]))
        word = self.random.choice([word for word in self._words_by_name[name] if word not in self._used])
        self._used.add(word)
        return word


_NUMBER_RANGES = {"number": (12, 98), "digit": (0, 9), "year": (1510, 1890)}


def _fill(instruction: str, choices: Sequence[str], words: _Words) -> Texts:
    filled_instruction = _fill_text(instruction, words)
    filled_choices = [_fill_text(choice, words) for choice in choices]
    lines = [f"{letter}. {choice}" for letter, choice in zip(string.ascii_uppercase, filled_choices, strict=False)]
    response = words.random.choice(filled_choices) if filled_choices else str(words.random.randint(2, 400))
    return Texts("\n".join([filled_instruction, *lines]), "", response)


def _fill_text(template: str, words: _Words) -> str:
    """A template with words in place of its names."""
    text = ""
    for literal, name, _, _ in string.Formatter().parse(template):
        text += literal + (words.next(name) if name else "")
    return text
