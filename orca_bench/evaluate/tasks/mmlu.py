"""MMLU, 57 subjects, 5-shot, acc. Hub: cais/mmlu (all). Hendrycks et al. 2021, arXiv 2009.03300.

Each subject is a task of its own (`mmlu_SUBJECT`) with its own preamble and its own five examples, the first of its dev
split in order; the leaderboard's MMLU is the plain mean of the subjects' accuracies.
"""

from collections.abc import Sequence

from orca_bench import suite
from orca_bench.evaluate.tasks.task import LETTERS, ChoiceTask

SUBJECTS = 57


class Mmlu(ChoiceTask):
    facts = suite.MMLU
    columns = {"question": str, "subject": str, "choices": list, "answer": int}

    def description(self, row: dict) -> str:
        subject = " ".join(row["subject"].split("_"))
        return f"The following are multiple choice questions (with answers) about {subject}."

    def question(self, row: dict) -> str:
        options = "".join(f"{letter}. {choice}\n" for letter, choice in zip(LETTERS[:4], row["choices"], strict=False))
        return f"{row['question'].strip()}\n{options}Answer:"

    def choices(self, row: dict) -> list[str]:
        return list(LETTERS[:4])

    def gold(self, row: dict) -> int:
        return row["answer"]

    def check(self, row: dict) -> None:
        if len(row["choices"]) != 4:
            raise ValueError(f"{len(row['choices'])} choices, and 4 are lettered")
        super().check(row)

    def choose(self, pool: Sequence[dict], random) -> list[dict]:
        return list(pool[: self.shots])
