"""Texts of records in, the benchmark rows that they contain out, each with its kind and the shares of its texts.

What counts as contained stands here alone: how much of a question, of its choices and of its passage a record must have.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from orca_bench.data.overlap import alignment
from orca_bench.data.overlap.alignment import Alignment
from orca_bench.data.overlap.benchmark_texts import BenchmarkText, TextRole, collect_texts
from orca_bench.data.overlap.candidate_search import CandidateSearch
from orca_bench.data.overlap.words import UNKNOWN_WORD, words_of
from orca_bench.results.data_report import BenchmarkQuestion, OverlapHit, OverlapKind

#: The weight of words that identify a question by themselves: four or five that few benchmark texts have. One that weighs less
#: needs its choices beside it, or must stand in the record word by word; then it needs less, but a few words.
_IDENTIFYING_WEIGHT = 30.0
_WEIGHT_OF_WHOLE_QUESTION = 18.0
_WORDS_OF_WHOLE_QUESTION = 4
_FEWEST_WORDS = 6
#: The share of a question that a record must have, without and with the words of templates. Where nearly all choices stand
#: beside it, less is enough; so is nearly the whole text of a question that consists of template words.
_QUESTION_SHARE = 0.8
_PLAIN_SHARE = 0.7
_SHARE_WITH_CHOICES = 0.55
_SHARE_WITH_SHORT_CHOICES = 0.75
_CHOICES_SHARE = 0.75
_PLAIN_SHARE_OF_TEMPLATE = 0.88
#: What such a question needs of its few other words, if they weigh anything.
_SHARE_BESIDE_TEMPLATE = 0.6
_WEIGHT_OF_TEMPLATE = 8.0
#: The stretch that has a question without its choices is at most so many times as long, and some words.
_DENSE_STRETCH = 1.2
_FURTHER_WORDS = 3
#: Choices of this weight, all of them, identify a question of which the words of a template are left.
_WEIGHT_OF_CHOICES = 60.0
#: "The universe began as" is no question without one of its choices, unless it has many words; less where it stands word by word.
_IDENTIFYING_WEIGHT_OF_BEGINNING = 45.0
_WEIGHT_OF_WHOLE_BEGINNING = 36.0
_WEIGHT_OF_ONE_CHOICE = 12.0
_PASSAGE_SHARE = 0.75
#: Two questions stand in the same place of a record where this share of the words of one is in the other's stretch.
_SAME_STRETCH = 0.75
#: A question that is alike in part.
_RELATIVE_SHARE = 0.6
_RELATIVE_WEIGHT = 40.0
#: Choices of questions that weigh less are looked up too: the question alone may be missed.
_WEIGHT_WITHOUT_CHOICES = 50.0
#: Choices that more rows share, such as "True, True", are no sign of any of them.
_MOST_ROWS_OF_CHOICES = 12
#: Choices stand beside a question where they are no further from it than their length and so many words.
_WORDS_BETWEEN = 30

#: About what `words_of` takes for a word, in the text as it is.
_PIECE_PATTERN = re.compile(r"\S+")
_WORDS_BEFORE_STRETCH, _WORDS_AFTER_STRETCH = 3, 10
_LONGEST_EXCERPT = 700  # characters of a text in a report


@dataclass(frozen=True)
class RecordTexts:
    """What a record says, the system message left out; `location` is its file and line, `sha256` the hash of these texts."""

    location: str
    sha256: str
    instruction: str
    input: str
    response: str

    @property
    def text(self) -> str:
        """All of it."""
        return "\n".join((self.instruction, self.input, self.response))


@dataclass(frozen=True)
class _Match:
    """A benchmark row in a record: the shares of its texts, and the stretch of the record that has its question."""

    row: int
    kind: OverlapKind
    question_share: float
    missing_words: int
    passage_share: float | None
    choices_share: float | None
    numbers_differ: bool
    stretch: slice


class _Record:
    """The word numbers of one record, int32 [words], and what is computed of them once."""

    def __init__(self, text: str, numbers: np.ndarray) -> None:
        self._text = text
        self.numbers = np.ascontiguousarray(numbers, np.int32)
        self.bytes = self.numbers.tobytes()
        self._alignments: dict[int, Alignment] = {}

    @cached_property
    def _distinct_words(self) -> frozenset[int]:
        return frozenset(self.numbers.tolist())

    @cached_property
    def words(self) -> list[str]:
        """Its words, normalised."""
        return words_of(self._text)

    @cached_property
    def _word_pairs(self) -> frozenset[tuple[str, str]]:
        return frozenset(itertools.pairwise(self.words))

    @cached_property
    def _word_ends(self) -> np.ndarray:
        """Where the piece of the text that has a word ends, in characters, int64 [words]; spaces stand between pieces."""
        ends = ((piece.end(), len(words_of(piece.group()))) for piece in _PIECE_PATTERN.finditer(self._text))
        return np.fromiter((end for end, count in ends for _ in range(count)), np.int64)

    def answer_share(self, answer: str) -> float | None:
        """The share of an answer's pairs of words that the record has; of an answer of one word, whether the record has it."""
        words = words_of(answer)
        if not words:
            return None
        if len(words) == 1:
            return float(words[0] in self.words)
        pairs = set(itertools.pairwise(words))
        return len(pairs & self._word_pairs) / len(pairs)

    def excerpt(self, stretch: slice) -> str:
        """The part of the text that has a stretch of its words, with some words around it."""
        first, last = stretch.start - _WORDS_BEFORE_STRETCH, stretch.stop + _WORDS_AFTER_STRETCH - 1
        ends = self._word_ends
        start = 0 if first <= 0 or not len(ends) else int(ends[min(first, len(ends)) - 1])
        end = len(self._text) if last >= len(ends) else int(ends[last])
        return _shorten(self._text[start:end].strip())

    def align(
        self, place: int, text: BenchmarkText, position: int, reach: int, passage: slice = slice(0, 0)
    ) -> Alignment:
        """The alignment of a question or a passage with the `reach` words around `position`; computed once for each text.

        The words of a question's `passage` are left out: they repeat those of the question.
        """
        if place not in self._alignments:
            start = alignment.word_position(text.parts[0], self.bytes)
            if start is not None:
                stretch = slice(start, start + len(text.parts[0]))
                self._alignments[place] = Alignment(1.0, 1.0, 0, stretch, is_whole=True)
            elif not alignment.may_stand_in(text, self._distinct_words):
                self._alignments[place] = alignment.NO_ALIGNMENT
            else:
                region = slice(max(0, position - reach), min(len(self.numbers), position + reach))
                numbers = self.numbers
                if passage.stop:
                    numbers = numbers.copy()
                    numbers[passage] = UNKNOWN_WORD
                self._alignments[place] = alignment.align(text, numbers, region)
        return self._alignments[place]

    def choices_share(self, choices: BenchmarkText, stretch: slice) -> float:
        """The share of some choices that stands near a stretch."""
        reach = choices.word_count + _WORDS_BETWEEN
        first, last = max(0, stretch.start - reach), stretch.stop + 2 * reach
        return alignment.choices_share(choices, self.bytes[4 * first : 4 * last])


