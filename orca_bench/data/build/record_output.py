"""Requests and their answers in, the file of records out, with where each came from.

The order is that of the requests, and a record depends on its request and answer alone: the same answers give the same bytes,
in whatever order and after however many interruptions they came. An answer that is no answer (a refusal, an empty text, one that
the token limit cut off) is no record; it stays in the ledger and is counted.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from orca_bench.counts import reporting
from orca_bench.data.build.answers import Answer
from orca_bench.data.build.data_recipe import DataRecipe
from orca_bench.data.build.ledger import Ledger
from orca_bench.data.build.teacher_requests import TeacherRequest
from orca_bench.files import json_line, open_text_replacement

#: The columns of records, with or without provenance in the names that the published Orca sets have.
ColumnNames = Literal["records", "published"]


_PATH_START = re.compile(r"[/~\\.]|[A-Za-z]:[/\\]")


@dataclass
class OutputCounts:
    """What an output has: records and their columns, outcomes by source (`not asked` among them), and the file's hash."""

    records_by_source: Counter[str] = field(default_factory=Counter)
    columns: tuple[str, ...] = ()
    outcomes_by_source: dict[str, Counter[str]] = field(default_factory=dict)
    served_models: Counter[str] = field(default_factory=Counter)
    records_sha256: str = ""

    @property
    def record_count(self) -> int:
        """Records of all sources."""
        return self.records_by_source.total()

    @property
    def outcomes(self) -> Counter[str]:
        """Outcomes of the requests of all sources."""
        return sum(self.outcomes_by_source.values(), Counter())

    @property
    def is_complete(self) -> bool:
        """Whether every request has its outcome, and none was given up; see `RETRYABLE_OUTCOMES` for `rejected`."""
        return not self.outcomes[NOT_ASKED] and not self.outcomes["failed"]


#: The outcome of a request that nothing is known of.
NOT_ASKED = "not asked"


def write_records(
    records_path: Path,
    requests: Iterable[TeacherRequest],
    ledger: Ledger,
    recipe: DataRecipe,
    column_names: ColumnNames = "records",
    report_request_count: Callable[[int], None] = lambda request_count: None,
) -> OutputCounts:
    """Write the records of all answered requests to `records_path`; a file without a record is empty.

    The ledger gets the file's hash. Raises UserError where the disk does not take it; an earlier file is then as it was.
    """
    counts, records_hash = OutputCounts(), hashlib.sha256()
    to_record = _published_record if column_names == "published" else _to_record
    with open_text_replacement(records_path) as handle:
        for request in reporting(requests, report_request_count):
            answer = ledger.answer_of(request.request_id)
            outcomes = counts.outcomes_by_source.setdefault(request.source, Counter())
            outcomes[NOT_ASKED if answer is None else answer.outcome] += 1
            if answer is not None and is_record_outcome(answer.outcome, recipe) and answer.text.strip():
                counts.records_by_source[request.source] += 1
                counts.served_models[served_name(answer.model) or recipe.teacher.model] += 1
                record = to_record(request, answer, recipe)
                counts.columns = tuple(record)
                record_line = json_line(record)
                records_hash.update(record_line.encode())
                handle.write(record_line)
        counts.records_sha256 = records_hash.hexdigest()
        ledger.add_records_hash(counts.records_sha256)  # first: a kill may come between this and the file's replacement
    return counts


def served_name(model: str | None) -> str | None:
    """The model's name as the teacher gives it; of a path, which llama.cpp's server gives, the last part.

    Records and cards are published: no folder of a private machine belongs into them.
    """
    if model is None or not _PATH_START.match(model):
        return model
    return re.split(r"[/\\]", model.rstrip("/\\"))[-1]


def is_record_outcome(outcome: str, recipe: DataRecipe) -> bool:
    """Whether answers of this outcome are records, as far as they have a text."""
    return outcome == "answered" or (outcome == "truncated" and recipe.keep_truncated)


def _to_record(request: TeacherRequest, answer: Answer, recipe: DataRecipe) -> dict[str, Any]:
    teacher = recipe.teacher
    record: dict[str, Any] = {
        "id": request.row_id,
        "source": request.source,
        "source_row": request.row_number,
        "teacher": teacher.model,
        "served_model": served_name(answer.model),
        "parameters": teacher.parameters,
        "finish_reason": answer.finish_reason,
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "system_id": request.system_id,
        "system": request.system,
        "instruction": request.instruction,
        "input": request.input,
        "response": answer.text,
    }
    if teacher.thinking == "column":
        record["reasoning"] = answer.reasoning or ""
    return record


def _published_record(request: TeacherRequest, answer: Answer, recipe: DataRecipe) -> dict[str, Any]:
    """The columns of the published Orca sets (psmathur/WizardLM_Orca and the others that the model card names)."""
    return {
        "system": request.system,
        "instruction": request.instruction,
        "input": request.input,
        "output": answer.text,
    }
