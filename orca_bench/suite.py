"""The facts of the seven tasks of Open LLM Leaderboard v1, once: for evaluation, tables, pictures and model cards.

No input; the output is `ALL_TASKS`, in the leaderboard's order. Its own module because tasks, rows, results, reports and
cards all need these facts, and none of them may import another to get them. A task's prompts, stop strings and scores are
in evaluate/tasks/NAME.py. How a task is added: orca_bench/README.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orca_bench.errors import UserError, Where, spelling_hint


@dataclass(frozen=True)
class CardEntry:
    """How a task stands in the `model-index` of a card, as on that of orca_mini_13b (DROP, which it leaves out, likewise).

    `dataset_title` is the data set's name, `dataset_id` and `configuration` its id there, `metric_name` the metric in words.
    """

    dataset_title: str
    dataset_id: str
    configuration: str | None
    metric_name: str | None


@dataclass(frozen=True)
class HarnessFacts:
    """The same task in lm-evaluation-harness 0.4.13, for protocol `plain`.

    `task_folder` has its task files, below lm_eval/tasks. `metric` is the score's name, `filter_name` that of the rule that
    reads the answer out of a text.
    """

    task_folder: str
    harness_task_name: str
    metric: str
    filter_name: str = "none"


@dataclass(frozen=True)
class TaskFacts:
    """One task. `name` is its folder under a benchmarks directory; `hub_dataset` is the data set's id and configuration.

    `evaluation_split` holds the questions, `few_shot_split` the rows that few-shot examples come from (None: there are none);
    `row_count_by_split` says how many rows each of the two has in full. `true_row_hash_by_split` is the SHA-256 of each of them
    (of what: evaluate/benchmark_rows.py); a split without one cannot be verified. `chance_percent` is what guessing scores,
    percent, where that is one number. `wide_heading` and `narrow_heading` name the task's column in a wide and in a narrow
    table (empty: the title, the heading). `aliases` are other names that a user may type. A task with a `subject_column`
    consists of subjects, each with its own few-shot pool; its score is their plain mean, and the part of a subject is called
    `NAME_SUBJECT`. `unit` is empty for scores that are fractions of 1, as all of the suite are; `has_weighted_parts` says of a
    task outside the suite that its score is the plain mean of its parts. Model cards leave out a task without a `card_entry`,
    and protocol `plain` takes one without `harness_facts` for a task of lm-eval's own name.
    """

    name: str
    title: str
    shots: int
    metric: str
    hub_dataset: tuple[str, str | None]
    evaluation_split: str
    few_shot_split: str | None
    row_count_by_split: Mapping[str, int]
    card_entry: CardEntry | None = None
    harness_facts: HarnessFacts | None = None
    chance_percent: float | None = None
    wide_heading: str = ""
    narrow_heading: str = ""
    aliases: tuple[str, ...] = ()
    subject_column: str | None = None
    true_row_hash_by_split: Mapping[str, str] = field(default_factory=dict)
    unit: str = ""
    higher_is_better: bool = True
    has_weighted_parts: bool = False

    @property
    def column_headings(self) -> tuple[str, str]:
        """The names of the task's column in a wide and in a narrow table."""
        heading = self.wide_heading or self.title
        return heading, self.narrow_heading or heading

    @property
    def is_mean_of_parts(self) -> bool:
        """Whether the score is the plain mean of parts, whatever their sizes."""
        return self.subject_column is not None or self.has_weighted_parts

    @property
    def full_question_count(self) -> int:
        """How many questions the task has in full; known of the suite's tasks alone."""
        return self.row_count_by_split[self.evaluation_split]

    def part_of_subject(self, subject: str) -> str:
        """The name of the part of the task that has a subject's questions, as `mmlu_anatomy`."""
        return f"{self.name}_{subject}"

    def subject_of_part(self, part: str) -> str:
        """The subject of a part: the reverse of `part_of_subject`."""
        return part.removeprefix(f"{self.name}_")

    def has_part(self, part: str) -> bool:
        """Whether a part of a result is of this task: the task, one of its subjects, or what lm-eval calls it."""
        if part == self.name:
            return True
        if self.subject_column:
            return part.startswith(f"{self.name}_")
        return self.harness_facts is not None and part == self.harness_facts.harness_task_name


