"""Benchmark rows in, their distinct texts out, each word with its weight: what a record is searched for.

A row has up to three texts: its question, its passage and the set of its choices. Rows share texts (DROP asks many questions
about one passage), so each distinct text stands here once. The weight of a word is the logarithm of how rare it is among the
texts; words of a template, such as "Which of the following", have none. Its own module because these weights, and nothing else,
say what counts as a sign of a benchmark question.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from orca_bench.data.overlap.words import Vocabulary, number_words
from orca_bench.results.data_report import BenchmarkQuestion

TextRole = Literal["question", "passage", "choices"]

#: A run of so many words that stands in at least so many distinct texts of a task is its template.
_TEMPLATE_WORDS = 4
_TEMPLATE_TEXTS = 12
#: Numbers are exchanged in word problems and stand everywhere: none weighs more than this for each of its digits.
_HIGHEST_WEIGHT_OF_DIGIT = 1.5
#: What a word weighs at least where there is one text, in nats, and how this falls with the logarithm of their number: to 0 at
#: 22,000, when the counts speak for themselves.
_WEIGHT_IN_ONE_TEXT, _WEIGHT_LOSS = 7.0, 0.7
_HIGHEST_FUNCTION_WORD_WEIGHT = 4.0
_FUNCTION_WORD_TEXT = """
a about after all also an and any are as at be because been before being between both but by can could did do does during each
either for from had has have he her him his how i if in into is it its just many may me might more most much must my no not of
on one only or other our out over s she should so some such t than that the their them then there these they this those to too
under up us very was we were what when where which while who whom whose why will with would you your
"""
_FUNCTION_WORDS = frozenset(_FUNCTION_WORD_TEXT.split())
#: Words of a lower weight, such as "the" and "which", are left out of the pairs of words that candidates are looked up by.
CONTENT_WEIGHT = 3.5


@dataclass(frozen=True, eq=False)
class TextWords:
    """The words of all texts, part after part: their numbers, int32 [words], and their weights, float32 [words].

    `plain_weights` are those of the words anywhere; in `weights`, words of a template have none. `part_bounds` says where each
    part begins and the last one ends, int64 [parts + 1], `text_of_part` the place of its text, int64 [parts].
    """

    numbers: np.ndarray
    weights: np.ndarray
    plain_weights: np.ndarray
    part_bounds: np.ndarray
    text_of_part: np.ndarray


@dataclass(frozen=True, eq=False)
class BenchmarkText:
    """One distinct text, which consists of parts (each choice is one): the range of its parts among those of all texts.

    `rows` are the places of the rows that have this text in `OverlapIndex.questions`.
    """

    role: TextRole
    rows: list[int]
    part_range: range
    words: TextWords

    @cached_property
    def _word_slice(self) -> slice:
        bounds = self.words.part_bounds
        return slice(int(bounds[self.part_range.start]), int(bounds[self.part_range.stop]))

    def _in_parts(self, values: np.ndarray) -> list[np.ndarray]:
        bounds = self.words.part_bounds[self.part_range.start : self.part_range.stop + 1].tolist()
        return [values[start:end] for start, end in itertools.pairwise(bounds)]

    @cached_property
    def parts(self) -> list[np.ndarray]:
        """The numbers of its words by part."""
        return self._in_parts(self.words.numbers)

    @cached_property
    def weights(self) -> list[np.ndarray]:
        """The weights of its words by part; words of a template have none."""
        return self._in_parts(self.words.weights)

    @cached_property
    def plain_weights(self) -> list[np.ndarray]:
        """The weights of its words by part, with those of templates."""
        return self._in_parts(self.words.plain_weights)

    @property
    def word_count(self) -> int:
        """The number of its words."""
        return self._word_slice.stop - self._word_slice.start

    @cached_property
    def total_weight(self) -> float:
        """The sum of its words' weights."""
        return float(self.words.weights[self._word_slice].sum(dtype=np.float64))

    @cached_property
    def plain_weight(self) -> float:
        """The sum of its words' weights, with those of a template."""
        return float(self.words.plain_weights[self._word_slice].sum(dtype=np.float64))

    @cached_property
    def distinct_words(self) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of its words, each once, sorted, and the weights of these, float64."""
        numbers, places = np.unique(self.words.numbers[self._word_slice], return_index=True)
        return numbers, self.words.plain_weights[self._word_slice][places].astype(np.float64)

    @cached_property
    def distinct_weight(self) -> float:
        """The sum of the weights of its words, each counted once."""
        return float(self.distinct_words[1].sum())

    @cached_property
    def weight_by_word(self) -> dict[int, float]:
        """The same as a dictionary."""
        numbers, weights = self.distinct_words
        return dict(zip(numbers.tolist(), weights.tolist(), strict=True))


@dataclass(frozen=True)
class BenchmarkTexts:
    """All distinct texts, the vocabulary of their words, and the weight of each word of it, float32 [words].

    `text_by_row` has the place of each row's text by role.
    """

    texts: list[BenchmarkText]
    words: TextWords
    vocabulary: Vocabulary
    word_weights: np.ndarray
    text_by_row: list[dict[TextRole, int]]

    @cached_property
    def word_counts(self) -> np.ndarray:
        """The number of words of each text, int64 [texts]."""
        part_counts = np.diff(self.words.part_bounds)
        return np.bincount(self.words.text_of_part, part_counts, len(self.texts)).astype(np.int64)


#: What a text is known by: its task, its role, and its parts' places among the distinct ones, sorted.
_TextKey = tuple[str, TextRole, tuple[int, ...]]


def collect_texts(questions: Sequence[BenchmarkQuestion]) -> BenchmarkTexts:
    """The distinct texts of some rows, in the order of their first row; rows without any text have none."""
    part_by_string: dict[str, int] = {}  # of each distinct text of a question, a passage or a choice, its place

    def parts_of(strings: Iterable[str]) -> list[int]:
        return [part_by_string.setdefault(string, len(part_by_string)) for string in strings]

    parts_by_role_and_row: list[dict[TextRole, list[int]]] = [
        {
            "question": parts_of([question.question]),
            "passage": parts_of([question.passage] if question.passage else []),
            "choices": parts_of(question.choices),
        }
        for question in questions
    ]
    vocabulary, numbers, bounds = number_words(list(part_by_string))
    normal_parts = _first_equal_parts(numbers, bounds)
    rows_by_text: dict[_TextKey, list[int]] = defaultdict(list)
    place_by_text: dict[_TextKey, int] = {}
    text_by_row: list[dict[TextRole, int]] = []
    for row, (question, parts_by_role) in enumerate(zip(questions, parts_by_role_and_row, strict=True)):
        text_by_row.append({})
        for role, parts in parts_by_role.items():
            text_key = (question.task, role, tuple(sorted(normal_parts[part] for part in parts)))
            if any(bounds[part] < bounds[part + 1] for part in parts):
                text_by_row[row][role] = place_by_text.setdefault(text_key, len(place_by_text))
                rows_by_text[text_key].append(row)
    tasks = np.unique([task for task, _, _ in rows_by_text], return_inverse=True)[1]
    words, word_weights = _weigh_words(vocabulary, numbers, bounds, [parts for _, _, parts in rows_by_text], tasks)
    first_parts = itertools.accumulate((len(parts) for _, _, parts in rows_by_text), initial=0)
    texts = [
        BenchmarkText(role, rows, range(first_part, first_part + len(parts)), words)
        for ((_, role, parts), rows), first_part in zip(rows_by_text.items(), first_parts, strict=False)
    ]
    return BenchmarkTexts(texts, words, vocabulary, word_weights, text_by_row)


def _first_equal_parts(numbers: np.ndarray, bounds: np.ndarray) -> list[int]:
    """Of each part the place of the first one that has the same words."""
    first_by_words: dict[bytes, int] = {}
    return [
        first_by_words.setdefault(numbers[start:end].tobytes(), part)
        for part, (start, end) in enumerate(itertools.pairwise(bounds.tolist()))
    ]


def _weigh_words(
    vocabulary: Vocabulary,
    numbers: np.ndarray,
    bounds: np.ndarray,
    parts_by_text: Sequence[tuple[int, ...]],
    task_of_text: np.ndarray,
) -> tuple[TextWords, np.ndarray]:
    """(the words of all texts with their weights, the weight of each word of the vocabulary)."""
    parts = np.fromiter((part for parts in parts_by_text for part in parts), np.int64)
    text_of_part: np.ndarray = np.repeat(np.arange(len(parts_by_text)), [len(parts) for parts in parts_by_text])
    lengths = bounds[parts + 1] - bounds[parts]
    part_bounds: np.ndarray = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    part_of_word: np.ndarray = np.repeat(np.arange(len(parts)), lengths)
    numbers = numbers[np.arange(part_bounds[-1]) + (bounds[parts] - part_bounds[:-1])[part_of_word]]
    text_of_word = text_of_part[part_of_word]
    word_weights = _word_weights(vocabulary, numbers, text_of_word, len(parts_by_text))
    plain_weights = word_weights[numbers]
    is_template = _template_places(numbers, part_of_word, text_of_word, task_of_text)
    weights = np.where(is_template, np.float32(0), plain_weights)
    return TextWords(numbers, weights, plain_weights, part_bounds, text_of_part), word_weights


def _word_weights(vocabulary: Vocabulary, numbers: np.ndarray, text_of_word: np.ndarray, text_count: int) -> np.ndarray:
    """ln(texts / texts that have the word), as in inverse document frequency (Spärck Jones 1972), float32 [words].

    Few texts do not show how rare a word is: then a function word weighs little, and any other word some nats.
    """
    distinct = distinct_keys(text_of_word.astype(np.int64) * len(vocabulary) + numbers)
    text_counts = np.bincount(distinct % len(vocabulary), minlength=len(vocabulary))
    weights = np.log(max(text_count, 1) / np.maximum(text_counts, 1))
    least_weight = max(0.0, _WEIGHT_IN_ONE_TEXT - _WEIGHT_LOSS * math.log(max(text_count, 1)))
    is_function_word = np.fromiter((word in _FUNCTION_WORDS for word in vocabulary.words), bool, len(vocabulary))
    weights = np.where(
        is_function_word, np.minimum(weights, _HIGHEST_FUNCTION_WORD_WEIGHT), np.maximum(weights, least_weight)
    )
    digit_counts = np.fromiter(
        (len(word) if word.isdecimal() else 0 for word in vocabulary.words), float, len(vocabulary)
    )
    number_weights = np.minimum(weights, _HIGHEST_WEIGHT_OF_DIGIT * digit_counts)
    return np.where(digit_counts > 0, number_weights, weights).astype(np.float32)


def _template_places(
    numbers: np.ndarray, part_of_word: np.ndarray, text_of_word: np.ndarray, task_of_text: np.ndarray
) -> np.ndarray:
    """Which words belong to a run of words that many texts of a task have, bool [words]."""
    is_template: np.ndarray = np.zeros(len(numbers), bool)
    if len(numbers) < _TEMPLATE_WORDS:
        return is_template
    last = len(numbers) - _TEMPLATE_WORDS + 1
    is_run = part_of_word[:last] == part_of_word[_TEMPLATE_WORDS - 1 :]
    keys: np.ndarray = np.zeros(last, np.uint64)
    for offset in range(_TEMPLATE_WORDS):
        keys = mix(keys ^ numbers[offset : last + offset].astype(np.uint64))
    keys = mix(keys ^ task_of_text[text_of_word[:last]].astype(np.uint64))
    starts = np.flatnonzero(is_run)
    _, run_of_start = np.unique(keys[starts], return_inverse=True)
    text_count = len(task_of_text)
    runs_and_texts = distinct_keys(run_of_start.astype(np.int64) * text_count + text_of_word[starts])
    text_counts = np.bincount(runs_and_texts // text_count, minlength=int(run_of_start.max(initial=-1)) + 1)
    template_starts = starts[text_counts[run_of_start] >= _TEMPLATE_TEXTS]
    for offset in range(_TEMPLATE_WORDS):
        is_template[template_starts + offset] = True
    return is_template


def distinct_keys(keys: np.ndarray) -> np.ndarray:
    """The distinct ones of some numbers, sorted: `numpy.unique` by sorting, which is several times faster than its hash table."""
    sorted_keys = np.sort(keys)
    return sorted_keys[is_first_of_run(sorted_keys)]


def is_first_of_run(*columns: np.ndarray) -> np.ndarray:
    """Whether an entry differs from the one before it in any of some columns of the same length, bool."""
    is_first: np.ndarray = np.ones(len(columns[0]), bool)
    is_first[1:] = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    return is_first


def mix(keys: np.ndarray) -> np.ndarray:
    """A hash of 64-bit numbers, uint64: the finalizer of SplitMix64 (Steele, Lea and Flood 2014)."""
    keys = keys + np.uint64(0x9E3779B97F4A7C15)
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))
