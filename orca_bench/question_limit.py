"""`--limit` in, which questions of each task are evaluated out: all, the first N of each task, or of each task its own N.

The questions are counted in the protocol's order; of MMLU, N counts for each subject. Its own module because the command line,
the result file and every report speak of the same limit.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from orca_bench.errors import UserError, Where
from orca_bench.suite import ALL_TASKS, TASK_BY_NAME, is_suite_spelling, task_facts

#: As it stands in a result file: all questions, N of each task, or N by task, of those that have a limit.
LimitJson = int | Mapping[str, int] | None

_LARGEST = 10**12
_MOST_UNLIMITED_TITLES = 2  # that a sentence names
_MAX_DIGITS = 4000  # of a number that Python reads
_HINT = "give N, TASK=N or TASK=all, with N of 1 or more"


@dataclass(frozen=True)
class QuestionLimit:
    """The most questions of each task: `count_by_task` where tasks differ, else `count`; None is all.

    `count_by_task` is in the suite's order; tasks that the suite does not have follow by name. `other_count` is the limit
    of a task that `count_by_task` does not name: of lm-eval, which has thousands.
    """

    count: int | None = None
    count_by_task: tuple[tuple[str, int | None], ...] = ()
    other_count: int | None = field(default=None, compare=False)

    @classmethod
    def of_file(cls, limit_json: LimitJson, task_names: Collection[str]) -> QuestionLimit:
        """The limit of a result file that has these tasks, whatever others the file's key names."""
        if not isinstance(limit_json, Mapping):
            return cls(limit_json)
        return _limit_of_tasks({task_name: limit_json.get(task_name) for task_name in task_names})

    def __bool__(self) -> bool:
        """Whether any task is limited."""
        return self.count is not None or bool(self.count_by_task)

    def __str__(self) -> str:
        """`first 10 questions of each task`; where tasks differ, `first 20 questions of each MMLU subject, all of DROP`."""
        if self.count is not None:
            return f"{self.phrase} of each task"
        titles_by_count: dict[int | None, list[str]] = {}
        for task_name, count in self.count_by_task:
            titles_by_count.setdefault(count, []).append(_title(task_name, count))
        limited = [(count, titles) for count, titles in titles_by_count.items() if count is not None]
        parts = [
            f"{_first_questions(count) if index == 0 else f'{count:,}'} of {_joined(titles)}"
            for index, (count, titles) in enumerate(limited)
        ]
        if unlimited_titles := titles_by_count.get(None):
            few = len(unlimited_titles) <= _MOST_UNLIMITED_TITLES
            parts.append(f"all of {_joined(unlimited_titles) if few else 'the other tasks'}")
        return ", ".join(parts)

    @property
    def phrase(self) -> str:
        """`first 10 questions`, where each task has the same number; else as `str`. Empty where there is no limit."""
        return str(self) if self.count is None else _first_questions(self.count)

    @property
    def full_text(self) -> str:
        """As `str`, with what one number for all tasks means for MMLU: `… of each task (of each MMLU subject)`."""
        return str(self) if self.count is None else f"{self} (of each MMLU subject)"

    @property
    def file_suffix(self) -> str:
        """The end of the name of a result's file: `-limit200`, `-limit-mmlu20`, `-limit200-mmlu20-drop_all`."""
        if not self:
            return ""
        common_text = "" if self._common_count is None else self._common_count
        other_tasks = (f"-{name}{'_all' if count is None else count}" for name, count in self._other_counts)
        return f"-limit{common_text}{''.join(other_tasks)}"

    @property
    def option_texts(self) -> list[str]:
        """What `--limit` is given for it, one text each time: `20`, or `200` and `mmlu=20`; none where there is no limit."""
        common_texts = [] if self._common_count is None else [str(self._common_count)]
        return [*common_texts, *(f"{name}={'all' if count is None else count}" for name, count in self._other_counts)]

    @property
    def sort_key(self) -> tuple[float, str]:
        """Orders limits from the fewest questions of a task, by the task with the most, to all."""
        counts = [count for _, count in self.count_by_task] or [self.count]
        return max(math.inf if count is None else count for count in counts), str(self)

    def of_task(self, task_name: str) -> int | None:
        """The most questions of a task (of each MMLU subject); None is all."""
        return dict(self.count_by_task).get(task_name, self.other_count) if self.count is None else self.count

    @property
    def other_task_names(self) -> list[str]:
        """The tasks that it names and the suite does not have."""
        return [task_name for task_name, _ in self.count_by_task if task_name not in TASK_BY_NAME]

    def with_tasks(self, task_names: Iterable[str]) -> QuestionLimit:
        """The same limit with a number for each of these tasks, so that a result file says it of each that it has."""
        if not self.count_by_task:
            return self
        counts = dict(self.count_by_task) | {task_name: self.of_task(task_name) for task_name in task_names}
        return _limit_of_tasks(counts, self.other_count)

    def to_json(self) -> int | dict[str, int] | None:
        """The limit as it stands in a result file."""
        return {name: count for name, count in self.count_by_task if count is not None} or self.count

    @property
    def _common_count(self) -> int | None:
        """The limit that most tasks have."""
        counts = Counter(count for _, count in self.count_by_task)
        return counts.most_common(1)[0][0] if counts else self.count

    @property
    def _other_counts(self) -> list[tuple[str, int | None]]:
        return [(task_name, count) for task_name, count in self.count_by_task if count != self._common_count]


