"""A run's folder in, what a card says of the model out: its recipe, its records, its sizes, its versions.

A run's folder may come from anywhere: a value of another type than a run writes is left out. Its own module because `train` and
`publish` read the same files for the same card.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orca_bench import hub, recipe_file
from orca_bench.cards.data_sets import GENERATED_CORPUS, DataSet, known_data_set
from orca_bench.cards.gguf_text import GgufFacts
from orca_bench.errors import UserError
from orca_bench.files import read_json
from orca_bench.models.model_size import WeightFiles
from orca_bench.recipe import Recipe


@dataclass(frozen=True)
class RecordSet:
    """One file or hub set that a model was trained on.

    `rows_by_source` counts its records by what their `source` says, `teachers` are who wrote the responses by their `teacher`.
    """

    name: str
    rows: int | None
    sha256: str | None
    commit: str | None
    rows_by_source: Mapping[str, int] = field(default_factory=dict)
    teachers: Sequence[str] = ()

    @property
    def public_name(self) -> str:
        """The name without the folders of the machine that it lay on."""
        return public_name(self.name)

    @property
    def hub_id(self) -> str | None:
        """The hub id without its revision, None for a file."""
        id_ = self.name.partition("@")[0]
        return id_ if self.commit is not None and hub.has_id_form(id_) else None

    @property
    def data_sets(self) -> list[DataSet]:
        """The published sets that its records are from, by their names; empty where none is known."""
        names = self.rows_by_source or {self.name: 0}
        data_sets = [known_data_set(name) for name in names]
        return list(dict.fromkeys(data_set for data_set in data_sets if data_set is not None))

    @property
    def is_known(self) -> bool:
        """Whether all of its records are from published sets that are known."""
        return all(known_data_set(name) is not None for name in self.rows_by_source or {self.name: 0})


@dataclass(frozen=True)
class TrainingFacts:
    """What a run's folder says of its training; None or empty where it does not say it."""

    recipe: Recipe
    record_sets: Sequence[RecordSet] = ()
    parameters: int | None = None
    examples: int | None = None
    cut_examples: int | None = None
    trained_tokens: int | None = None
    steps: int | None = None
    seconds: float | None = None
    tokenizer_sha256: str | None = None
    commits: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    started: str | None = None

    @property
    def has_hub_base(self) -> bool:
        """Whether the base model came from the hub."""
        base = self.recipe.model.base
        return base is not None and "model.base" in self.commits and hub.has_id_form(base)

    @property
    def partial_example_count(self) -> int | None:
        """How many of the examples it was trained on, where its training ended before all of them; else None."""
        if self.steps is None or self.examples is None:
            return None
        trained_example_count = self.steps * self.recipe.train.global_batch
        return trained_example_count if trained_example_count < self.examples else None


@dataclass(frozen=True)
class ModelFacts:
    """One model: its name, how Python code names it, and its training where that is known.

    `reference` is a folder or hub id, as `from_pretrained` takes it. `has_orca_prompt` says that it carries the
    Orca prompt as its chat template. `parameters` counts its weights' numbers, `step` is the step of its training
    that it was written after. `gguf` is what is known of its file where it is a GGUF file, `weights` of its files in a
    model folder.
    """

    name: str
    reference: str
    has_orca_prompt: bool
    training: TrainingFacts | None = None
    parameters: int | None = None
    is_hub_reference: bool = False
    step: int | None = None
    gguf: GgufFacts | None = None
    weights: WeightFiles | None = None

    @property
    def is_untrained(self) -> bool:
        """Whether its weights are those that its training starts from."""
        return self.step == 0

    @property
    def is_trained_in_orca_prompt(self) -> bool | None:
        """Whether it was trained in the Orca prompt; None for a run's model whose training is not known."""
        if self.is_untrained or not self.has_orca_prompt:
            return False
        return None if self.training is None else True

    @property
    def is_checkpoint(self) -> bool:
        """Whether it was written before its training ended."""
        return self.step is not None and self.training is not None and self.training.steps not in (None, self.step)

    @property
    def is_demonstration(self) -> bool:
        """Whether all of its records are of the corpus that orca-bench generates."""
        record_sets = [] if self.training is None else self.training.record_sets
        data_sets = {data_set for record_set in record_sets for data_set in record_set.data_sets}
        return data_sets == {GENERATED_CORPUS} and all(record_set.is_known for record_set in record_sets)

    @property
    def languages(self) -> list[str]:
        """The languages of its records by their codes: those of the recipe, else those of known sets; empty if not known."""
        if self.training is None:
            return []
        if self.training.recipe.card.language:
            return list(self.training.recipe.card.language)
        record_sets = self.training.record_sets
        if not record_sets or not all(record_set.is_known for record_set in record_sets):
            return []
        return sorted({data_set.language for record_set in record_sets for data_set in record_set.data_sets})

    @property
    def license(self) -> str | None:
        """The licence that its recipe states, as the hub spells it; None where it states none."""
        return None if self.training is None else self.training.recipe.card.license


