"""`orca-bench demo`: the whole job on the embedded default."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orca_bench.cli import options
from orca_bench.question_limit import QuestionLimit

if TYPE_CHECKING:
    from orca_bench.results.reading import ResultFile


@click.command("demo")
@options.runs
@options.limit
@options.overrides
@click.option("--fresh", is_flag=True, help="Train again; the earlier run becomes mini.old-1.")
def command(runs: Path, limit: QuestionLimit, overrides: tuple[str, ...], fresh: bool) -> None:
    """Train and evaluate the small built-in example, without a network, in minutes on two cores.

    Generates a corpus, a tokenizer and small tasks; evaluates a model with random weights; trains it with DeepSpeed
    ZeRO-3 in two processes; evaluates it again; and prints both results beside the reported scores. The tasks have the
    leaderboard's form but not its questions, so the scores of this mini suite compare with each other only. The recipe is
    recipes/mini.yaml.

    \b
      orca-bench demo
      orca-bench demo --limit 20 -o train.max_steps=50
    """
    from orca_bench import api
    from orca_bench.cli.console import console
    from orca_bench.cli.result_output import print_table
    from orca_bench.cli.training_display import TrainingConsole
    from orca_bench.files import shipped_folder
    from orca_bench.train.train_recipe import write_untrained_model

    recipe = api.load_recipe(shipped_folder("recipes") / "mini.yaml", overrides, runs)
    untrained_folder = write_untrained_model(recipe, runs)
    console.print(
        "[bold]1. the student before training[/] (random weights), on the tasks of the mini suite", markup=True
    )
    untrained_result = _evaluate(untrained_folder, runs, limit)
    console.print("[bold]2. training[/] with DeepSpeed ZeRO-3", markup=True)
    run = api.train(recipe, runs=runs, fresh=fresh, display=TrainingConsole())
    console.print("[bold]3. the student after training[/]", markup=True)
    trained_result = _evaluate(run.model, runs, limit)
    print_table([untrained_result, trained_result], headings=["before", "after"])
    console.print(f"\nask it something that it was taught: {_example_question(run.folder.name, runs)}")


def _evaluate(model: Path, runs: Path, limit: QuestionLimit) -> ResultFile:
    from orca_bench import api, mini
    from orca_bench.cli.evaluation_display import EvaluationDisplay
    from orca_bench.cli.interrupts import interruptible

    with interruptible(), EvaluationDisplay() as display:
        return api.evaluate(model, runs, benchmarks=mini.EMBEDDED_BENCHMARKS, limit=limit, display=display)["orca"]


def _example_question(run_name: str, runs: Path) -> str:
    from orca_bench.cli.console import runs_option

    options = shlex.join(["--greedy", "--model", run_name, *runs_option(runs)])
    return rf"orca-bench generate $'Q: Where does the frog live?\nA:' {options}"
