"""A benchmark text and the words of a record in, the share of the text that stands there out: its words in order, with gaps.

Its own module because it decides what the fast search only supposes; it sees one pair at a time.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np

from orca_bench.data.overlap.benchmark_texts import BenchmarkText
from orca_bench.data.overlap.words import UNKNOWN_WORD

#: A text may stand in a stretch of a record that is so many times as long, and some words more: lines between, words put in.
_LONGEST_STRETCH = 1.5
_FURTHER_WORDS = 5
#: What each word of a stretch costs, in nats.
_COST_OF_LENGTH = 0.3
#: The words of a text are compared in their order where at least this share of their weight is there in any order.
_LEAST_SHARE_IN_ANY_ORDER = 0.45


@dataclass(frozen=True)
class Alignment:
    """How much of a text a stretch of a record has, in the text's order.

    `share` is that of the weight without template words, `plain_share` that of the weight of all words; `missing_words` counts
    those that are not there. `stretch` is where the words stand in the record, `is_whole` says that all of them stand there one
    after the other.
    """

    share: float
    plain_share: float
    missing_words: int
    stretch: slice
    is_whole: bool = False


NO_ALIGNMENT = Alignment(0.0, 0.0, 0, slice(0, 0))


def align(text: BenchmarkText, record_numbers: np.ndarray, region: slice) -> Alignment:
    """The alignment of a text of one part with the words of a record, somewhere in `region`.

    Choices repeat the words of their question: where the densest stretch lacks words, the next one may be the question.
    """
    first = _align_densest(text, record_numbers, region)
    if first is NO_ALIGNMENT or first.missing_words <= 1:
        return first
    other_numbers = record_numbers.copy()
    other_numbers[first.stretch] = UNKNOWN_WORD
    return max(first, _align_densest(text, other_numbers, region), key=_closeness)


def _closeness(alignment: Alignment) -> tuple[bool, float]:
    return alignment is not NO_ALIGNMENT and alignment.missing_words <= 1, alignment.share + alignment.plain_share


def _align_densest(text: BenchmarkText, record_numbers: np.ndarray, region: slice) -> Alignment:
    """The alignment with the stretch whose distinct words weigh most.

    A share is the weight of the longest common subsequence (LCS) with a stretch of the record that is little longer than the
    text, by Wagner and Fischer's recurrence (1974) with weights.
    """
    part, weights, plain_weights = text.parts[0], text.weights[0], text.plain_weights[0]
    plain_total = float(plain_weights.sum())
    first = _densest_stretch(text, record_numbers, region)
    if plain_total <= 0 or first is None:
        return NO_ALIGNMENT
    words = record_numbers[first : min(first + _longest_stretch(part), region.stop)]
    present_words = set(words.tolist())
    is_present = np.fromiter((number in present_words for number in part.tolist()), bool, len(part))
    common = part[is_present]
    plain_weight, end = _subsequence_weight(common, plain_weights[is_present], words)
    if plain_weight < _LEAST_SHARE_IN_ANY_ORDER * plain_total:
        return NO_ALIGNMENT
    _, backward_end = _subsequence_weight(common[::-1], plain_weights[is_present][::-1], words[:end][::-1])
    start = end - backward_end
    total = float(weights.sum())
    has_weight = is_present & (weights > 0)
    weight, _ = _subsequence_weight(part[has_weight], weights[has_weight], words[start:end])
    share = weight / total if total > 0 else plain_weight / plain_total
    common_words, _ = _subsequence_weight(common, np.ones(len(common)), words[start:end])
    missing_words = len(part) - round(common_words)
    return Alignment(
        min(1.0, share), min(1.0, plain_weight / plain_total), missing_words, slice(first + start, first + end)
    )


def _longest_stretch(part: np.ndarray) -> int:
    return int(len(part) * _LONGEST_STRETCH) + _FURTHER_WORDS


def may_stand_in(text: BenchmarkText, record_words: Set[int]) -> bool:
    """Whether a record has enough words of a text in any order, wherever they stand: most candidates end here."""
    weight = sum([weight for number, weight in text.weight_by_word.items() if number in record_words])
    return weight >= _LEAST_SHARE_IN_ANY_ORDER * text.distinct_weight


def _densest_stretch(text: BenchmarkText, record_numbers: np.ndarray, region: slice) -> int | None:
    """Where the stretch of a region begins whose distinct words weigh most for a text; None where no stretch has enough of it."""
    text_words, word_weights = text.distinct_words
    words = record_numbers[region]
    places = np.minimum(np.searchsorted(text_words, words), len(text_words) - 1)
    positions = np.flatnonzero(text_words[places] == words)
    places = places[positions]
    if not len(positions):
        return None
    by_word = np.lexsort((positions, places))
    earlier: np.ndarray = np.full(len(positions), -1)  # where the same word stands before
    is_same = places[by_word][1:] == places[by_word][:-1]
    earlier[by_word[1:][is_same]] = positions[by_word[:-1][is_same]]
    # A word counts for the stretches that begin after its last occurrence and reach it.
    changes: np.ndarray = np.zeros(len(words) + 1)
    first_starts = np.maximum(np.maximum(earlier + 1, positions - _longest_stretch(text.parts[0]) + 1), 0)
    np.add.at(changes, first_starts, word_weights[places])
    np.subtract.at(changes, positions + 1, word_weights[places])
    weight_by_start = np.cumsum(changes)
    start = int(np.argmax(weight_by_start))
    if weight_by_start[start] < _LEAST_SHARE_IN_ANY_ORDER * text.distinct_weight:
        return None
    return region.start + start


def _subsequence_weight(part: np.ndarray, weights: np.ndarray, words: np.ndarray) -> tuple[float, int]:
    """(the highest weight of a common subsequence of some words of a text and of a record, where it ends).

    Each word of the record before its end costs a little, so that a last word far away does not belong to it.
    """
    best = np.zeros(len(words) + 1)  # by the number of the record's words that count
    for number, weight in zip(part.tolist(), weights.tolist(), strict=True):
        with_word = np.where(words == number, best[:-1] + weight, 0.0)
        best[1:] = np.maximum.accumulate(np.maximum(best[1:], with_word))
    end = int(np.argmax(best - _COST_OF_LENGTH * np.arange(len(best))))
    return float(best[end]), end


def choices_share(text: BenchmarkText, record_words: bytes) -> float:
    """The share of the choices' weight that is in choices which stand whole in a part of a record.

    `record_words` are the numbers of its words as bytes, 4 a word.
    """
    total = stands = 0.0
    for part, weights in zip(text.parts, text.weights, strict=True):
        weight = max(float(weights.sum()), 1.0)  # a choice of template words alone counts a little
        total += weight
        if word_position(part, record_words) is not None:
            stands += weight
    return stands / total if total else 0.0


def word_position(part: np.ndarray, record_words: bytes) -> int | None:
    """Where words stand in a record one after the other, the first time; None where they do not. `record_words` as above."""
    part_words = part.astype(np.int32).tobytes()
    place = record_words.find(part_words)
    while place % 4:  # between two words; -1 is no multiple either
        if place < 0:
            return None
        place = record_words.find(part_words, place + 1)
    return place // 4


def longest_common_run(left: Sequence[str], right: Sequence[str]) -> list[str]:
    """The longest run of words that two texts have in common; the first of several."""
    match = SequenceMatcher(None, left, right, autojunk=False).find_longest_match()
    return list(left[match.a : match.a + match.size])
