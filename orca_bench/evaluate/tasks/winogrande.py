"""Winogrande, 5-shot, acc. Hub: allenai/winogrande (winogrande_xl). Sakaguchi et al. 2019, arXiv 1907.10641.

Partial evaluation: the sentence up to the blank, filled with each option in turn, is the question; the rest of the
sentence is the continuation of both (Trinh and Le 2018, arXiv 1806.02847).
"""

from orca_bench import suite
from orca_bench.evaluate.tasks.task import HIDDEN, ChoiceTask


class Winogrande(ChoiceTask):
    facts = suite.WINOGRANDE
    columns = {"sentence": str, "option1": str, "option2": str, "answer": str}

    def question(self, row: dict) -> str:
        return self._filled(row, row["option" + row["answer"]])

    def target(self, row: dict) -> str:
        return " " + row["sentence"][row["sentence"].index("_") + 1 :].strip()

    def pairs(self, row: dict) -> list[tuple[str, str]]:
        return [(self._filled(row, option), self.target(row)) for option in self.choices(row)]

    def choices(self, row: dict) -> list[str]:
        return [row["option1"], row["option2"]]

    def gold(self, row: dict) -> int:
        if row["answer"] not in ("1", "2"):
            raise ValueError(f"answer {row['answer']!r} is neither '1' nor '2'{HIDDEN}")
        return int(row["answer"]) - 1

    @staticmethod
    def _filled(row: dict, option: str) -> str:
        return row["sentence"][: row["sentence"].index("_")] + option