# The hashes: GSM8K, ARC, Winogrande and MMLU were computed from copies equal, row by row, to the hub's (MMLU but for the line
# ends of one dev row, which the hash does not see); TruthfulQA from the file that the hub's loading script names. No verified
# copy of HellaSwag or DROP was at hand; `orca-bench verify --check-rows DIR` prints what belongs here.
ARC_CHALLENGE = TaskFacts(
    name="arc_challenge",
    title="ARC-Challenge",
    shots=25,
    metric="acc_norm",
    hub_dataset=("allenai/ai2_arc", "ARC-Challenge"),
    evaluation_split="test",
    few_shot_split="train",
    row_count_by_split={"test": 1172, "train": 1119},
    card_entry=CardEntry("AI2 Reasoning Challenge (25-Shot)", "ai2_arc", "ARC-Challenge", "normalized accuracy"),
    harness_facts=HarnessFacts("arc", "arc_challenge", "acc_norm"),
    wide_heading="ARC",
    aliases=("arc",),
    chance_percent=25.0,
    true_row_hash_by_split={
        "test": "e3402028a943d73165955d5d3d5341aea01bc55b269c8f6985c3ce71f670cc1e",
        "train": "c3b8b99e5eaa94ff9958f20be81da855940aae2d76d221750968a2b2e3c85641",
    },
)
HELLASWAG = TaskFacts(
    name="hellaswag",
    title="HellaSwag",
    shots=10,
    metric="acc_norm",
    hub_dataset=("Rowan/hellaswag", None),
    evaluation_split="validation",
    few_shot_split="train",
    row_count_by_split={"validation": 10042, "train": 39905},
    card_entry=CardEntry("HellaSwag (10-Shot)", "hellaswag", None, "normalized accuracy"),
    harness_facts=HarnessFacts("hellaswag", "hellaswag", "acc_norm"),
    narrow_heading="HSwag",
    chance_percent=25.0,
)
MMLU = TaskFacts(
    name="mmlu",
    title="MMLU",
    shots=5,
    metric="acc",
    hub_dataset=("cais/mmlu", "all"),
    evaluation_split="test",
    few_shot_split="dev",
    row_count_by_split={"test": 14042, "dev": 285},
    card_entry=CardEntry("MMLU (5-Shot)", "cais/mmlu", "all", "accuracy"),
    harness_facts=HarnessFacts("mmlu/default", "mmlu", "acc"),
    subject_column="subject",
    chance_percent=25.0,
    true_row_hash_by_split={
        "test": "8918e500863c6478a9eed42d180de8d1a81e0f3d1c7720dc0142269062343e42",
        "dev": "20109e7650b830331b8c45ec7c738ea118de5e762e9c5b25100f69fb83032119",
    },
)
TRUTHFUL_QA = TaskFacts(
    name="truthful_qa",
    title="TruthfulQA",
    shots=0,
    metric="mc2",
    hub_dataset=("truthfulqa/truthful_qa", "multiple_choice"),
    evaluation_split="validation",
    few_shot_split=None,
    row_count_by_split={"validation": 817},
    card_entry=CardEntry("TruthfulQA (0-shot)", "truthful_qa", "multiple_choice", None),
    harness_facts=HarnessFacts("truthfulqa", "truthfulqa_mc2", "acc"),
    narrow_heading="TQA",
    aliases=("truthfulqa", "truthfulqa_mc2"),
    true_row_hash_by_split={
        "validation": "3f131e3f5a013e7a0e6efe9347728a47ebc897d55e7304b11a279d165ab31f45",
    },
)
WINOGRANDE = TaskFacts(
    name="winogrande",
    title="Winogrande",
    shots=5,
    metric="acc",
    hub_dataset=("allenai/winogrande", "winogrande_xl"),
    evaluation_split="validation",
    few_shot_split="train",
    row_count_by_split={"validation": 1267, "train": 40398},
    card_entry=CardEntry("Winogrande (5-shot)", "winogrande", "winogrande_xl", "accuracy"),
    harness_facts=HarnessFacts("winogrande", "winogrande", "acc"),
    narrow_heading="WinoG",
    chance_percent=50.0,
    true_row_hash_by_split={
        "validation": "107b28ed11d47c6ef804585e5f1998f2bf88e8e44e2fbbd52a3a4c4afaadc482",
        "train": "f52448b09ee2775833a643688536d3564dc1f1a2f04555a60edf7fdbbcdc5e0c",
    },
)
GSM8K = TaskFacts(
    name="gsm8k",
    title="GSM8K",
    shots=5,
    metric="acc",
    hub_dataset=("openai/gsm8k", "main"),
    evaluation_split="test",
    few_shot_split="train",
    row_count_by_split={"test": 1319, "train": 7473},
    card_entry=CardEntry("GSM8k (5-shot)", "gsm8k", "main", "accuracy"),
    harness_facts=HarnessFacts("gsm8k", "gsm8k", "exact_match", "strict-match"),
    true_row_hash_by_split={
        "test": "51b901a6559b123df91167acbe3ed6d6d5d404ee6fa0773a4da19fd9d44c767a",
        "train": "9556bf9d7dba73d7fcaaeff6ca814c71684db1d8e8d485d83ec62f1c428b888d",
    },
)
DROP = TaskFacts(
    name="drop",
    title="DROP",
    shots=3,
    metric="f1",
    hub_dataset=("EleutherAI/drop", None),
    evaluation_split="validation",
    few_shot_split="train",
    row_count_by_split={"validation": 9536, "train": 77409},
    card_entry=CardEntry("DROP (3-shot)", "drop", None, "f1 score"),
    harness_facts=HarnessFacts("drop", "drop", "f1"),
)

