"""ARC-Challenge, 25-shot, acc_norm. Hub: allenai/ai2_arc (ARC-Challenge). Clark et al. 2018, arXiv 1803.05457."""

from orca_bench import suite
from orca_bench.evaluate.tasks.task import HIDDEN_ANSWERS_HINT, NormalizedChoiceTask, Row


class ArcChallenge(NormalizedChoiceTask):
    """Science questions of grades 3 to 9 with three to five choices."""

    facts = suite.ARC_CHALLENGE
    column_types = {"question": str, "choices": dict, "answerKey": str}

    def question(self, row: Row) -> str:
        """The question between `Question:` and `Answer:`."""
        return f"Question: {row['question']}\nAnswer:"

    def choices(self, row: Row) -> list[str]:
        """The texts of the choices."""
        return list(row["choices"]["text"])

    def gold(self, row: Row) -> int:
        """The choice whose label is the answer key; raises ValueError where none is."""
        choice_labels = list(row["choices"]["label"])  # letters; some rows number their choices
        if row["answerKey"] not in choice_labels:
            raise ValueError(
                f"answerKey {row['answerKey']!r} is none of the labels {', '.join(map(str, choice_labels))}{HIDDEN_ANSWERS_HINT}"
            )
        return choice_labels.index(row["answerKey"])


TASK = ArcChallenge()