class OverlapIndex:
    """The benchmark rows, prepared for the search; built once, and the same in every process."""

    def __init__(self, questions: Sequence[BenchmarkQuestion]) -> None:
        self.questions = list(questions)
        self._texts = collect_texts(self.questions)
        is_searched = np.array([self._is_searched(text) for text in self._texts.texts], bool)
        self._search = CandidateSearch(self._texts, is_searched)
        self._is_number = np.fromiter((word.isdecimal() for word in self._texts.vocabulary.words), bool)

    def _text(self, row: int, role: TextRole) -> BenchmarkText | None:
        place = self._texts.text_by_row[row].get(role)
        return None if place is None else self._texts.texts[place]

    def _is_searched(self, text: BenchmarkText) -> bool:
        """Whether a text is looked up by itself: choices of a question that may be missed; of rows with a passage, that alone."""
        if text.role == "choices":
            if len(text.rows) > _MOST_ROWS_OF_CHOICES:
                return False
            questions = (self._text(row, "question") for row in text.rows)
            return any(q is None or q.total_weight < _WEIGHT_WITHOUT_CHOICES for q in questions)
        return text.role == "passage" or all(self._text(row, "passage") is None for row in text.rows)

    def find(self, records: Sequence[RecordTexts]) -> list[OverlapHit]:
        """The hits of some records, in the order of `OverlapHit.sort_key`; a batch of some thousand records is best."""
        numbers, bounds = self._texts.vocabulary.numbers_of([record.text for record in records])
        candidates = self._search.find(numbers, bounds)
        hits = []
        triples = zip(*(a.tolist() for a in (candidates.records, candidates.texts, candidates.positions)), strict=True)
        for place, candidates_of_record in itertools.groupby(triples, key=lambda triple: triple[0]):
            record = _Record(records[place].text, numbers[bounds[place] : bounds[place + 1]])
            matches = self._matches(record, [(text, position) for _, text, position in candidates_of_record])
            hits += [self._hit(records[place], record, match) for match in matches]
        return sorted(hits, key=lambda hit: hit.sort_key)

    def _matches(self, record: _Record, candidates: list[tuple[int, int]]) -> list[_Match]:
        """The rows in a record, each once; no relatives in the place of a row that is evaluated."""
        matches: dict[int, _Match] = {}
        for place, position in candidates:
            candidate = self._texts.texts[place]
            for row in candidate.rows:
                if row not in matches and (match := self._match(record, row, candidate, position)) is not None:
                    matches[row] = match
        best_matches = self._without_lesser(list(matches.values()))
        test_matches = [match for match in best_matches if match.kind == "test"]
        return [
            match
            for match in best_matches
            if match.kind != "relative" or not any(self._are_in_one_place(match, other) for other in test_matches)
        ]

    def _are_in_one_place(self, match: _Match, other: _Match) -> bool:
        """Whether two rows of one task have most of their words in the same place."""
        is_of_same_task = self.questions[other.row].task == self.questions[match.row].task
        return is_of_same_task and _common_length(other.stretch, match.stretch) > _SAME_STRETCH * _length(match.stretch)

    def _without_lesser(self, matches: list[_Match]) -> list[_Match]:
        """Some matches, without those whose words another row of the task explains better: many rows differ in a word or two.

        An evaluated row is a relative then.
        """
        contained = [match for match in matches if match.kind != "relative"]
        best_matches = []
        for match in matches:
            if match.kind != "relative" and any(
                other.missing_words < match.missing_words and self._are_in_one_place(match, other)
                for other in contained
            ):
                if not self.questions[match.row].is_evaluated:
                    continue
                match = replace(match, kind="relative")
            best_matches.append(match)
        return best_matches

    def _match(self, record: _Record, row: int, candidate: BenchmarkText, position: int) -> _Match | None:
        """How a record has a row, one of whose texts is a candidate around `position`; None where it does not."""
        places = self._texts.text_by_row[row]
        passage, question, choices = (self._text(row, role) for role in ("passage", "question", "choices"))
        if question is None:
            return None
        passage_share, passage_stretch = None, slice(0, 0)
        if passage is not None:
            reach = 2 * passage.word_count + _WORDS_BETWEEN
            passage_alignment = record.align(places["passage"], passage, position, reach)
            passage_share, passage_stretch = passage_alignment.plain_share, passage_alignment.stretch
            if min(passage_share, passage_alignment.share) < _PASSAGE_SHARE:
                return None
        reach = 2 * max(question.word_count, candidate.word_count) + _WORDS_BETWEEN
        question_alignment = record.align(places["question"], question, position, reach, passage_stretch)
        if question_alignment.plain_share < _SHARE_WITH_CHOICES:
            return None
        choices_share = None if choices is None else record.choices_share(choices, question_alignment.stretch)
        counted_choices = None if choices is None or _is_part_of(choices, question) else choices
        is_beginning = counted_choices is not None and not self.questions[row].question.rstrip().endswith("?")
        is_contained = _is_contained(
            question, question_alignment, counted_choices, choices_share, passage_share, is_beginning
        )
        stretch = question_alignment.stretch
        numbers_differ = not question_alignment.is_whole and self._numbers_differ(row, question, record, stretch)
        kind: OverlapKind
        if is_contained and not numbers_differ:
            kind = "test" if self.questions[row].is_evaluated else "training"
        elif self.questions[row].is_evaluated and (is_contained or _is_relative(question, question_alignment)):
            kind = "relative"
        else:
            return None
        share, missing_words = question_alignment.share, question_alignment.missing_words
        return _Match(row, kind, share, missing_words, passage_share, choices_share, numbers_differ, stretch)

    def _numbers_differ(self, row: int, question: BenchmarkText, record: _Record, stretch: slice) -> bool:
        """Whether a question has numbers that its stretch of the record has not; "80,000" and "80000" are the same."""
        part = question.parts[0]
        if set(part[self._is_number[part]].tolist()) <= set(record.numbers[stretch].tolist()):
            return False
        return _digits(words_of(self.questions[row].question)) != _digits(record.words[stretch])

    def _hit(self, record_texts: RecordTexts, record: _Record, match: _Match) -> OverlapHit:
        question = self.questions[match.row]
        row_text = "\n".join((question.question, *question.choices))
        run = alignment.longest_common_run(words_of(row_text), record.words[match.stretch])
        return OverlapHit(
            task=question.task,
            split=question.split,
            row=question.row,
            row_sha256=question.row_sha256,
            kind=match.kind,
            question=round(match.question_share, 4),
            passage=_rounded(match.passage_share),
            choices=_rounded(match.choices_share),
            answer=_rounded(record.answer_share(question.answer)),
            numbers_differ=match.numbers_differ,
            record=record_texts.location,
            record_sha256=record_texts.sha256,
            longest_run=" ".join(run),
            row_text=_shorten(row_text),
            record_text=record.excerpt(match.stretch),
        )


