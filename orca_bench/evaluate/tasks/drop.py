"""DROP, 3-shot, f1. Hub: EleutherAI/drop. Dua et al. 2019, arXiv 1903.00161; metric as in the paper's own evaluator."""

import hashlib
import re
import string
from collections.abc import Iterable

from orca_bench import suite
from orca_bench.evaluate.tasks.base import GenerationTask, Score

_ARTICLE = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = frozenset(string.punctuation)


class Drop(GenerationTask):
    facts = suite.DROP
    columns = {"passage": str, "question": str, "answer": dict, "validated_answers": dict}

    def question(self, row: dict) -> str:
        return f"Passage: {row['passage']}\nQuestion: {row['question']}\nAnswer:"

    def target(self, row: dict) -> str:
        return " " + ", ".join(gold_answers(row)[0])

    def cluster(self, row: dict) -> str:
        """The passage, by the beginning of its SHA-256: several questions ask about one."""
        return hashlib.sha256(row["passage"].encode()).hexdigest()[:16]

    def score_text(self, row: dict, text: str) -> Score:
        """The best F1 over the gold answers; exact match stands beside it."""
        golds = gold_answers(row)
        scored = [exact_match_and_f1(text, gold) for gold in golds if gold[0].strip()]
        em, f1 = max(s[0] for s in scored) if scored else 0.0, max(s[1] for s in scored) if scored else 0.0
        return Score(f1, text, [list(gold) for gold in golds], {"em": em})


def gold_answers(row: dict) -> list[tuple[str, ...]]:
    """The distinct gold answers, the main one first; each is a number, some spans, or a date."""
    validated = row["validated_answers"]
    candidates = [row["answer"]] + [
        {"number": number, "date": date, "spans": spans}
        for number, date, spans in zip(validated["number"], validated["date"], validated["spans"], strict=False)
    ]
    return list(dict.fromkeys(map(_answer_parts, candidates)))


def _answer_parts(answer: dict) -> tuple[str, ...]:
    if answer["number"] != "":
        return (str(answer["number"]),)
    if answer["spans"]:
        return tuple(answer["spans"])
    date = answer["date"]
    return (" ".join([date["day"], date["month"], date["year"]]).strip(),)


def exact_match_and_f1(predicted: str, gold: tuple[str, ...]) -> tuple[float, float]:
    """Exact match (0 or 1) and F1 of one predicted text against one gold answer of one or more spans.

    F1 is the mean over the best one-to-one alignment of word bags, where unmatched spans count 0, rounded to two places.
    """
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    said, wanted = [_normalize(predicted)], [_normalize(span) for span in gold]
    exact = float(set(said) == set(wanted) and len(said) == len(wanted))
    said_bags, wanted_bags = [set(s.split()) for s in said], [set(s.split()) for s in wanted]
    table = np.array([[_bag_f1(bag, other) for bag in said_bags] for other in wanted_bags])
    rows, columns = linear_sum_assignment(-table)
    per_bag = np.zeros(max(table.shape))
    for row, column in zip(rows, columns, strict=True):
        per_bag[row] = max(per_bag[row], table[row, column])
    return exact, float(round(np.mean(per_bag), 2))


def _bag_f1(said: set[str], wanted: set[str]) -> float:
    """F1 of two word bags; 0 where the gold one has numbers and none of them was said."""
    numbers = set(filter(_is_number, wanted))
    if numbers and not numbers & set(filter(_is_number, said)):
        return 0.0
    common = len(said & wanted)
    precision = common / len(said) if said else 1.0
    recall = common / len(wanted) if wanted else 1.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _normalize(text: str) -> str:
    """Lower case, punctuation and articles out, numbers in one form, single spaces; hyphens part words."""
    return " ".join(_words(re.split(" |-", text))).strip()


def _words(tokens: Iterable[str]) -> Iterable[str]:
    for token in map(str.lower, tokens):
        if not _is_number(token):
            token = "".join(letter for letter in token if letter not in _PUNCTUATION)
        if _is_number(token):
            token = str(float(token))
        token = " ".join(_ARTICLE.sub(" ", token).split())
        if token:
            yield token


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
