"""MMLU, 57 subjects, 5-shot, acc. Hub: cais/mmlu (all). Hendrycks et al. 2021, arXiv 2009.03300.

Each subject is a task of its own (`mmlu_SUBJECT`) with its own preamble and its own five examples, the first of its dev
split in order; the leaderboard's MMLU is the plain mean of the subjects' accuracies.
"""

import random
from collections.abc import Sequence

from orca_bench import suite
from orca_bench.evaluate.tasks.task import CHOICE_LETTERS, ChoiceTask, Row


class Mmlu(ChoiceTask):
    """Exam questions with four choices, of which the model gives the letter."""

    facts = suite.MMLU
    column_types = {"question": str, "subject": str, "choices": list, "answer": int}

    def description(self, row: Row) -> str:
        """The preamble of the subject."""
        subject = " ".join(row["subject"].split("_"))
        return f"The following are multiple choice questions (with answers) about {subject}."

    def question(self, row: Row) -> str:
        """The question, its lettered choices and `Answer:`."""
        lettered_choices = "".join(
            f"{letter}. {choice}\n" for letter, choice in zip(CHOICE_LETTERS[:4], row["choices"], strict=False)
        )
        return f"{row['question'].strip()}\n{lettered_choices}Answer:"

    def choices(self, row: Row) -> list[str]:
        """The letters A to D."""
        return list(CHOICE_LETTERS[:4])

    def plain_question(self, row: Row) -> str:
        """The question without its choices."""
        return str(row["question"]).strip()

    def plain_choices(self, row: Row) -> list[str]:
        """The texts behind the letters."""
        return [str(choice) for choice in row["choices"]]

    def gold(self, row: Row) -> int:
        """The answer, counted from 0."""
        return row["answer"]

    def check_example_row(self, row: Row) -> None:
        """As `ChoiceTask.check_example_row`; ValueError also for another number of choices than four."""
        if len(row["choices"]) != 4:
            raise ValueError(f"{len(row['choices'])} choices, and 4 are lettered")
        super().check_example_row(row)

    def few_shot_examples(self, pool: Sequence[Row], generator: random.Random) -> list[Row]:
        """The first rows of the subject's pool, for every question the same."""
        return list(pool[: self.shots])


TASK = Mmlu()