def read_training(run_folder: Path) -> TrainingFacts | None:
    """The facts of a run's folder, None where it has no recipe; raises UserError where its files cannot be read."""
    recipe_path, manifest_path = run_folder / "recipe.yaml", run_folder / "manifest.json"
    if not recipe_path.is_file():
        return None
    recipe = recipe_file.read_recipe_file(recipe_path)
    manifest = read_json(manifest_path) if manifest_path.is_file() else {}
    if not isinstance(manifest, dict):
        raise UserError("not a JSON object", where=manifest_path)
    libraries = manifest.get("libraries")
    versions = {"orca-bench": manifest.get("orca_bench"), "python": manifest.get("python")}
    versions |= libraries if isinstance(libraries, dict) else {}
    return TrainingFacts(
        recipe=recipe,
        record_sets=[_record_set(entry) for entry in _list(manifest.get("records")) if isinstance(entry, dict)],
        parameters=_count(manifest.get("parameters")),
        examples=_count(manifest.get("examples")),
        cut_examples=_count(manifest.get("cut")),
        trained_tokens=_count(manifest.get("trained_tokens")),
        steps=_count(manifest.get("steps")),
        seconds=_seconds(manifest.get("seconds")),
        tokenizer_sha256=_text(manifest.get("tokenizer_sha256")),
        commits=_texts(manifest.get("commits")),
        versions=_texts(versions | {"orca-bench revision": manifest.get("git")}),
        started=_text(manifest.get("started")),
    )


_MOST_SECONDS = 10.0**9  # longer than any training; not infinite


def public_name(name: str) -> str:
    """A path or hub id as it may be published: of a path that says where it lies on a machine, the last part alone."""
    parts = re.split(r"[\\/]+", name.rstrip("\\/"))
    is_private = name.startswith(("/", "\\", "~")) or ".." in parts or re.match(r"^[A-Za-z]:", name) is not None
    return parts[-1] if is_private else name


def public_reference(folder: Path, name: str) -> str:
    """How code names a model folder: by its path from here, or, where that says where it lies on a machine, by its name."""
    return str(folder) if public_name(str(folder)) == str(folder) else name


def _record_set(entry: Mapping[str, Any]) -> RecordSet:
    rows_by_source = entry.get("rows_by_source")
    return RecordSet(
        name=_text(entry.get("name")) or "records",
        rows=_count(entry.get("rows")),
        sha256=_text(entry.get("sha256")),
        commit=_text(entry.get("commit")),
        rows_by_source={
            source: rows
            for source, rows in (rows_by_source.items() if isinstance(rows_by_source, dict) else ())
            if isinstance(source, str) and _count(rows) is not None
        },
        teachers=[name for name in _list(entry.get("teachers")) if isinstance(name, str)],
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _texts(value: Any) -> dict[str, str]:
    return {
        key: text
        for key, text in (value.items() if isinstance(value, dict) else ())
        if isinstance(key, str) and isinstance(text, str)
    }


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _seconds(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value <= _MOST_SECONDS else None
