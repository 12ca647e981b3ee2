"""Winogrande, 5-shot, acc. Hub: allenai/winogrande (winogrande_xl). Sakaguchi et al. 2019, arXiv 1907.10641.

Partial evaluation: the sentence up to the blank, filled with each option in turn, is the question; the rest of the
sentence is the continuation of both (Trinh and Le 2018, arXiv 1806.02847).
"""

from orca_bench import suite
from orca_bench.evaluate.tasks.task import HIDDEN_ANSWERS_HINT, ChoiceTask, Row


class Winogrande(ChoiceTask):
    """A sentence with a blank that one of two options fills."""

    facts = suite.WINOGRANDE
    column_types = {"sentence": str, "option1": str, "option2": str, "answer": str}

    def question(self, row: Row) -> str:
        """The sentence up to the blank, with the right option in it."""
        return self._fill_blank(row, row["option" + row["answer"]])

    def plain_question(self, row: Row) -> str:
        """The sentence with its blank."""
        return str(row["sentence"])

    def few_shot_answer(self, row: Row) -> str:
        """The rest of the sentence after the blank."""
        return " " + row["sentence"][row["sentence"].index("_") + 1 :].strip()

    def question_continuation_pairs(self, row: Row) -> list[tuple[str, str]]:
        """(the sentence up to the blank with an option in it, the rest of the sentence) of each option."""
        return [(self._fill_blank(row, option_text), self.few_shot_answer(row)) for option_text in self.choices(row)]

    def harness_requests(self, row: Row, preceding_text: str) -> list[tuple[str, str]]:
        """As `ChoiceTask.harness_requests`, with a slip of b281b092 (tasks/winogrande.py).

        The filled sentence replaces everything after the last blank line of the context.
        """
        paragraphs = (preceding_text + self.question(row)).split("\n\n")[:-1]
        return [
            ("\n\n".join([*paragraphs, question]), continuation) for question, continuation in self.harness_pairs(row)
        ]

    def choices(self, row: Row) -> list[str]:
        """The two options."""
        return [row["option1"], row["option2"]]

    def gold(self, row: Row) -> int:
        """The right option, counted from 0; raises ValueError where the row has none."""
        if row["answer"] not in ("1", "2"):
            raise ValueError(f"answer {row['answer']!r} is neither '1' nor '2'{HIDDEN_ANSWERS_HINT}")
        return int(row["answer"]) - 1

    @staticmethod
    def _fill_blank(row: Row, option_text: str) -> str:
        return row["sentence"][: row["sentence"].index("_")] + option_text


TASK = Winogrande()