ALL_TASKS = (ARC_CHALLENGE, HELLASWAG, MMLU, TRUTHFUL_QA, WINOGRANDE, GSM8K, DROP)
TASK_BY_NAME = {task.name: task for task in ALL_TASKS}

#: The averages that are reported: their titles, and the tasks that each is the plain mean of.
AVERAGE_TITLE_BY_NAME = {"all seven": "Mean of all seven", "six without DROP": "Mean without DROP"}
_TASKS_WITHOUT_DROP = (ARC_CHALLENGE, HELLASWAG, MMLU, TRUTHFUL_QA, WINOGRANDE, GSM8K)
TASK_NAMES_BY_AVERAGE = {
    "all seven": tuple(task.name for task in (*_TASKS_WITHOUT_DROP, DROP)),
    "six without DROP": tuple(task.name for task in _TASKS_WITHOUT_DROP),
}


def task_name_of_part(part: str) -> str:
    """The name of the task that a part of a result belongs to; a part of no task of the suite is its own task."""
    return next((task.name for task in ALL_TASKS if task.has_part(part)), part)


def task_facts(name: str, where: Where) -> TaskFacts:
    """The task that a user names: by its name, an alias or its title, in capitals or not, with hyphens or underscores.

    `where` is the option or key that has the name. Raises UserError for a name that no task has.
    """
    if (task := _facts_by_spelling().get(_plain_spelling(name))) is not None:
        return task
    known_names = [spelling for task in ALL_TASKS for spelling in (task.name, *task.aliases)]
    hint = spelling_hint(name.lower(), known_names) or f"tasks are {', '.join(TASK_BY_NAME)}"
    raise UserError(f"unknown task '{name}'", where=where, hint=hint)


def is_suite_spelling(name: str) -> bool:
    """Whether `task_facts` knows a name."""
    return _plain_spelling(name) in _facts_by_spelling()


def _facts_by_spelling() -> dict[str, TaskFacts]:
    return {
        _plain_spelling(spelling): task for task in ALL_TASKS for spelling in (task.title, *task.aliases, task.name)
    }


def _plain_spelling(name: str) -> str:
    return name.strip().lower().replace("-", "_")
