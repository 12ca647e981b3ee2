"""A run's folder: what is in it, when it may be continued, and which one is newest.

runs/NAME/recipe.yaml      the resolved recipe, every default written out
runs/NAME/manifest.json    status, versions, seeds, data hashes, git revision, sizes, times
runs/NAME/tokens.npz       the encoded records
runs/NAME/metrics.jsonl    one line a step
runs/NAME/checkpoints/     DeepSpeed's, the newest two
runs/NAME/exports/         step-N/, model folders on the way, where the recipe has export_every
runs/NAME/model/           the trained model, a plain Hugging Face folder
runs/NAME/train.log        what the libraries said
"""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess
import time
from pathlib import Path

from orca_bench import __version__
from orca_bench import recipe as recipes
from orca_bench.errors import UserError
from orca_bench.files import make_folder, read_json, sha256, write_json, write_text

_LIBRARIES = ("torch", "transformers", "deepspeed", "tokenizers", "sentencepiece", "numpy")


class Run:
    """The folder of one training run."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.recipe_file = folder / "recipe.yaml"
        self.manifest_file = folder / "manifest.json"
        self.tokens_file = folder / "tokens.npz"
        self.metrics_file = folder / "metrics.jsonl"
        self.checkpoints = folder / "checkpoints"
        self.exports = folder / "exports"
        self.model = folder / "model"
        self.log_file = folder / "train.log"
        #: Written by the command to ask the training processes to stop after the step they are at.
        self.stop_file = folder / ".stop"
        #: Written by the training processes: how they ended.
        self.outcome_file = folder / ".outcome.json"

    @property
    def manifest(self) -> dict:
        """The manifest, or an empty one where there is none yet."""
        return read_json(self.manifest_file) if self.manifest_file.is_file() else {}

    @property
    def status(self) -> str:
        """`new`, `prepared`, `interrupted`, `failed` or `finished`."""
        return self.manifest.get("status", "new")

    def update(self, **entries) -> None:
        """Write entries into the manifest."""
        write_json(self.manifest_file, self.manifest | entries)

    def check_records(self) -> None:
        """Raise UserError where a record file is no longer the one that this run was prepared with.

        A file that is gone, and a hub set, which has no file, are passed over.
        """
        for source in self.manifest.get("records", []):
            path = Path(source["name"])
            if source["sha256"] and path.is_file() and sha256(path) != source["sha256"]:
                raise UserError(
                    f"has changed since the run in {self.folder} read it",
                    where=path,
                    hint="give the run another name (-o name=…) or start over with --fresh",
                )

    def open(self, recipe: recipes.Recipe, fresh: bool) -> bool:
        """Make the folder ready for this recipe; True where there is something to continue.

        Raises UserError where the folder holds a run of another recipe or of other records: nothing computed is thrown
        away unasked, and no run is half of one and half of another.
        """
        if fresh and self.folder.is_dir():
            shutil.rmtree(self.folder)
        make_folder(self.folder)
        if self.recipe_file.is_file():
            earlier = recipes.load(self.recipe_file)
            if earlier != recipe:
                raise UserError(
                    f"holds a run of another recipe ({_first_difference(earlier, recipe)})",
                    where=self.folder,
                    hint="give this one another name (-o name=…) or start over with --fresh",
                )
        else:
            write_text(self.recipe_file, recipe.dump())
        continues = self.status in ("interrupted", "failed", "prepared") and self.checkpoints.is_dir()
        if continues:
            self.check_records()
        return continues


def _first_difference(earlier: recipes.Recipe, recipe: recipes.Recipe) -> str:
    def flat(tree: dict, prefix: str = "") -> dict:
        entries = {}
        for key, value in tree.items():
            entries |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        return entries

    before, after = flat(earlier.model_dump()), flat(recipe.model_dump())
    key = next(key for key in before | after if before.get(key) != after.get(key))
    return f"{key} was {before.get(key)!r}, now {after.get(key)!r}"


def newest_finished(runs: Path) -> Run | None:
    """The run under `runs` that finished last, or None."""
    finished = [run for run in map(Run, sorted(runs.glob("*"))) if run.status == "finished" and run.model.is_dir()]
    return max(finished, key=lambda run: run.manifest["finished"], default=None)


def environment() -> dict:
    """Versions and machine, for a manifest."""
    return {
        "orca_bench": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": {name: importlib.metadata.version(name) for name in _LIBRARIES},
        "git": git_revision(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def git_revision() -> str | None:
    """The revision of the checkout that this code runs from, `+` behind it where files differ; None outside one."""
    here = Path(__file__).parents[2]
    if not (here / "pyproject.toml").is_file():
        return None  # installed into some environment, perhaps inside another project's checkout
    try:
        revision = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12"], cwd=here, capture_output=True, text=True
        )
    except OSError:
        return None
    return revision.stdout.strip() or None
