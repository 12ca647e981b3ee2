"""GSM8K, 5-shot, acc. Hub: openai/gsm8k (main). Cobbe et al. 2021, arXiv 2110.14168."""

import re

from orca_bench import suite
from orca_bench.evaluate.tasks.final_answer import equal_numbers, final_number
from orca_bench.evaluate.tasks.task import GenerationTask, Score

_MARKED = re.compile(r"#### (\-?[0-9\.\,]+)")


def marked_answer(text: str) -> str | None:
    """The number behind the first `#### `, commas removed; None where there is none. The benchmark's own rule."""
    match = _MARKED.search(text)
    return match.group(1).strip().replace(",", "") if match else None


class Gsm8k(GenerationTask):
    facts = suite.GSM8K
    columns = {"question": str, "answer": str}

    def question(self, row: dict) -> str:
        return f"Question: {row['question']}\nAnswer:"

    def target(self, row: dict) -> str:
        return " " + row["answer"]

    def check(self, row: dict) -> None:
        super().check(row)
        gold = marked_answer(row["answer"])
        if gold is None:
            raise ValueError("no '#### NUMBER' in the answer")
        if not equal_numbers(gold, gold):
            raise ValueError(f"'#### {gold}' in the answer is not a number")

    def score_text(self, row: dict, text: str) -> Score:
        """Right where the number that the text gives as its answer has the value of the gold one.

        Which rule of `final_number` found it is kept with the question.
        """
        gold = marked_answer(row["answer"])
        prediction, rule = final_number(text)
        right = prediction is not None and equal_numbers(prediction, gold)
        return Score(float(right), prediction, gold, {"rule": rule})

    def harness_score(self, row: dict, text: str) -> Score:
        """Right where the number behind the first `#### ` equals the gold one, character by character; nothing else counts."""
        gold, prediction = marked_answer(row["answer"]), marked_answer(text)
        return Score(float(prediction == gold), prediction, gold, {})
