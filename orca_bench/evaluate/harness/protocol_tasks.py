"""A protocol's documents as lm-eval tasks: lm-eval's evaluator runs them, and each question is scored once, in its task.

Documents come in; scored questions and lm-eval's own result go out. Any model of lm-eval can run such a task
(`protocol_tasks`); with ours the answers carry all that is known of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.metrics import mean
from lm_eval.api.model import LM
from lm_eval.api.task import Task as HarnessTask
from lm_eval.config.task import TaskConfig
from lm_eval.filters import build_filter_ensemble

from orca_bench.errors import check_choice
from orca_bench.evaluate import benchmark_rows, protocols, request_files
from orca_bench.evaluate.harness.lm_eval_instances import RequestInstance, Response, answer_of, generation_options
from orca_bench.evaluate.harness.lm_eval_run import TaskOutcome, evaluate_tasks, without_samples
from orca_bench.evaluate.protocols import Document, RequestProtocol
from orca_bench.evaluate.scoring import score_document
from orca_bench.evaluate.tasks import select
from orca_bench.evaluate.tasks.task import Task
from orca_bench.question_limit import LimitJson, limit_from_json
from orca_bench.results.models import Question
from orca_bench.system_messages import system_message


def run_documents(model: LM, task: Task, protocol: RequestProtocol, documents: Sequence[Document]) -> TaskOutcome:
    """Run a task's documents through lm-eval's evaluator. Raises UserError, with the request named, where one cannot be fed."""
    harness_tasks = as_harness_tasks(task, protocol, documents)
    harness_result = evaluate_tasks(model, harness_tasks)
    questions = [question for harness_task in harness_tasks for question in harness_task.questions]
    return TaskOutcome(questions, request_files.requests_sha256(documents), without_samples(harness_result))


def instances_of(task: Task, protocol: RequestProtocol, documents: Sequence[Document]) -> list[RequestInstance]:
    """The instances that lm-eval's evaluator will hand to the model for a task's documents, in its order."""
    return [
        instance
        for harness_task in as_harness_tasks(task, protocol, documents)
        for instance in harness_task.request_instances()
    ]


def protocol_tasks(
    names: str,
    protocol: str,
    benchmarks: Path | None = None,
    limit: LimitJson = None,
    system: str = "5",
) -> list[ProtocolTask]:
    """Tasks for `lm_eval.simple_evaluate(model, tasks=…)` with any of lm-eval's models.

    `names` is `all` or a comma-separated list, `protocol` is leaderboard or orca (`system`: a message's id
    or a text); without `benchmarks`, rows come from the hub. Such a model makes tokens of the strings by its own rules:
    the leaderboard's numbers need `add_bos_token=False`, and only `orca-bench eval` tokenizes the Orca prompt as training does.
    """
    check_choice(protocol, ("leaderboard", "orca"), "protocol")  # the context of `chat` is no text for a model
    question_limit = limit_from_json(limit)
    request_protocol = protocols.protocol_by_name(protocol, system_message(system))
    return [
        harness_task
        for task in select(names)
        for harness_task in as_harness_tasks(
            task,
            request_protocol,
            request_protocol.documents(
                task, benchmark_rows.load_task_rows(task, benchmarks), question_limit.of_task(task.name)
            ),
        )
    ]


def as_harness_tasks(task: Task, protocol: RequestProtocol, documents: Iterable[Document]) -> list[ProtocolTask]:
    """The documents of a task as lm-eval tasks; MMLU's subjects are tasks of their own."""
    documents_by_part: dict[str, list[Document]] = {}
    for document in documents:
        documents_by_part.setdefault(document.part_name, []).append(document)
    return [ProtocolTask(task, protocol, part_documents) for part_documents in documents_by_part.values()]


class ProtocolTask(HarnessTask):
    """One lm-eval task over documents that a protocol made (for MMLU: of one subject).

    `questions` are the scored questions, in the protocol's order, once lm-eval has run the task.
    """

    def __init__(self, task: Task, protocol: RequestProtocol, documents: Sequence[Document]):
        """`documents` are of one part of the task, in order."""
        # Not lm_eval 0.4.13's own __init__: it takes no configuration (it puts a mapping into the field `task`) and warns of
        # texts without options. tests/evaluate/harness/test_protocol_tasks.py fails when it does.
        self.OUTPUT_TYPE = "generate_until" if task.generates_text else "multiple_choice"
        self.VERSION = protocol.version
        self._config = TaskConfig(
            task=documents[0].part_name,
            output_type=self.OUTPUT_TYPE,
            num_fewshot=task.shots,
            generation_kwargs=generation_options(documents[0].requests[0]) if task.generates_text else None,
            metadata={"version": protocol.version, "protocol": protocol.name},
        )
        self._filters = [build_filter_ensemble("none", [["take_first", None]])]
        self._training_docs = self._fewshot_docs = self._instances = None
        self._task, self._protocol, self._documents = task, protocol, documents
        self.questions: list[Question] = []

    def request_instances(self, **document_selection: Any) -> Iterator[RequestInstance]:
        """The instances of all documents, in order; `document_selection` is `doc_iterator`'s, of which documents."""
        for index, doc in self.doc_iterator(**document_selection):
            yield from self.construct_requests(doc, self.doc_to_text(doc), metadata=(self.task_name, index, 1))

    # --- lm-eval's interface --------------------------------------------------------------------------------------

    def has_training_docs(self) -> bool:
        """False: few-shot examples stand in the contexts."""
        return False

    def has_validation_docs(self) -> bool:
        """False: the documents are lm-eval's test documents."""
        return False

    def has_test_docs(self) -> bool:
        """True: the documents."""
        return True

    def test_docs(self) -> list[dict[str, int]]:
        """By document, its place in the protocol's order and its row number."""
        return [{"index": document.document_index, "row": document.row_index} for document in self._documents]

    def doc_to_text(self, doc: dict[str, int]) -> str:
        """The context of a document's first request."""
        return self._document(doc).requests[0].context

    def doc_to_target(self, doc: dict[str, int]) -> str:
        """The right answer, as it stands in a few-shot example."""
        return self._task.few_shot_answer(self._document(doc).row)

    def fewshot_context(self, doc: dict[str, int], num_fewshot: int, **options: Any) -> str:
        """The context, in which the protocol has put the few-shot examples."""
        return self.doc_to_text(doc)

    def construct_requests(self, doc: dict[str, int], ctx: str, **options: Any) -> list[Instance]:
        """An instance for each request of a document, which carries it."""
        return [
            RequestInstance(
                request_type="generate_until" if request.continuation is None else "loglikelihood",
                doc=doc,
                arguments=(
                    request.context,
                    generation_options(request) if request.continuation is None else request.continuation,
                ),
                idx=request_index,
                metadata=options["metadata"],
                request=request,
            )
            for request_index, request in enumerate(self._document(doc).requests)
        ]

    def process_results(self, doc: dict[str, int], results: Sequence[Response]) -> dict[str, float]:
        """Score a document from the responses to its requests, once: the question is put into `questions`."""
        answers = [answer_of(response) for response in results]
        question = score_document(self._task, self._protocol, self._document(doc), answers)
        self.questions.append(question)
        return {self._task.metric: question.score}

    def aggregation(self) -> dict[str, Any]:
        """The mean, by metric."""
        return {self._task.metric: mean}

    def higher_is_better(self) -> dict[str, bool]:
        """True, by metric."""
        return {self._task.metric: True}

    def _document(self, doc: dict[str, int]) -> Document:
        return self._documents[doc["index"]]
