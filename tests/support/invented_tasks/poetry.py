"""An invented task of subjects: which line comes next, by poet."""

from orca_bench import suite
from orca_bench.evaluate.tasks.task import ChoiceTask, Row


class Poetry(ChoiceTask):
    """Lines with two choices for the next one."""

    facts = suite.TASK_BY_NAME["poetry"]
    column_types = {"line": str, "poet": str, "next": list, "answer": int}

    def question(self, row: Row) -> str:
        """The line."""
        return row["line"]

    def choices(self, row: Row) -> list[str]:
        """The lines that may follow."""
        return row["next"]

    def gold(self, row: Row) -> int:
        """The line that follows, counted from 0."""
        return row["answer"]


TASK = Poetry()
