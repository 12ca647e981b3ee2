"""`--limit` in, which questions of each task are evaluated out: all, the first N of each task, or of each task its own N.

The questions are counted in the protocol's order; of MMLU, N counts for each subject. Its own module because the command line,
the result file and every report speak of the same limit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orca_bench.errors import UserError, Where
from orca_bench.suite import ALL_TASKS, TASK_BY_NAME, task_facts

#: As it stands in a result file: all questions, N of each task, or N by task, of those that have a limit.
LimitJson = int | Mapping[str, int] | None

_LARGEST = 10**12
_HINT = "give N, TASK=N or TASK=all, with N of 1 or more"


@dataclass(frozen=True)
class QuestionLimit:
    """The most questions of each task: `count_by_task` where tasks differ, in the suite's order, else `count`; None is all."""

    count: int | None = None
    count_by_task: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of_file(cls, limit_json: LimitJson) -> QuestionLimit:
        """The limit of a result file, whatever tasks it names."""
        return cls(None, tuple(limit_json.items())) if isinstance(limit_json, Mapping) else cls(limit_json)

    def __bool__(self) -> bool:
        """Whether any task is limited."""
        return self.count is not None or bool(self.count_by_task)

    def __str__(self) -> str:
        """`first 10 questions of each task`, or with the tasks named: `first 200 questions of ARC, 20 of each MMLU subject`."""
        if self.count is not None:
            return f"{self.phrase} of each task"
        titles_by_count: dict[int, list[str]] = {}
        for task_name, count in self.count_by_task:
            facts = TASK_BY_NAME.get(task_name)
            title = (
                task_name if facts is None else f"each {facts.title} subject" if facts.subject_column else facts.title
            )
            titles_by_count.setdefault(count, []).append(title)
        parts = [
            f"{_first_questions(count) if index == 0 else f'{count:,}'} of {_joined(titles)}"
            for index, (count, titles) in enumerate(titles_by_count.items())
        ]
        return ", ".join(parts)

    @property
    def phrase(self) -> str:
        """`first 10 questions`, where each task has the same number; else as `str`. Empty where there is no limit."""
        return str(self) if self.count is None else _first_questions(self.count)

    @property
    def file_suffix(self) -> str:
        """The end of the name of a result's file: `-limit200`, `-limit-mmlu20`, `-limit200-mmlu20-drop_all`."""
        if not self:
            return ""
        counts = {facts.name: self.of_task(facts.name) for facts in ALL_TASKS}
        [(common_count, _)] = Counter(counts.values()).most_common(1)
        other_tasks = (
            f"-{name}{'_all' if count is None else count}" for name, count in counts.items() if count != common_count
        )
        return f"-limit{'' if common_count is None else common_count}{''.join(other_tasks)}"

    @property
    def option_texts(self) -> list[str]:
        """What `--limit` is given for it, one text each time: `20`, or `mmlu=20`, …; none where there is no limit."""
        common_texts = [] if self.count is None else [str(self.count)]
        return [*common_texts, *(f"{task_name}={count}" for task_name, count in self.count_by_task)]

    @property
    def sort_key(self) -> tuple[float, str]:
        """Orders limits from the fewest questions to all."""
        if self.count is not None:
            return self.count, ""
        return max((count for _, count in self.count_by_task), default=float("inf")), str(self)

    def of_task(self, task_name: str) -> int | None:
        """The most questions of a task (of each MMLU subject); None is all."""
        return dict(self.count_by_task).get(task_name) if self.count is None else self.count

    def to_json(self) -> int | dict[str, int] | None:
        """The limit as it stands in a result file."""
        return dict(self.count_by_task) if self.count_by_task else self.count


def limit_from_json(limit_json: LimitJson, where: Where = "--limit") -> QuestionLimit:
    """The limit of a Python call. Raises UserError for an unknown task and for no positive integer."""
    if limit_json is None:
        return QuestionLimit()
    if not isinstance(limit_json, Mapping):
        return QuestionLimit(_checked_count(limit_json, where))
    return _limit_of_tasks(
        {task_facts(name, where).name: _checked_count(count, where) for name, count in limit_json.items()}
    )


def limit_from_texts(limit_texts: Sequence[str], where: Where = "--limit") -> QuestionLimit:
    """The limit that some `N`, `TASK=N` and `TASK=all` make together; one of a task counts more than `N`, wherever it stands.

    Raises UserError for another task, for no positive integer, and for two that contradict each other.
    """
    counts: dict[str | None, int | None] = {}
    for limit_text in limit_texts:
        name_text, equals_sign, count_text = limit_text.rpartition("=")
        task_name = task_facts(name_text, where).name if equals_sign else None
        count = None if equals_sign and count_text.strip() == "all" else _count_from_text(count_text, limit_text, where)
        if counts.setdefault(task_name, count) != count:
            raise UserError(f"'{limit_text}' contradicts another limit", where=where, hint="give each task one limit")
    common_count = counts.pop(None, None)
    task_counts = {facts.name: counts.get(facts.name, common_count) for facts in ALL_TASKS}
    return _limit_of_tasks({name: count for name, count in task_counts.items() if count is not None})


def _limit_of_tasks(count_by_task: Mapping[str, int]) -> QuestionLimit:
    """One number where all tasks of the suite have it, so that the same questions have the same limit however it was written."""
    in_order = tuple((facts.name, count_by_task[facts.name]) for facts in ALL_TASKS if facts.name in count_by_task)
    counts = {count for _, count in in_order}
    return (
        QuestionLimit(counts.pop())
        if len(counts) == 1 and len(in_order) == len(ALL_TASKS)
        else QuestionLimit(None, in_order)
    )


def _count_from_text(count_text: str, limit_text: str, where: Where) -> int:
    number_text = count_text.strip()
    if not (number_text.isascii() and number_text.isdigit()):
        raise UserError(f"'{limit_text}' is not a number of questions", where=where, hint=_HINT)
    return _checked_count(int(number_text[:15]), where)


def _checked_count(count: object, where: Where) -> int:
    if type(count) is not int or not 1 <= count <= _LARGEST:
        raise UserError(f"{count} is not a number of questions", where=where, hint=_HINT)
    return count


def _first_questions(count: int) -> str:
    return "first question" if count == 1 else f"first {count:,} questions"


def _joined(titles: Sequence[str]) -> str:
    return titles[0] if len(titles) == 1 else f"{', '.join(titles[:-1])} and {titles[-1]}"
