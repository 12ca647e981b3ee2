"""HellaSwag, 10-shot, acc_norm. Hub: Rowan/hellaswag. Zellers et al. 2019, arXiv 1905.07830."""

import re

from orca_bench import suite
from orca_bench.evaluate.tasks.task import HIDDEN_ANSWERS_HINT, NormalizedChoiceTask, Row

_WIKIHOW_MARK = re.compile(r"\[.*?\]")  # WikiHow's own marks: [header], [step], …


def clean(text: str) -> str:
    """WikiHow's marks out of a text, as b281b092 took them out: ` [title]` ends a sentence, other marks vanish."""
    return _WIKIHOW_MARK.sub("", text.strip().replace(" [title]", ". ")).replace("  ", " ")


class HellaSwag(NormalizedChoiceTask):
    """The most likely ending, of four, of a description of an activity."""

    facts = suite.HELLASWAG
    column_types = {"activity_label": str, "ctx_a": str, "ctx_b": str, "endings": list, "label": (str, int)}

    def question(self, row: Row) -> str:
        """The activity and the context."""
        return clean(f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}")

    def choices(self, row: Row) -> list[str]:
        """The endings."""
        return [clean(ending) for ending in row["endings"]]

    def gold(self, row: Row) -> int:
        """The label; raises ValueError where it is no number."""
        label = str(row["label"])
        if not label.isascii() or not label.isdigit():
            raise ValueError(f"label {label!r} is not the number of an ending{HIDDEN_ANSWERS_HINT}")
        return int(label)


TASK = HellaSwag()
