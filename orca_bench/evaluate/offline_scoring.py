"""Evaluation with the model elsewhere: requests out to a file, answers back in, a result.

Neither loads a model: what is sent and how it is scored is settled by the protocol and the rows alone, so the answers may
come from any engine on any machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orca_bench import tokenizers
from orca_bench.errors import UserError
from orca_bench.evaluate import (
    answer_files,
    benchmark_rows,
    protocols,
    request_encoding,
    request_files,
    result_building,
    scoring,
)
from orca_bench.evaluate.tasks import Task
from orca_bench.files import make_folder, replacing, sha256
from orca_bench.models import model_folder
from orca_bench.results.merging import ResultOutput, check_path
from orca_bench.results.models import AnswersFile, Question, Result

#: Called with how many tasks are done, and how many there are.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class RequestSelection:
    """Which requests: tasks, protocol, rows, and token limits of answers other than the protocol's own."""

    tasks: Sequence[Task]
    protocol: str
    system: str
    benchmarks: Path | None
    limit: int | None
    benchmarks_revisions: Mapping[str, str] = field(default_factory=dict)
    max_new_tokens: Mapping[str, int] = field(default_factory=dict)

    def rows(self, task: Task) -> benchmark_rows.BenchmarkRows:
        """The rows of one of its tasks."""
        return benchmark_rows.load(task, self.benchmarks, self.benchmarks_revisions.get(task.name))


def write_requests(
    selection: RequestSelection,
    out: Path,
    tokenizer_folder: str | None = None,
    progress: Progress = lambda n, total: None,
) -> int:
    """Write every request as one JSON line, in order; returns how many.

    With `tokenizer_folder`, a model folder, a line has also the token ids that this model would be fed. All rows are checked
    before anything is written.
    """
    benchmark_rows.suite(selection.benchmarks)
    rows = {task.name: selection.rows(task) for task in selection.tasks}
    encoding = None
    if tokenizer_folder is not None:
        encoding = request_encoding.encoding_for(
            selection.protocol, tokenizers.load(tokenizer_folder), model_folder.window_of(tokenizer_folder)
        )
    protocol = protocols.protocol_by_name(selection.protocol, selection.system, selection.max_new_tokens)
    line_count = 0
    if not out.parent.exists():
        make_folder(out.parent)
    with replacing(out) as handle:
        for index, task in enumerate(selection.tasks):
            progress(index, len(selection.tasks))
            for line in request_files.request_lines(
                protocol.documents(task, rows[task.name], selection.limit), encoding
            ):
                handle.write(json.dumps(line, ensure_ascii=False) + "\n")
                line_count += 1
    return line_count


def score_answers(
    path: Path,
    selection: RequestSelection,
    out: Path,
    model_name: str,
    cut_texts: bool = False,
    require_all: bool = False,
    message: Callable[[str], None] = lambda line: None,
) -> Result:
    """Score a file of answers and write the result; returns it. `message` gets what becomes of a result that is at `out`.

    The tasks are those of `selection` that the file answers; with `require_all`, all of them must be. Every answer is checked
    before anything is written. With `cut_texts`, a text ends where a stop string of its request begins.
    """
    check_path(out)
    answer_file = answer_files.read_answers(path)
    tasks = [task for task in selection.tasks if require_all or task.name in answer_file.tasks()]
    if not tasks:
        raise UserError(
            f"no answer to a task of the suite (tasks here: {', '.join(sorted(answer_file.tasks())[:5])})",
            where=path,
            hint="answers are the lines of `orca-bench requests`, each with 'answer'",
        )
    suite = benchmark_rows.suite(selection.benchmarks)
    protocol = protocols.protocol_by_name(selection.protocol, selection.system, selection.max_new_tokens)
    rows = {task.name: selection.rows(task) for task in tasks}
    documents = {task.name: protocol.documents(task, rows[task.name], selection.limit) for task in tasks}
    every_document = [document for of_task in documents.values() for document in of_task]
    answers = answer_files.match_answers(answer_file, every_document, cut_texts)
    result = result_building.start_result(suite, protocol, selection.limit, {"name": model_name, "path": None})
    result.answers = AnswersFile(path=str(path), sha256=sha256(path), notes=answer_file.notes)
    make_folder(out.parent)
    output = ResultOutput(out, result, {task.name: rows[task.name].hashes for task in tasks})
    for note in output.notes:
        message(note)
    questions: list[Question] = []
    for task in tasks:
        of_task = scoring.score_documents(task, protocol, documents[task.name], answers)
        result_building.add_task_result(
            result, task, rows[task.name], protocol, of_task, request_files.digest(documents[task.name])
        )
        questions += of_task
    output.write(result, questions)
    return result
