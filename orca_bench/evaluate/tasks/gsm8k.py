"""GSM8K, 5-shot, acc. Hub: openai/gsm8k (main). Cobbe et al. 2021, arXiv 2110.14168."""

import re

from orca_bench import suite
from orca_bench.evaluate.tasks.final_answer import equal_numbers, final_number
from orca_bench.evaluate.tasks.task import GenerationTask, Row, Score, TextRules

_MARKED_NUMBER = re.compile(r"#### (\-?[0-9\.\,]+)")


def marked_answer(text: str) -> str | None:
    """The number after the first `#### `, commas removed; None where there is none. The benchmark's own rule."""
    match = _MARKED_NUMBER.search(text)
    return match.group(1).strip().replace(",", "") if match else None


class Gsm8k(GenerationTask):
    """Word problems of primary school, whose answer is a number."""

    facts = suite.GSM8K
    column_types = {"question": str, "answer": str}
    leaderboard_text_rules = TextRules(
        stop_strings=(":", "Question:", "Question"),  # b281b092, tasks/gsm8k.py
        # In the words of results/reported/, so that a table says them once.
        reader_warning="scored on the text before the first colon: a model that writes 'Answer:' or 'Step 1:' is cut off "
        "before its answer",
    )
    orca_text_rules = TextRules(
        stop_strings=("\n\nQuestion:",),
        default_max_new_tokens=512,
        scoring_description="numbers by value: behind ####, else 'answer is', \\boxed, bold, the last equation, the last number",
    )

    def question(self, row: Row) -> str:
        """The question between `Question:` and `Answer:`."""
        return f"Question: {row['question']}\nAnswer:"

    def few_shot_answer(self, row: Row) -> str:
        """The solution, which ends in `#### NUMBER`."""
        return " " + row["answer"]

    def check_example_row(self, row: Row) -> None:
        """As `Task.check_example_row`; ValueError where the solution gives no number."""
        super().check_example_row(row)
        gold = marked_answer(row["answer"])
        if gold is None:
            raise ValueError("no '#### NUMBER' in the answer")
        if not equal_numbers(gold, gold):
            raise ValueError(f"'#### {gold}' in the answer is not a number")

    def score_text(self, row: Row, text: str) -> Score:
        """Right where the number that the text gives as its answer has the value of the gold one.

        Which rule of `final_number` applied stands in `extra_fields`.
        """
        gold = marked_answer(row["answer"])
        prediction, rule = final_number(text)
        is_correct = prediction is not None and gold is not None and equal_numbers(prediction, gold)
        return Score(float(is_correct), prediction, gold, {"rule": rule})

    def harness_score(self, row: Row, text: str) -> Score:
        """Right if the number after the first `#### ` equals the gold one, character by character; nothing else counts."""
        gold, prediction = marked_answer(row["answer"]), marked_answer(text)
        return Score(float(prediction == gold), prediction, gold, {})


TASK = Gsm8k()
