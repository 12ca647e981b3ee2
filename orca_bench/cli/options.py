"""Options and arguments that several commands have, worded once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from orca_bench import suite
from orca_bench.question_limit import limit_from_texts

#: What a decorator of click turns into: the function, with one more option.
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

PATH = click.Path(path_type=Path)

#: Response tokens that `divergence` and `export --report` score.
DIVERGENCE_TOKEN_COUNT = 30_000


class RunWord(click.ParamType[str]):
    """A word that may be a run's name or a path; a shell completes both (README.md of this folder says how)."""

    def __init__(self, name: str, folder_in_run: str) -> None:
        self.name, self._folder_in_run = name, folder_in_run

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The names of runs that begin with `incomplete` and have the folder, and the shell's own completion of files."""
        runs_folder = ctx.params.get("runs") or Path("runs")
        names = sorted(folder.parent.name for folder in runs_folder.glob(f"*/{self._folder_in_run}"))
        runs = [CompletionItem(name) for name in names if name.startswith(incomplete)]
        return [*runs, CompletionItem(incomplete, type="file")]


#: How protocol `chat` may show few-shot examples (`evaluate/protocols/chat.py`, whose import takes longer).
FEW_SHOT_NAMES = ("turns", "one-turn")
#: The type of what names results: runs' names, folders, result files (cli/result_words.py turns them into files).
RESULT = RunWord("result", "results")
#: The type of what names a model: a run's name, a folder, a GGUF file, an id of the hub (models/model_lookup.py).
MODEL = RunWord("model", "model")

system: Decorator = click.option(
    "--system",
    default="5",
    show_default=True,
    help="System message of the Orca prompt: an id of the Orca paper (1–16) or a text.",
)
protocol_system: Decorator = click.option(
    "--system",
    help="System message of orca and chat: an id of the Orca paper (1–16) or a text.  [default: orca: 5; chat: none, so that the "
    "chat template may write its own]",
)
few_shot: Decorator = click.option(
    "--few-shot",
    type=click.Choice(FEW_SHOT_NAMES),
    help="How chat shows few-shot examples. turns: as turns of the chat, each answer where the model gives its own. one-turn: "
    "before the question, in its turn.  [default: turns]",
)
tasks: Decorator = click.option(
    "--tasks",
    default="all",
    show_default=True,
    help="all, or a comma-separated list of "
    + ", ".join(f"{task.name} ({task.shots} examples)" for task in suite.ALL_TASKS)
    + ".",
)


def _limit(may_name_other_tasks: bool) -> Decorator:
    """The option --limit; with `may_name_other_tasks` its names are checked by the command, which knows lm-eval's."""
    return click.option(
        "--limit",
        multiple=True,
        callback=lambda context, parameter, texts: limit_from_texts(texts, may_name_other_tasks=may_name_other_tasks),
        metavar="[TASK=]N",
        help="Use the first N questions of each task (of each MMLU subject), or of TASK; TASK=all: all of them. May be repeated.",
    )


limit, limit_of_any_task = _limit(may_name_other_tasks=False), _limit(may_name_other_tasks=True)
benchmarks: Decorator = click.option(
    "--benchmarks",
    type=PATH,
    metavar="DIR",
    help="Folder of benchmark rows, instead of the hub: TASK/SPLIT.jsonl.gz (or .json, .parquet, …), or the hub's own files "
    "as they are cloned or cached. mini: is the embedded mini suite.",
)
result_benchmarks: Decorator = click.option(
    "--benchmarks",
    type=PATH,
    metavar="DIR",
    help="The rows of the results, as for eval: the page then shows the exact requests.  [default: for each result the mini "
    "suite's, or the folder that it was made with, where that is here; none of the hub]",
)
benchmarks_revision: Decorator = click.option(
    "--benchmarks-revision",
    "benchmarks_revisions",
    multiple=True,
    metavar="[TASK=]REV",
    help="Branch, tag or commit of the hub's data sets, of all or of one task; may be repeated.  [default: their newest commits]",
)
reported: Decorator = click.option(
    "--reported",
    metavar="none|NAME|FILE",
    default="orca_mini_13b",
    show_default=True,
    help="Reported scores to show: none, the name of a shipped set (orca_mini_13b), or a JSON file.",
)
all_tasks: Decorator = click.option(
    "--all-tasks", is_flag=True, help="Show in the table the tasks that no result has, too."
)
with_notes: Decorator = click.option(
    "--notes", "with_notes", is_flag=True, help="Show all notes below the table, with hashes, versions and sources."
)
max_new_tokens: Decorator = click.option(
    "--max-new-tokens",
    multiple=True,
    metavar="TASK=N",
    help="Maximum number of new tokens per answer of TASK, a task whose answers are texts; may be repeated.  "
    "[default: 512 for gsm8k under orca, else 256]",
)
runs: Decorator = click.option(
    "--runs", type=PATH, metavar="DIR", default="runs", show_default=True, help="Folder of runs and their results."
)
model: Decorator = click.option(
    "--model",
    type=MODEL,
    metavar="MODEL",
    help="Name of a run, model folder, GGUF file, or hub id.  [default: the newest finished run]",
)
revision: Decorator = click.option(
    "--revision", help="Branch, tag or commit of a --model of the hub.  [default: its newest commit]"
)
revision_of_argument: Decorator = click.option(
    "--revision", help="Branch, tag or commit of a MODEL of the hub.  [default: its newest commit]"
)


def _overrides(example: str) -> Decorator:
    """The option -o, with an example for its help."""
    return click.option(
        "-o", "overrides", multiple=True, metavar="KEY=VALUE", help=f"Override a key of the recipe: -o {example}."
    )


overrides, data_overrides = _overrides("train.lr=1e-5"), _overrides("sources.dolly.sample=100")


def data_report(default: str) -> Decorator:
    """The option --data-report; `default` says what is taken without it."""
    return click.option(
        "--data-report",
        metavar="FILE|none",
        help="Report of `orca-bench data check` on the training records: its questions are marked. none: mark no question.  "
        f"[default: {default}]",
    )


def output_format(*formats: str, explanation: str = "") -> Decorator:
    """The option --format, of these formats; the first is the default. `explanation` follows the list in the help."""
    return click.option(
        "--format",
        "output_format",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
        help=f"How the output on standard output is written.{explanation and ' '}{explanation}",
    )
