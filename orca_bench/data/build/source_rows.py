"""A source of a data recipe in, its chosen instructions out, in the source's order; and a survey of what was left out.

A source is read once to choose rows, where it is sampled, and again for each iteration over its instructions, so that no more
than numbers of rows are held in memory. Its own module because requests are a matter apart from files and the hub.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orca_bench import hub, row_files, row_texts
from orca_bench.data import column_shapes, instructions
from orca_bench.data.build.data_recipe import Columns, Source
from orca_bench.data.instructions import Instruction
from orca_bench.data.row_choices import sample_hash
from orca_bench.errors import UserError, spelling_hint
from orca_bench.files import file_sha256
from orca_bench.sampling_by_hash import HashSample, sample_by_hash


@dataclass
class SourceSurvey:
    """What a source has: its rows, those that are asked, and why others are not.

    `version` is the commit of a hub set, or the hashes of the files. `left_out_by_reason` counts rows that hold no instruction,
    `first_location_by_reason` has the place of the first. Rows that `where`, `most_per_task` and `sample` leave out are no fault:
    `usable_count` rows have an instruction, `filtered_count` of them are not asked for the first reason, and `request_count` are
    asked.
    """

    version: str = ""
    row_count: int = 0
    usable_count: int = 0
    filtered_count: int = 0
    request_count: int = 0
    left_out_by_reason: Counter[str] = field(default_factory=Counter)
    first_location_by_reason: dict[str, str] = field(default_factory=dict)


class SourceRows:
    """The chosen rows of one source, read anew in each iteration.

    `pinned_commit` is the commit of a hub set that an earlier build read; without it the revision is resolved now. Raises
    UserError, with file and line, for what cannot be read, and where no row has an instruction.
    """

    def __init__(self, name: str, source: Source, seed: int, pinned_commit: str | None = None):
        self.name, self._source, self._seed = name, source, seed
        self._commit = self._resolve(pinned_commit)
        self._column_shape = _column_shape(source.columns, name)
        self._chosen_row_numbers: set[int] | None = None  # None: all that are usable
        self.survey = SourceSurvey(version=self._version())
        if source.sample is not None or source.most_per_task is not None:
            self._chosen_row_numbers = self._choose()

    def __iter__(self) -> Iterator[Instruction]:
        self.survey = SourceSurvey(version=self.survey.version)
        for _, instruction in self._usable_rows():
            if self._chosen_row_numbers is None or instruction.row_number in self._chosen_row_numbers:
                self.survey.request_count += 1
                yield instruction
        if not self.survey.request_count:
            self._raise_empty()

    def remarks(self) -> list[str]:
        """What the last whole iteration left out, and a sample that is larger than the source, one line each."""
        survey, sample = self.survey, self._source.sample
        lines = [
            f"left out of {self.name}: {row_texts.rows_phrase(row_count, reason)}; the first is "
            f"{survey.first_location_by_reason[reason]}"
            for reason, row_count in survey.left_out_by_reason.most_common()
        ]
        if sample is not None and survey.request_count < sample:
            lines.append(f"{self.name}: a sample of {sample:,}, and there are only {survey.request_count:,} rows")
        return lines

    def _usable_rows(self) -> Iterator[tuple[dict[str, Any], Instruction]]:
        """Every row that has an instruction and passes `where`, counted in the survey."""
        survey = self.survey
        for location, row in self._located_rows():
            survey.row_count += 1
            if not self._passes_filter(row, location):
                survey.filtered_count += 1
                continue
            instruction = instructions.instruction_of_row(
                row, location, self._column_shape, self.name, survey.row_count
            )
            if reason := _exclusion_reason(instruction):
                survey.left_out_by_reason[reason] += 1
                survey.first_location_by_reason.setdefault(reason, location)
                continue
            survey.usable_count += 1
            yield row, instruction

    def _choose(self) -> set[int]:
        """The numbers of the rows with the smallest hashes: first of each task, then of all that are left."""
        task_limit = self._source.most_per_task or self._source.sample
        assert task_limit is not None
        sample_by_task: dict[str, HashSample[tuple[int, int]]] = defaultdict(lambda: HashSample(task_limit))
        for row, instruction in self._usable_rows():
            task = row_texts.column_text(row, self._source.task_column, instruction.location)
            row_hash = sample_hash(instruction, self._seed)
            sample_by_task[task].add(row_hash, (instruction.row_number, row_hash))
        numbered_hashes = [entry for sample in sample_by_task.values() for entry in sample.items()]
        if self._source.sample is not None:
            numbered_hashes = sample_by_hash(sorted(numbered_hashes), self._source.sample, lambda entry: entry[1])
        return {row_number for row_number, _ in numbered_hashes}

    def _passes_filter(self, row: dict[str, Any], location: str) -> bool:
        for column, allowed_values in (self._source.where or {}).items():
            if column not in row:
                hint = spelling_hint(column, row) or f"columns here: {', '.join(row)}"
                raise UserError(
                    f"no column '{column}', which sources.{self.name}.where names", where=location, hint=hint
                )
            if row_texts.column_text(row, column, location) not in allowed_values:
                return False
        if self._source.task_column is not None and self._source.task_column not in row:
            raise UserError(
                f"no column '{self._source.task_column}', which sources.{self.name}.task_column names",
                where=location,
                hint=spelling_hint(self._source.task_column, row) or f"columns here: {', '.join(row)}",
            )
        return True

    def _located_rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        if self._commit is None:
            for file in self._files():
                yield from row_files.read_rows(file)
            return
        rows = hub.load_dataset_rows(self._commit, self._source.configuration, self._source.split)
        for row_index, row in enumerate(rows):
            yield f"{self._commit.repository_id} row {row_index + 1}", dict(row)

    def _files(self) -> list[Path]:
        assert self._source.files is not None, "`read_data_recipe` refuses a source of neither files nor the hub"
        return row_files.data_files_of(Path(self._source.files))

    def _resolve(self, pinned_commit: str | None) -> hub.Commit | None:
        if self._source.hub is None:
            return None
        if pinned_commit is not None:
            return hub.Commit(self._source.hub, self._source.revision, pinned_commit)
        return hub.resolve_commit(self._source.hub, self._source.revision, "dataset", f"sources.{self.name}.files")

    def _version(self) -> str:
        if self._commit is not None:
            return self._commit.commit_sha
        return " ".join(file_sha256(file) for file in self._files())

    def _raise_empty(self) -> None:
        if self.survey.left_out_by_reason:
            reason, row_count = self.survey.left_out_by_reason.most_common(1)[0]
            raise UserError(
                f"no instruction is left of source '{self.name}': {row_texts.rows_phrase(row_count, reason)}",
                where=self.survey.first_location_by_reason[reason],
            )
        raise UserError(
            f"no row of source '{self.name}' passes its `where`", where=self._source.hub or self._source.files
        )


def _exclusion_reason(instruction: Instruction) -> str:
    """Why a row is not asked; an absent reference answer is no reason, as the teacher answers."""
    if instruction.exclusion_reason and instruction.exclusion_reason not in row_texts.ANSWER_REASONS:
        return instruction.exclusion_reason
    return "" if instruction.instruction_text.strip() else "without an instruction"


def _column_shape(columns: Columns | None, source_name: str) -> column_shapes.ColumnShape | None:
    if columns is None:
        return None
    return column_shapes.ColumnShape(f"sources.{source_name}.columns", **columns.model_dump())
