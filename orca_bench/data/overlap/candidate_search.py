"""Word numbers of records in, pairs of a record and a benchmark text out that may overlap: the part that must be fast.

A text is looked up by pairs of its content words that follow one another, whatever stands between them, and by its rarest words.
A record is a candidate for a text where the pairs that both have make up a share of the text's own. Its own module because it
looks at every word of every record, in numpy alone, and decides nothing: `alignment` does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orca_bench.data.overlap.benchmark_texts import CONTENT_WEIGHT, BenchmarkTexts, is_first_of_run, mix

#: A pair that more texts have is no sign of any one of them; the look-up would cost more than it finds.
_MOST_TEXTS_OF_KEY = 64
#: Words of at most so many texts are keys by themselves, as a text with one changed word has few pairs left; those of choices,
#: which stand in any order, are keys where pairs are.
_MOST_TEXTS_OF_RARE_WORD = 2
_MOST_TEXTS_OF_CHOICE_WORD = 64
#: What a candidate has at least: a share of the text's key weight, and a weight (two or three words that are not common); a
#: text that has less is a candidate with all of its keys.
_LEAST_SHARE = 0.25
_LEAST_WEIGHT = 12.0
_LEAST_WEIGHT_OF_ALL = 9.0
#: How much further from the middle than the length of a text its keys may lie, in words.
_MOST_FURTHER_WORDS = 12
_FILTER_BITS = 24


@dataclass(frozen=True)
class Candidates:
    """Pairs of a record and a text that may overlap, sorted by both.

    `records` and `texts` are their places, int64 [candidates]; `shares` the shares of the text's key weight that the record has,
    float64; `positions` the middle of these keys in the record, in words from its beginning, int64.
    """

    records: np.ndarray
    texts: np.ndarray
    shares: np.ndarray
    positions: np.ndarray


_NO_CANDIDATES = Candidates(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64))


class CandidateSearch:
    """The keys of all texts, sorted, each with the texts that have it."""

    def __init__(self, texts: BenchmarkTexts, is_searched: np.ndarray) -> None:
        self._word_weights: np.ndarray = np.append(
            texts.word_weights, np.float32(0)
        )  # the last one is that of unknown words
        self._text_lengths = texts.word_counts
        key_lists, text_lists, weight_lists = self._keys_of_texts(texts)
        is_searched_key = is_searched[text_lists]
        key_lists, text_lists = key_lists[is_searched_key], text_lists[is_searched_key]
        weight_lists = weight_lists[is_searched_key]
        order = np.lexsort((text_lists, key_lists))
        keys, text_places, weights = key_lists[order], text_lists[order], weight_lists[order]
        is_first_of_pair = is_first_of_run(keys, text_places)
        keys, text_places, weights = keys[is_first_of_pair], text_places[is_first_of_pair], weights[is_first_of_pair]
        self._text_weights = np.bincount(text_places, weights, len(texts.texts))
        starts = np.flatnonzero(is_first_of_run(keys))
        counts: np.ndarray = np.diff(np.append(starts, len(keys)))
        is_kept = counts <= _MOST_TEXTS_OF_KEY
        self._keys, self._starts, self._counts = keys[starts[is_kept]], starts[is_kept], counts[is_kept]
        self._texts_of_keys, self._weights_of_keys = text_places, weights
        self._filter: np.ndarray = np.zeros(1 << _FILTER_BITS, bool)
        self._filter[self._keys >> np.uint64(64 - _FILTER_BITS)] = True

    def _keys_of_texts(self, texts: BenchmarkTexts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(keys, places of their texts, weights), one entry for each key of each text; words of templates have no key."""
        numbers, place_weights, text_of_part = texts.words.numbers, texts.words.weights, texts.words.text_of_part
        part_of_word: np.ndarray = np.repeat(np.arange(len(text_of_part)), np.diff(texts.words.part_bounds))
        is_choice_of_part = np.array([text.role == "choices" for text in texts.texts], bool)[text_of_part]
        content = np.flatnonzero(self._word_weights[numbers] >= CONTENT_WEIGHT)
        left, right = content[:-1], content[1:]
        is_pair = (part_of_word[left] == part_of_word[right]) & ((place_weights[left] > 0) | (place_weights[right] > 0))
        left, right = left[is_pair], right[is_pair]
        most_texts = np.where(is_choice_of_part[part_of_word], _MOST_TEXTS_OF_CHOICE_WORD, _MOST_TEXTS_OF_RARE_WORD)
        is_rare = self._word_weights[numbers] >= np.log(len(texts.texts) / (most_texts + 0.5))
        rare = np.flatnonzero(is_rare & (place_weights > 0))
        return (
            np.concatenate([pair_keys(numbers[left], numbers[right]), pair_keys(numbers[rare], numbers[rare])]),
            text_of_part[np.concatenate([part_of_word[left], part_of_word[rare]])],
            np.concatenate([place_weights[left] + place_weights[right], place_weights[rare]]),
        )

    def find(self, numbers: np.ndarray, bounds: np.ndarray) -> Candidates:
        """The candidates among some records, given their word numbers, int32 [words], and where each begins, [records + 1]."""
        if not len(self._keys):
            return _NO_CANDIDATES
        record_of_word: np.ndarray = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
        content = np.flatnonzero(self._word_weights[numbers] >= CONTENT_WEIGHT)
        left, right = content[:-1], content[1:]
        is_pair = record_of_word[left] == record_of_word[right]
        left, right = left[is_pair], right[is_pair]
        keys = np.concatenate([pair_keys(numbers[left], numbers[right]), pair_keys(numbers[content], numbers[content])])
        positions = np.concatenate([left, content])
        is_possible = self._filter[keys >> np.uint64(64 - _FILTER_BITS)]
        keys, positions = keys[is_possible], positions[is_possible]
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        is_key = self._keys[places] == keys
        places, positions = places[is_key], positions[is_key]
        return self._share_by_pair(places, positions, record_of_word, bounds)

    def _share_by_pair(
        self, places: np.ndarray, positions: np.ndarray, record_of_word: np.ndarray, bounds: np.ndarray
    ) -> Candidates:
        """The candidates, from the places of the keys that the records have and the positions of these."""
        counts = self._counts[places]
        entries: np.ndarray = np.repeat(self._starts[places] - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
        entries = entries + np.arange(len(entries))
        texts, positions = self._texts_of_keys[entries], np.repeat(positions, counts)
        records = record_of_word[positions]
        # Each key counts once for a pair of a record and a text.
        pairs = records * len(self._text_weights) + texts
        order = np.lexsort((entries, pairs))
        pairs, entries, positions = pairs[order], entries[order], positions[order]
        is_first = is_first_of_run(pairs, entries)
        pairs, entries, positions = pairs[is_first], entries[is_first], positions[is_first]
        starts = np.flatnonzero(is_first_of_run(pairs))
        if not len(starts):
            return _NO_CANDIDATES
        texts = pairs[starts] % len(self._text_weights)
        ends: np.ndarray = np.append(starts[1:], len(pairs))
        # Of a text that stands in a record, the keys lie close together; chance has them anywhere.
        middles = self._middle_positions(pairs, positions, starts, ends)
        distances = np.abs(positions - np.repeat(middles, ends - starts))
        is_near = distances <= np.repeat(self._text_lengths[texts] + _MOST_FURTHER_WORDS, ends - starts)
        weights = np.add.reduceat(self._weights_of_keys[entries] * is_near, starts)
        shares = weights / self._text_weights[texts]
        is_candidate = (shares >= _LEAST_SHARE) & (
            weights >= np.clip(self._text_weights[texts], _LEAST_WEIGHT_OF_ALL, _LEAST_WEIGHT)
        )
        records = pairs[starts[is_candidate]] // len(self._text_weights)
        return Candidates(records, texts[is_candidate], shares[is_candidate], middles[is_candidate] - bounds[records])

    @staticmethod
    def _middle_positions(pairs: np.ndarray, positions: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """The median position of the keys of each pair."""
        sorted_positions = positions[np.lexsort((positions, pairs))]
        return sorted_positions[(starts + ends) // 2]


def pair_keys(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The key of two words by their numbers, uint64: a hash, whose highest bits are spread evenly."""
    return mix((left.astype(np.uint64) << np.uint64(32)) | right.astype(np.uint64))
