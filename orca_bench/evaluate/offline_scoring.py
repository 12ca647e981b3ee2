"""Evaluation with the model elsewhere: requests out to a file, answers back in, a result.

Neither loads a model: what is sent and how it is scored is settled by the protocol and the rows alone, so the answers may
come from any engine on any machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from orca_bench.errors import UserError
from orca_bench.evaluate import (
    answer_files,
    benchmark_rows,
    chat_encoding,
    protocols,
    request_files,
    result_building,
    scoring,
)
from orca_bench.evaluate.overlap_marks import open_marker
from orca_bench.evaluate.tasks import Task
from orca_bench.files import file_sha256, make_writable_folder, open_text_replacement
from orca_bench.models.model_folder import ModelFolder
from orca_bench.question_limit import QuestionLimit
from orca_bench.results.merging import ResultOutput, check_output_path
from orca_bench.results.models import AnswersFile, Question, Result

_UNKNOWN_TEMPLATE_NOTE = (
    "the chat template that the answers were made with is not known; score --model names the model that has it"
)

#: Called with how many tasks are done, and how many there are.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class RequestSelection:
    """Which requests: tasks, protocol, rows, and token limits of answers other than the protocol's own.

    `template_description` is what a result says of the chat template under protocol `chat` (`chat_encoding.describe_template`);
    empty where it is not known.
    """

    tasks: Sequence[Task]
    protocol_name: str
    system_text: str | None
    benchmarks_folder: Path | None
    question_limit: QuestionLimit
    dataset_revisions_by_task: Mapping[str, str] = field(default_factory=dict)
    max_new_tokens_by_task: Mapping[str, int] = field(default_factory=dict)
    few_shot: str = protocols.FEW_SHOT_NAMES[0]
    template_description: Mapping[str, str] = field(default_factory=dict)

    def protocol(self) -> protocols.RequestProtocol:
        """The protocol with its system message and token limits; the requests of `chat` do not depend on the template."""
        chat_settings = protocols.ChatSettings(self.few_shot, self.template_description)
        return protocols.protocol_by_name(
            self.protocol_name, self.system_text, self.max_new_tokens_by_task, chat_settings
        )

    def task_rows(self, task: Task) -> benchmark_rows.BenchmarkRows:
        """The rows of one of its tasks."""
        return benchmark_rows.load_task_rows(
            task, self.benchmarks_folder, self.dataset_revisions_by_task.get(task.name)
        )


def with_template_of(selection: RequestSelection, model_folder: ModelFolder) -> RequestSelection:
    """The same requests of protocol `chat`, of which the model's chat template is known.

    Raises UserError where the model has no chat template, or one that does not take the system message or the turns.
    """
    template = model_folder.chat_template
    template.check(selection.system_text, selection.few_shot == "turns")
    return replace(selection, template_description=chat_encoding.describe_template(template, selection.system_text))


def write_requests(
    selection: RequestSelection,
    requests_path: Path,
    model_folder: ModelFolder | None = None,
    progress: Progress = lambda n, total: None,
) -> int:
    """Write every request as one JSON line, in order; returns how many.

    With `model_folder`, whose weights are not needed, a line has also the token ids that this model would be fed. All rows are
    checked before anything is written.
    """
    benchmark_rows.read_suite(selection.benchmarks_folder)
    rows_by_task = {task.name: selection.task_rows(task) for task in selection.tasks}
    encoding = None
    if model_folder is not None:
        if selection.protocol_name == protocols.Chat.name:
            model_folder.chat_template.check(selection.system_text, selection.few_shot == "turns")
        encoding = chat_encoding.encoding_of_model(
            selection.protocol_name, model_folder, model_folder.tokenizer, model_folder.window_tokens
        )
    protocol = selection.protocol()
    line_count = 0
    if not requests_path.parent.exists():
        make_writable_folder(requests_path.parent)
    with open_text_replacement(requests_path) as handle:
        for task_index, task in enumerate(selection.tasks):
            progress(task_index, len(selection.tasks))
            for line in request_files.request_lines(
                protocol.documents(task, rows_by_task[task.name], selection.question_limit.of_task(task.name)), encoding
            ):
                handle.write(json.dumps(line, ensure_ascii=False) + "\n")
                line_count += 1
    return line_count


def score_answers(
    answers_path: Path,
    selection: RequestSelection,
    result_path: Path,
    model_name: str,
    should_cut_texts: bool = False,
    requires_all_tasks: bool = False,
    show_message: Callable[[str], None] = lambda line: None,
    data_report_path: Path | None = None,
) -> Result:
    """Score a file of answers and write the result; returns it. `show_message` gets what becomes of an earlier `result_path`.

    The tasks are those of `selection` that the file answers; with `requires_all_tasks`, all of them must be. Every answer is
    checked before anything is written. With `should_cut_texts`, a text ends where a stop string of its request begins.
    `data_report_path` is a report of `orca-bench data check`, by which questions are marked.
    """
    check_output_path(result_path)
    answer_file = answer_files.read_answers(answers_path)
    tasks = [task for task in selection.tasks if requires_all_tasks or task.name in answer_file.task_names()]
    if not tasks:
        raise UserError(
            f"no answer to a task of the suite (tasks here: {', '.join(sorted(answer_file.task_names())[:5])})",
            where=answers_path,
            hint="answers are the lines of `orca-bench requests`, each with 'answer'",
        )
    suite = benchmark_rows.read_suite(selection.benchmarks_folder)
    protocol = selection.protocol()
    rows_by_task = {task.name: selection.task_rows(task) for task in tasks}
    marker = open_marker(data_report_path, rows_by_task, tasks)
    documents_by_task = {
        task.name: protocol.documents(task, rows_by_task[task.name], selection.question_limit.of_task(task.name))
        for task in tasks
    }
    all_documents = [document for task_documents in documents_by_task.values() for document in task_documents]
    answers = answer_files.match_answers(answer_file, all_documents, should_cut_texts)
    result = result_building.start_result(suite, protocol, selection.question_limit, {"name": model_name, "path": None})
    is_template_unknown = selection.protocol_name == protocols.Chat.name and not selection.template_description
    result.answers = AnswersFile(
        path=str(answers_path),
        sha256=file_sha256(answers_path),
        notes=[*answer_file.reader_notes, *([_UNKNOWN_TEMPLATE_NOTE] if is_template_unknown else [])],
    )
    make_writable_folder(result_path.parent)
    output = ResultOutput(result_path, result, {task.name: rows_by_task[task.name].hashes_by_split for task in tasks})
    for note in output.notes:
        show_message(note)
    questions: list[Question] = []
    for task in tasks:
        task_questions = scoring.score_documents(task, protocol, documents_by_task[task.name], answers)
        result_building.add_task_result(
            result,
            task,
            rows_by_task[task.name],
            protocol,
            task_questions,
            request_files.requests_sha256(documents_by_task[task.name]),
            marker=marker,
        )
        questions += task_questions
    output.write(result, questions)
    return result
