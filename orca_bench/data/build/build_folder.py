"""The folder of a build: where its files lie, whether a recipe may go on in it, and its manifest.

`recipe.yaml` is the resolved recipe, `manifest.yaml` says what was read, answered and spent, `ledger.sqlite` has every answer,
`records.jsonl` the records, and README.md is the data card. The manifest is YAML because a folder's .json files are taken for
data. Its own module because a build, its dry run and its display agree on these names.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orca_bench import yaml_files
from orca_bench.data.build.data_recipe import DataRecipe
from orca_bench.data.build.data_recipe_file import read_data_recipe
from orca_bench.data.build.ledger_reading import LedgerReader
from orca_bench.data.build.teacher_requests import RecipeRequests
from orca_bench.errors import UserError
from orca_bench.files import catch_read_errors, file_sha256, write_text
from orca_bench.recipe import first_difference

DEFAULT_OUTPUT_PARENT = Path("records")
_HASH_COMMENT_START = "\n<!-- Written by orca-bench data build. A card that is changed is not replaced. sha256 "
MANIFEST_FORMAT = "orca-bench data build 1"


@dataclass(frozen=True)
class BuildFolder:
    """The folder of a build and the files in it."""

    path: Path

    @classmethod
    def of_recipe(cls, recipe: DataRecipe) -> BuildFolder:
        """The folder that a recipe names, or records/NAME."""
        return cls(DEFAULT_OUTPUT_PARENT / recipe.name if recipe.output is None else Path(recipe.output))

    @property
    def records_path(self) -> Path:
        """The records, JSON Lines."""
        return self.path / "records.jsonl"

    @property
    def ledger_path(self) -> Path:
        """Every request, attempt and answer, SQLite."""
        return self.path / "ledger.sqlite"

    @property
    def recipe_path(self) -> Path:
        """The resolved recipe."""
        return self.path / "recipe.yaml"

    @property
    def manifest_path(self) -> Path:
        """What was read, answered and spent."""
        return self.path / "manifest.yaml"

    @property
    def card_path(self) -> Path:
        """The data card."""
        return self.path / "README.md"

    def check_recipe(self, recipe: DataRecipe) -> None:
        """Raise UserError where another recipe was built here, with the first key that differs, or where a user's files stand."""
        if not self.manifest_path.exists():
            if self.path.exists() and not self.path.is_dir():
                raise UserError(
                    "this is a file, and the output is a folder", where=self.path, hint="set output in the recipe"
                )
            output_paths = (self.recipe_path, self.records_path, self.card_path)
            foreign_files = [path for path in output_paths if path.exists()]
            if foreign_files:
                raise UserError(
                    "a file that no build wrote stands where the output goes",
                    where=foreign_files[0],
                    hint="choose another folder with -o output=FOLDER",
                )
            return
        if not self.recipe_path.exists():
            return
        if difference := first_difference(read_data_recipe(self.recipe_path), recipe):
            raise UserError(
                f"another recipe was built here: {difference}",
                where=self.path,
                hint="choose another folder with -o output=FOLDER",
            )

    def pinned_commits(self, recipe: DataRecipe) -> dict[str, str]:
        """The commits of hub sets by source, as the last build here read them; empty before it."""
        return {
            name: entry["version"]
            for name, entry in self._earlier_sources().items()
            if name in recipe.sources
            and recipe.sources[name].hub is not None
            and (entry.get("hub"), entry.get("revision")) == (recipe.sources[name].hub, recipe.sources[name].revision)
            and isinstance(entry.get("version"), str)
        }

    def changed_sources(self, requests: RecipeRequests) -> list[str]:
        """The names of the sources that the last build here did not read, or read in another version."""
        earlier_sources = self._earlier_sources()
        return [
            source_rows.name
            for source_rows in requests.sources
            if earlier_sources.get(source_rows.name, {}).get("version") != source_rows.survey.version
        ]

    def check_ledger(self, ledger: LedgerReader) -> None:
        """Raise UserError where the manifest says that answers were paid and the ledger knows of none: it would pay again."""
        spending = self.read_manifest().get("spending")
        tokens = spending.get("prompt_tokens") if isinstance(spending, dict) else None
        if tokens and not ledger.spending_by_source():
            raise UserError(
                f"the manifest says that {tokens:,} prompt tokens were answered here, and the ledger is empty or gone",
                where=self.ledger_path,
                hint="put it back; to ask and pay everything again, remove the folder",
            )

    def check_records(self, ledger: LedgerReader) -> None:
        """Raise UserError where somebody has changed the records since a build wrote them: the next build would replace them.

        A build's own are those whose hash is in the ledger or, of builds before it had such hashes, in the manifest.
        """
        if not self.records_path.exists():
            return
        own_hashes = ledger.records_hashes() | {self.records_hash_of_manifest()}
        with catch_read_errors(self.records_path):
            is_own = file_sha256(self.records_path) in own_hashes
        if not is_own:
            raise UserError(
                "changed since a build wrote it, and the build would replace it",
                where=self.records_path,
                hint="move it to another folder: the same command then writes the build's own again, and pays nothing twice",
            )

    def records_hash_of_manifest(self) -> str | None:
        """The SHA-256 of the records that the last build here wrote, by the manifest; None where it wrote none."""
        sha256 = self.read_manifest().get("records_sha256")
        return sha256 if isinstance(sha256, str) else None

    def read_manifest(self) -> dict[str, Any]:
        """The manifest as it stands; empty where there is none."""
        if not self.manifest_path.exists():
            return {}
        manifest, _ = yaml_files.read_yaml_file(self.manifest_path, "manifest")
        if not isinstance(manifest, dict):
            raise UserError("not a manifest of orca-bench data build", where=self.manifest_path)
        return manifest

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Replace the manifest."""
        write_text(self.manifest_path, yaml_files.to_yaml_text(manifest))

    def write_card(self, card_text: str) -> bool:
        """Replace the data card, unless somebody has changed it since a build wrote it; returns whether it was replaced.

        Its last line is a comment with the hash of the text above it.
        """
        if self.card_path.exists():
            with catch_read_errors(self.card_path):
                earlier_text = self.card_path.read_bytes().decode("utf-8", "replace")
            text_above, _, _ = earlier_text.rpartition(_HASH_COMMENT_START)
            if earlier_text != _with_hash(text_above):
                return False
        write_text(self.card_path, _with_hash(card_text))
        return True

    def _earlier_sources(self) -> dict[str, dict[str, Any]]:
        sources = self.read_manifest().get("sources", {})
        if not isinstance(sources, dict) or not all(isinstance(entry, dict) for entry in sources.values()):
            raise UserError("not a manifest of orca-bench data build", where=self.manifest_path)
        return sources


def _with_hash(card_text: str) -> str:
    """A card with the hash of its text in a last line."""
    return f"{card_text}{_HASH_COMMENT_START}{hashlib.sha256(card_text.encode()).hexdigest()} -->\n"
