"""DROP, 3-shot, f1. Hub: EleutherAI/drop. Dua et al. 2019, arXiv 1903.00161; metric as in the paper's own evaluator."""

import hashlib
import re
import string
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from orca_bench import suite
from orca_bench.evaluate.tasks.final_answer import text_after_answer_is
from orca_bench.evaluate.tasks.task import GenerationTask, Row, Score, TextRules

_ARTICLE_PATTERN = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION_CHARACTERS = frozenset(string.punctuation)
# What parts the spans of an answer: ", " as the examples join them, "; ", " and ". Not the comma of 1,000.
_SPAN_SEPARATOR = re.compile(r"[,;]\s+|,(?!\d)|(?<=\s)and\s+", re.IGNORECASE)
_LEADING_AND = re.compile(r"^(?:and\b\s*)+")
_DASH_PATTERN = re.compile("[\u2010-\u2015\u2212]")
_NUMBER_WITH_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")


class Drop(GenerationTask):
    """Questions about a passage, whose answer is a number, some spans of text, or a date."""

    facts = suite.DROP
    column_types = {"passage": str, "question": str, "answer": dict, "validated_answers": dict}
    leaderboard_text_rules = TextRules(
        stop_strings=(".",),  # b281b092, tasks/drop.py
        # In the words of results/reported/, so that a table says them once.
        reader_warning="scored on the text before the first full stop: 12.25 becomes 12; the leaderboard later withdrew DROP",
    )
    orca_text_rules = TextRules(
        stop_strings=("\n",),  # an answer is one line
        scoring_description="F1, the better of the text as one span and as a list; punctuation at the ends of words does not "
        "count",
    )

    def question(self, row: Row) -> str:
        """The passage and the question."""
        return f"Passage: {row['passage']}\nQuestion: {row['question']}\nAnswer:"

    def plain_question(self, row: Row) -> str:
        """The question without the passage."""
        return str(row["question"])

    def passage(self, row: Row) -> str:
        """The passage that several questions ask about."""
        return str(row["passage"])

    def few_shot_answer(self, row: Row) -> str:
        """The first gold answer, its spans joined by commas."""
        return " " + ", ".join(gold_answers(row)[0])

    def cluster(self, row: Row) -> str:
        """The passage, by the beginning of its SHA-256: several questions ask about one."""
        return hashlib.sha256(row["passage"].encode()).hexdigest()[:16]

    def check_evaluation_row(self, row: Row) -> None:
        """As `Task.check_example_row`; ValueError where no gold answer can be scored against."""
        super().check_evaluation_row(row)
        if not any(_is_scorable(gold) for gold in gold_answers(row)):
            raise ValueError("no number, span or date in any of its answers")

    def score_text(self, row: Row, text: str) -> Score:
        """The best F1 over the gold answers, by `answer_scores`; exact match stands beside it."""
        return _best_score(row, text, answer_scores)

    def harness_score(self, row: Row, text: str) -> Score:
        """The best F1 over the gold answers, the whole text taken for one span, by DROP's own normalisation."""
        return _best_score(row, text, exact_match_and_f1)


TASK = Drop()


def _best_score(
    row: Row, text: str, exact_match_and_f1_of: Callable[[str, Sequence[str]], tuple[float, float]]
) -> Score:
    all_gold_answers = gold_answers(row)
    scores = [exact_match_and_f1_of(text, gold_spans) for gold_spans in all_gold_answers if _is_scorable(gold_spans)]
    best_exact_match, best_f1 = (
        max((metric_scores[0] for metric_scores in scores), default=0.0),
        max((metric_scores[1] for metric_scores in scores), default=0.0),
    )
    return Score(best_f1, text, [list(gold_spans) for gold_spans in all_gold_answers], {"em": best_exact_match})


def _is_scorable(gold_spans: Sequence[str]) -> bool:
    """Whether a gold answer is scored against: an empty one is not."""
    return bool(gold_spans[0].strip())


def gold_answers(row: Row) -> list[tuple[str, ...]]:
    """The distinct gold answers, the main one first; each is a number, some spans, or a date."""
    validated_answers = row["validated_answers"]
    answer_fields = [row["answer"]] + [
        {"number": number, "date": date, "spans": spans}
        for number, date, spans in zip(
            validated_answers["number"], validated_answers["date"], validated_answers["spans"], strict=False
        )
    ]
    return list(dict.fromkeys(map(_answer_spans, answer_fields)))


def _answer_spans(answer: Mapping[str, Any]) -> tuple[str, ...]:
    if answer["number"] != "":
        return (str(answer["number"]),)
    if answer["spans"]:
        return tuple(answer["spans"])
    date = answer["date"]
    return (" ".join([date["day"], date["month"], date["year"]]).strip(),)


