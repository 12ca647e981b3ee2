"""What `train` and `demo` share: loading a recipe with its embedded files, training it, showing what was found."""

from __future__ import annotations

from pathlib import Path

from orca_bench import recipe_file
from orca_bench.cli.console import console, counting, show_memory
from orca_bench.errors import UserError
from orca_bench.files import read_json
from orca_bench.recipe import Recipe

_MINI = "mini:"


def load_recipe(path: Path, overrides: tuple[str, ...], runs: Path) -> Recipe:
    """The recipe with `mini:…` paths turned into the files of the embedded default, which are made where they are absent."""
    recipe = recipe_file.load(path, overrides)
    tokenizer, records = recipe.model.tokenizer or "", recipe.data.records
    if not any(name.startswith(_MINI) for name in (tokenizer, *records)):
        return recipe
    from orca_bench.mini import materialize

    files = materialize(runs)

    def resolved(name: str) -> str:
        if not name.startswith(_MINI):
            return name
        if name not in files:
            raise UserError(f"'{name}' is not an embedded file", where=path, hint=f"there are {', '.join(files)}")
        return str(files[name])

    model = recipe.model.model_copy(update={"tokenizer": resolved(tokenizer) if tokenizer else None})
    data = recipe.data.model_copy(update={"records": [resolved(name) for name in records]})
    return recipe.model_copy(update={"model": model, "data": data})


def train(recipe: Recipe, runs: Path, fresh: bool = False, launcher: str = "torchrun"):
    """Prepare and train; returns the finished Run."""
    from orca_bench import child_processes, launcher_environment
    from orca_bench import train as training
    from orca_bench.train import launcher_ranks
    from orca_bench.train.run_folder import Run

    run = Run(runs / recipe.name)
    if launcher_environment.has_other_processes():
        child_processes.follow_parent()
    if not fresh and run.status == "finished" and run.model.is_dir() and run.is_of(recipe):
        run.check_records()
        console.print(f"already trained: {run.model} (--fresh trains again)", highlight=False)
        return run
    store = launcher_ranks.meet() if launcher_environment.has_other_processes() else None
    if launcher_environment.rank() == 0:
        _prepare(recipe, run, fresh)
        if store is not None:
            launcher_ranks.tell(store, run)
    else:
        launcher_ranks.wait(store, run)
    training.launch(run, recipe, launcher, say=lambda line: console.print(line, highlight=False))
    if launcher_environment.rank() == 0:
        note = read_json(run.model / "orca_bench.json")
        if "example" in note:
            line = f"plain transformers still reads the exported tokenizer otherwise: {note['example']}"
            console.print(line, highlight=False, markup=False)
        console.print(f"trained: {run.model}  ({run.manifest['seconds']:.0f} s)", highlight=False)
    return run


def _prepare(recipe: Recipe, run, fresh: bool) -> None:
    """Check, encode and lay out; what can be refused is refused before the minutes that encoding may take."""
    from orca_bench import train as training

    if fresh:
        run.check_is_run()
    else:
        run.check(recipe)
    if not run.is_empty:
        run.lock()
    with counting("encoding records") as progress:
        commits = {} if fresh else run.manifest.get("commits", {})
        prepared = training.describe(recipe, progress, run.tokens_file, commits, _say)
    if fresh and (aside := run.move_aside()):
        console.print(f"the run that was in {run.folder} is now in {aside}", highlight=False, markup=False)
    continues = training.prepare(prepared, run)
    _show_prepared(prepared)
    _show_tokenizer(recipe, prepared.located)
    if continues:
        console.print("continuing from the newest checkpoint")


def _show_tokenizer(recipe: Recipe, located: Recipe) -> None:
    """Say where the folder that the tokenizer comes from disagrees with its SentencePiece model; the export is repaired."""
    from orca_bench import tokenizers

    disagreement = tokenizers.check_folder(located.model.tokenizer or located.model.base)
    if disagreement is not None:
        _say(f"{recipe.model.tokenizer or recipe.model.base}: {tokenizers.explain(disagreement)}")


def _say(line: str) -> None:
    console.print(line, highlight=False, markup=False)


def _show_prepared(prepared) -> None:
    encoded, report, plan = prepared.encoded, prepared.report, prepared.plan
    console.print(
        f"{report.records:,} records, {int(encoded.lengths.sum()):,} tokens, of which {int(encoded.trained.sum()):,} trained; "
        f"{plan.steps:,} steps; {prepared.parameters:,} parameters",
        highlight=False,
    )
    for source in prepared.sources:
        for remark in source.remarks:
            console.print(remark, highlight=False, markup=False)
    if report.truncated_count:
        console.print(
            f"{report.truncated_count:,} records were cut at {prepared.recipe.data.max_length} tokens", highlight=False
        )
    if report.dropped_records:
        first = ", ".join(str(number) for number in report.dropped_records[:5])
        console.print(
            f"{len(report.dropped_records):,} records lost their whole response to the cut and are left out "
            f"(counted from 0: {first}{', …' if len(report.dropped_records) > 5 else ''})",
            highlight=False,
        )


def show_dry_run(recipe: Recipe) -> None:
    """Print what training this recipe would do. What cannot be known here (a hub out of reach) is said, not guessed."""
    from orca_bench import train as training

    console.print("the resolved recipe:\n")
    console.print(recipe.dump(), highlight=False, markup=False)
    try:
        with counting("encoding records") as progress:
            prepared = training.describe(recipe, progress, say=_say, with_weights=False)
    except UserError as error:
        if not _from_hub(recipe):
            raise
        console.print(f"sizes, steps and memory cannot be computed here: {error}", highlight=False, markup=False)
        return
    _show_prepared(prepared)
    train, plan = recipe.train, prepared.plan
    lengths = prepared.encoded.lengths
    console.print(
        f"lengths: mean {lengths.mean():.0f}, longest {lengths.max()} tokens; {plan.steps:,} steps of "
        f"{train.micro_batch} × {train.accumulation} × {train.processes} = {train.global_batch} records, "
        f"{plan.warmup_steps:,} of them warm-up ({train.warmup}) to {train.lr:g}",
        highlight=False,
    )
    show_memory(prepared.memory, train.processes, train.zero_stage)


def _from_hub(recipe: Recipe) -> bool:
    from orca_bench.hub import is_id

    names = [*recipe.data.records, recipe.model.base, recipe.model.tokenizer]
    return any(name and not Path(name).exists() and is_id(name.partition("@")[0]) for name in names)
