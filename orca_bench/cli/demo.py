"""`orca-bench demo`."""

from __future__ import annotations

from pathlib import Path

import click

from orca_bench.cli import options


@click.command("demo")
@options.runs
@click.option("--limit", type=int, help="Ask only the first N questions of each task.")
@click.option("-o", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key of recipes/mini.yaml.")
@click.option("--fresh", is_flag=True, help="Train again; the earlier run becomes mini.old-1.")
def command(runs: Path, limit: int | None, overrides: tuple[str, ...], fresh: bool):
    """The whole job on the embedded default, without a network, in minutes on two cores.

    Generates a corpus, a tokenizer and seven small tasks; evaluates a random student; trains it with DeepSpeed ZeRO-3 in two
    processes; evaluates it again; prints both beside the reported scores. The tasks have the shape of the leaderboard's and
    not its questions: the mini suite's scores compare with nothing but each other.

    \b
      orca-bench demo
      orca-bench demo --limit 20 -o train.max_steps=50
    """
    from orca_bench.cli import evaluating, training
    from orca_bench.cli.console import console
    from orca_bench.files import shipped

    evaluating.check("all", limit)
    recipe = training.load_recipe(shipped("recipes") / "mini.yaml", overrides, runs)
    before = _untrained(recipe, runs)
    console.print(
        "[bold]1. the student before training[/] (random weights), on the seven tasks of the mini suite", markup=True
    )
    first = _evaluated(before, runs, limit)
    console.print("[bold]2. training[/] with DeepSpeed ZeRO-3", markup=True)
    run = training.train(recipe, runs, fresh=fresh)
    console.print("[bold]3. the student after training[/]", markup=True)
    second = _evaluated(run.model, runs, limit)
    evaluating.show(first, second, headings=["before", "after"])
    console.print(f"\nask it something that it was taught: {_question(runs)}")


def _question(runs: Path) -> str:
    elsewhere = "" if runs == Path("runs") else f" --runs {runs}"
    return rf"orca-bench generate $'Q: Where does the frog live?\nA:' --greedy{elsewhere}"


def _untrained(recipe, runs: Path) -> Path:
    """The model that training starts from, as a folder."""
    from orca_bench import tokenizers
    from orca_bench.errors import UserError
    from orca_bench.train import student_model

    if recipe.model.random is None:
        raise UserError("the demo starts from random weights", where="-o model.random")
    folder = runs / f"{recipe.name}-untrained" / "model"
    tokenizer = tokenizers.load(recipe.model.tokenizer)
    model = student_model.random_model(student_model.config(recipe, tokenizer), recipe.train.seed)
    student_model.save(model, model.state_dict(), tokenizer, folder, {"run": recipe.name, "step": 0})
    return folder


def _evaluated(model: Path, runs: Path, limit: int | None) -> dict:
    from orca_bench.cli import evaluating

    order = evaluating.order(model, "all", "orca", "5", Path(evaluating.MINI), limit, "auto", runs, None)
    return evaluating.run(order)["orca"]
