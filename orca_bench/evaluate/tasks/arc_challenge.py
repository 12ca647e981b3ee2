"""ARC-Challenge, 25-shot, acc_norm. Hub: allenai/ai2_arc (ARC-Challenge). Clark et al. 2018, arXiv 1803.05457."""

from orca_bench import suite
from orca_bench.evaluate.tasks.task import HIDDEN, NormalizedChoiceTask


class ArcChallenge(NormalizedChoiceTask):
    facts = suite.ARC_CHALLENGE
    columns = {"question": str, "choices": dict, "answerKey": str}

    def question(self, row: dict) -> str:
        return f"Question: {row['question']}\nAnswer:"

    def choices(self, row: dict) -> list[str]:
        return list(row["choices"]["text"])

    def gold(self, row: dict) -> int:
        labels = list(row["choices"]["label"])  # letters; some rows number their choices
        if row["answerKey"] not in labels:
            raise ValueError(
                f"answerKey {row['answerKey']!r} is none of the labels {', '.join(map(str, labels))}{HIDDEN}"
            )
        return labels.index(row["answerKey"])