def _is_part_of(choices: BenchmarkText, question: BenchmarkText) -> bool:
    """Whether choices are words of the question itself, as Winogrande's are: they are no further sign of it."""
    words = set(question.parts[0].tolist())
    return all(words.issuperset(part.tolist()) for part in choices.parts)


def _is_contained(
    question: BenchmarkText,
    question_alignment: Alignment,
    choices: BenchmarkText | None,
    choices_share: float | None,
    passage_share: float | None,
    is_beginning: bool,
) -> bool:
    """Whether a record has a question; `choices` are those that are no part of the question's own text.

    `is_beginning` says that the question is a sentence which its choices end.
    """
    share, plain_share = question_alignment.share, question_alignment.plain_share
    weight = question.total_weight * share
    choices_weight = 0.0 if choices is None else choices.total_weight * (choices_share or 0.0)
    if is_beginning and choices_weight < _WEIGHT_OF_ONE_CHOICE:
        is_long_whole = question_alignment.is_whole and weight >= _WEIGHT_OF_WHOLE_BEGINNING
        if weight < _IDENTIFYING_WEIGHT_OF_BEGINNING and not is_long_whole:
            return False
    if question_alignment.is_whole:
        has_words = question.word_count >= _WORDS_OF_WHOLE_QUESTION and weight >= _WEIGHT_OF_WHOLE_QUESTION
        has_choice = choices_weight > 0 and question.plain_weight + choices_weight >= _IDENTIFYING_WEIGHT
        if has_words or has_choice or passage_share is not None:
            return True
    missing_one = question_alignment.missing_words == 1
    if missing_one and question.word_count >= _WORDS_OF_WHOLE_QUESTION and passage_share is not None:
        return True
    if question.word_count >= _FEWEST_WORDS and plain_share >= _PLAIN_SHARE:
        is_identified = passage_share is not None or weight >= _IDENTIFYING_WEIGHT
        is_dense = _length(question_alignment.stretch) <= _DENSE_STRETCH * question.word_count + _FURTHER_WORDS
        if (share >= _QUESTION_SHARE or missing_one) and is_identified and is_dense:
            return True
        has_own_words = share >= _SHARE_BESIDE_TEMPLATE or question.total_weight < _WEIGHT_OF_TEMPLATE
        has_plain_words = plain_share >= _PLAIN_SHARE_OF_TEMPLATE and has_own_words
        if has_plain_words and question.plain_weight * plain_share >= _IDENTIFYING_WEIGHT and is_dense:
            return True
    if choices_share is None or choices_share < _CHOICES_SHARE:
        return False
    if choices_weight >= _WEIGHT_OF_CHOICES:
        return max(share, plain_share) >= _SHARE_WITH_CHOICES
    has_question = share >= (_SHARE_WITH_CHOICES if missing_one else _SHARE_WITH_SHORT_CHOICES)
    return has_question and weight + choices_weight >= _IDENTIFYING_WEIGHT


def _is_relative(question: BenchmarkText, question_alignment: Alignment) -> bool:
    share = min(question_alignment.share, question_alignment.plain_share)
    return share >= _RELATIVE_SHARE and question.total_weight * share >= _RELATIVE_WEIGHT


def _length(stretch: slice) -> int:
    return int(stretch.stop - stretch.start)


def _common_length(left: slice, right: slice) -> int:
    return max(0, min(left.stop, right.stop) - max(left.start, right.start))


def _digits(words: Sequence[str]) -> str:
    return "".join(character for word in words for character in word if character.isdigit())


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST_EXCERPT else text[: _LONGEST_EXCERPT - 1] + "…"