#: As a Python call takes it.
Limit: TypeAlias = QuestionLimit | LimitJson


def limit_from_json(limit_json: Limit, where: Where = "--limit", may_name_other_tasks: bool = False) -> QuestionLimit:
    """The limit of a Python call. Raises UserError for an unknown task and for no positive integer.

    With `may_name_other_tasks` a name that the suite does not have is taken as it stands.
    """
    if isinstance(limit_json, QuestionLimit):
        for name in limit_json.other_task_names:
            _task_name(name, where, may_name_other_tasks)
        return limit_json
    if limit_json is None:
        return QuestionLimit()
    if not isinstance(limit_json, Mapping):
        return QuestionLimit(_checked_count(limit_json, limit_json, where))
    counts: dict[str, int | None] = {
        _task_name(name, where, may_name_other_tasks): _checked_count(count, count, where)
        for name, count in limit_json.items()
    }
    return _limit_of_tasks({facts.name: counts.get(facts.name) for facts in ALL_TASKS} | counts)


def limit_from_texts(
    limit_texts: Sequence[str], where: Where = "--limit", may_name_other_tasks: bool = False
) -> QuestionLimit:
    """The limit that some `N`, `TASK=N` and `TASK=all` make together; one of a task counts more than `N`, wherever it stands.

    `may_name_other_tasks` is as in `limit_from_json`. Raises UserError for another task, for no positive integer, and for two
    that contradict each other.
    """
    counts: dict[str | None, int | None] = {}
    for limit_text in limit_texts:
        name_text, equals_sign, count_text = limit_text.rpartition("=")
        task_name = _task_name(name_text, where, may_name_other_tasks) if equals_sign else None
        count = None if equals_sign and count_text.strip() == "all" else _count_from_text(count_text, limit_text, where)
        if counts.setdefault(task_name, count) != count:
            raise UserError(f"'{limit_text}' contradicts another limit", where=where, hint="give each task one limit")
    common_count = counts.pop(None, None)
    counts_of_tasks = {task_name: count for task_name, count in counts.items() if task_name is not None}
    return _limit_of_tasks(dict.fromkeys(TASK_BY_NAME, common_count) | counts_of_tasks, common_count)


def _task_name(name: str, where: Where, may_name_other_tasks: bool) -> str:
    """The suite's name for a task that a user names; another name as it stands where it may be named, else raises UserError."""
    may_be_other = may_name_other_tasks and name.strip() and not is_suite_spelling(name)
    return name.strip() if may_be_other else task_facts(name, where).name


def _limit_of_tasks(count_by_task: Mapping[str, int | None], other_count: int | None = None) -> QuestionLimit:
    """One number where all tasks have it, so that the same questions have the same limit however it was written."""
    if len(counts := set(count_by_task.values())) <= 1:
        return QuestionLimit(counts.pop() if counts else None)
    names = [*TASK_BY_NAME, *sorted(task_name for task_name in count_by_task if task_name not in TASK_BY_NAME)]
    counts_in_order = tuple((name, count_by_task[name]) for name in names if name in count_by_task)
    return QuestionLimit(None, counts_in_order, other_count)


def _count_from_text(count_text: str, limit_text: str, where: Where) -> int:
    number_text = count_text.strip()
    is_number = number_text.isascii() and number_text.isdigit() and len(number_text) < _MAX_DIGITS
    return _checked_count(int(number_text) if is_number else None, f"'{limit_text}'", where)


def _checked_count(count: object, written_count: object, where: Where) -> int:
    if type(count) is not int or not 1 <= count <= _LARGEST:
        raise UserError(f"{written_count} is not a number of questions", where=where, hint=_HINT)
    return count


def _title(task_name: str, count: int | None) -> str:
    """A task in a sentence: MMLU's limit is that of each subject."""
    facts = TASK_BY_NAME.get(task_name)
    if facts is None:
        return task_name
    return facts.title if count is None or facts.subject_column is None else f"each {facts.title} subject"


def _first_questions(count: int) -> str:
    return "first question" if count == 1 else f"first {count:,} questions"


def _joined(titles: Sequence[str]) -> str:
    return titles[0] if len(titles) == 1 else f"{', '.join(titles[:-1])} and {titles[-1]}"