def answer_scores(text: str, gold_spans: Sequence[str]) -> tuple[float, float]:
    """Exact match (0 or 1) and F1 of a written text against one gold answer of one or more spans.

    A text does not say how many spans it is, so it is read twice, as one span and parted at ", ", "; " and " and " (the gold
    answer, joined as the examples join it, likewise), and the better F1 counts. Of a text that has "answer is" only what stands
    after it counts. DROP's own normalisation, but punctuation at the ends of words does not count: "12.25." is 12.25.
    """
    text = text_after_answer_is(text)
    single_span_scores = _score_aligned_spans(
        [_normalize_span_leniently(text)], [_normalize_span_leniently(span) for span in gold_spans]
    )
    multi_span_scores = _score_aligned_spans(_split_spans(text), _split_spans(", ".join(gold_spans)))
    return max(single_span_scores, multi_span_scores, key=lambda scores: scores[::-1])


def _split_spans(text: str) -> list[str]:
    spans = (_LEADING_AND.sub("", _normalize_span_leniently(span)) for span in _SPAN_SEPARATOR.split(text))
    return [span for span in spans if span]


def exact_match_and_f1(predicted_span: str, gold_spans: Sequence[str]) -> tuple[float, float]:
    """Exact match (0 or 1) and F1 of one predicted span against one gold answer of one or more, as DROP's own evaluator."""
    return _score_aligned_spans([_normalize_span(predicted_span)], [_normalize_span(span) for span in gold_spans])


def _score_aligned_spans(predicted_spans: Sequence[str], gold_spans: Sequence[str]) -> tuple[float, float]:
    """Exact match and F1 of normalised spans.

    F1 is the mean over the best one-to-one alignment of word bags, where unmatched spans count 0, rounded to two places.
    """
    if not predicted_spans or not gold_spans:
        return 0.0, 0.0
    if sorted(predicted_spans) == sorted(gold_spans):
        return 1.0, 1.0

    import numpy as np
    from scipy.optimize import linear_sum_assignment

    exact_match = float(set(predicted_spans) == set(gold_spans) and len(predicted_spans) == len(gold_spans))
    predicted_bags, gold_bags = (
        [set(span.split()) for span in predicted_spans],
        [set(span.split()) for span in gold_spans],
    )
    f1_table = np.array(
        [[_bag_f1(predicted_bag, gold_bag) for predicted_bag in predicted_bags] for gold_bag in gold_bags]
    )
    row_indices, column_indices = linear_sum_assignment(-f1_table)
    f1_per_bag = np.zeros(max(f1_table.shape))
    for row, column in zip(row_indices, column_indices, strict=True):
        f1_per_bag[row] = max(f1_per_bag[row], f1_table[row, column])
    return exact_match, float(round(np.mean(f1_per_bag), 2))


def _bag_f1(predicted_bag: set[str], gold_bag: set[str]) -> float:
    """F1 of two word bags; 0 where the gold one has numbers and the predicted one has none of them."""
    gold_numbers = {word for word in gold_bag if _is_number(word)}
    if gold_numbers and not any(word in gold_numbers for word in predicted_bag):
        return 0.0
    common_count = len(predicted_bag & gold_bag)
    precision = common_count / len(predicted_bag) if predicted_bag else 1.0
    recall = common_count / len(gold_bag) if gold_bag else 1.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _normalize_span(text: str) -> str:
    """Lower case, punctuation and articles out, numbers in one form, single spaces; hyphens part words."""
    return " ".join(_normalize_words(re.split(" |-", text))).strip()


def _normalize_span_leniently(text: str) -> str:
    """As `_normalize_span`, but punctuation at the ends of words is taken off first, and all dashes are hyphens."""
    tokens = (_strip_signs(token) for token in re.split(r"[\s-]", _DASH_PATTERN.sub("-", text)))
    return " ".join(_normalize_words(map(_number_or_word, tokens))).strip()


def _strip_signs(token: str) -> str:
    """A word without the signs at its ends; the point of .5 belongs to the number."""
    start, end = 0, len(token)
    while end > start and not token[end - 1].isalnum():
        end -= 1
    while start < end and not (token[start].isalnum() or token[start] == "." and token[start + 1].isdigit()):
        start += 1
    return token[start:end]


def _number_or_word(token: str) -> str:
    if _NUMBER_WITH_THOUSANDS.fullmatch(token):
        return token.replace(",", "")
    return token if _is_number(token) else "".join(c for c in token if not unicodedata.category(c).startswith("P"))


def _normalize_words(tokens: Iterable[str]) -> Iterable[str]:
    for word in map(str.lower, tokens):
        if not _is_number(word):
            word = "".join(character for character in word if character not in _PUNCTUATION_CHARACTERS)
        if _is_number(word):
            word = str(float(word))
        word = " ".join(_ARTICLE_PATTERN.sub(" ", word).split())
        if word:
            yield word


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
