"""GSM8K, 5-shot, acc. Hub: openai/gsm8k (main). Cobbe et al. 2021, arXiv 2110.14168."""

import re

from orca_bench import suite
from orca_bench.evaluate.tasks.base import GenerationTask, Score

_MARKED = re.compile(r"#### (\-?[0-9\.\,]+)")
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def marked_answer(text: str) -> str | None:
    """The number behind the first `#### `, commas removed; None where there is none. The benchmark's own rule."""
    match = _MARKED.search(text)
    return match.group(1).strip().replace(",", "") if match else None


def last_number(text: str) -> str | None:
    """The last number of a text, commas removed; None where there is none."""
    numbers = _NUMBER.findall(text)
    return numbers[-1].replace(",", "") if numbers else None


class Gsm8k(GenerationTask):
    facts = suite.GSM8K
    columns = {"question": str, "answer": str}

    def question(self, row: dict) -> str:
        return f"Question: {row['question']}\nAnswer:"

    def target(self, row: dict) -> str:
        return " " + row["answer"]

    def check(self, row: dict) -> None:
        super().check(row)
        if marked_answer(row["answer"]) is None:
            raise ValueError("no '#### NUMBER' in the answer")

    def score_text(self, row: dict, text: str) -> Score:
        """Right where the number equals the gold one: the one behind `####`, else the last number of the text.

        An explanation rarely ends in the data set's own mark; which rule found the number is kept with the question.
        """
        gold = marked_answer(row["answer"])
        prediction, rule = marked_answer(text), "marked"
        if prediction is None:
            prediction, rule = last_number(text), "last number"
        right = prediction is not None and prediction.rstrip(".") == gold
        return Score(float(right), prediction, gold, {"rule": rule if prediction is not None else "no number"})

    def harness_score(self, row: dict, text: str) -> Score:
        """Right where the number behind the first `#### ` equals the gold one, character by character; nothing else counts."""
        gold, prediction = marked_answer(row["answer"]), marked_answer(text)
        return Score(float(prediction == gold), prediction, gold, {})
