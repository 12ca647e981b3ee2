"""Run one task of the suite through lm-evaluation-harness's own evaluator, and give back every question's score.

Under a protocol of ours the harness gets tasks whose requests the protocol made. Under `plain` it gets its own task files
(its prompts, its sampler, its metrics) over the same rows, so that the number is what lm-eval would report.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import lm_eval
import lm_eval.api.task
import lm_eval.evaluator
from lm_eval.api.instance import Instance
from lm_eval.api.metrics import mean
from lm_eval.api.task import Task as HarnessTask
from lm_eval.config.task import TaskConfig
from lm_eval.filters import build_filter_ensemble
from lm_eval.tasks import TaskManager

from orca_bench import launcher_environment
from orca_bench.errors import UserError
from orca_bench.evaluate import benchmark_rows, protocols
from orca_bench.evaluate.answers.portions import Call
from orca_bench.evaluate.benchmark_rows import BenchmarkRows
from orca_bench.evaluate.harness.language_model import HarnessModel
from orca_bench.evaluate.protocols import Answer, Document, Protocol, Request
from orca_bench.evaluate.request_encoding import MAX_NEW_TOKENS
from orca_bench.evaluate.request_files import Key, digest_of, numbered
from orca_bench.evaluate.scoring import Question
from orca_bench.evaluate.tasks import select
from orca_bench.evaluate.tasks.task import ChoiceTask, Score, Task
from orca_bench.system_messages import system_message


@dataclass(frozen=True)
class PlainOutcome:
    """What lm-eval's own task gave: its questions in order, a hash of all requests, and lm-eval's own result."""

    questions: list[Question]
    requests_sha256: str
    lm_eval: dict


def _simple_evaluate(lm: HarnessModel, tasks: list[HarnessTask], limit: int | None, log_samples: bool) -> dict:
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    # lm_eval 0.4.13 asks git for the revision of the current folder, and git complains aloud where that is no checkout.
    lm_eval.evaluator.get_git_commit_hash = lambda: None
    # lm_eval 0.4.13 draws a bar for every task that it builds requests of, with no switch; it would run through ours.
    lm_eval.api.task.tqdm = lambda documents, **options: documents
    # lm_eval 0.4.13 gives its result only where LOCAL_RANK is 0; our processes part the work by themselves.
    with launcher_environment.without_local_rank():
        return lm_eval.simple_evaluate(
            model=lm,
            tasks=tasks,
            limit=limit,
            bootstrap_iters=0,  # standard errors are ours, by the right unit
            log_samples=log_samples,
            task_manager=TaskManager(include_defaults=False),
        )


def _kept(result: dict) -> dict:
    """lm-eval's result without the samples (kept question by question) and the machine (kept once)."""
    keys = ("results", "groups", "configs", "versions", "n-shot", "higher_is_better", "n-samples")
    return {key: result[key] for key in keys if key in result}


# --- a protocol's documents ---------------------------------------------------------------------------------------


def _options(request: Request) -> dict:
    """How a text is to be generated, in lm-eval's words."""
    return {"until": list(request.until), "do_sample": False, "max_gen_toks": request.max_new_tokens}


class ProtocolTask(HarnessTask):
    """One lm-eval task over documents that a protocol made (for MMLU: one subject).

    Any model of lm-eval can be asked with it. `answers` holds what was answered, by request.
    """

    def __init__(self, task: Task, protocol: Protocol, documents: list[Document]):
        self.OUTPUT_TYPE = "generate_until" if task.generates else "multiple_choice"
        self.VERSION = protocol.version
        self._task, self._protocol, self._documents = task, protocol, documents
        self._config = TaskConfig(
            task=documents[0].task,
            output_type=self.OUTPUT_TYPE,
            num_fewshot=task.shots,
            generation_kwargs=_options(documents[0].requests[0]) if task.generates else None,
            metadata={"version": protocol.version, "protocol": protocol.name},
        )
        self._filters = [build_filter_ensemble("none", [["take_first", None]])]
        self._training_docs = self._fewshot_docs = self._instances = None
        self.answers: dict[Key, Answer] = {}

    def has_training_docs(self) -> bool:
        return False

    def has_validation_docs(self) -> bool:
        return False

    def has_test_docs(self) -> bool:
        return True

    def test_docs(self) -> list[dict]:
        return [{"index": d.index, "row": d.row_number} for d in self._documents]

    def doc_to_text(self, doc: dict) -> str:
        return self._documents[doc["index"]].requests[0].context

    def doc_to_target(self, doc: dict) -> str:
        return self._task.target(self._documents[doc["index"]].row)

    def fewshot_context(self, doc, num_fewshot, **options) -> str:
        return self.doc_to_text(doc)  # the protocol has put the examples there

    def construct_requests(self, doc: dict, ctx: str, **options) -> list[Instance]:
        document = self._documents[doc["index"]]
        return [
            Instance(
                request_type="generate_until" if self._task.generates else "loglikelihood",
                doc=doc,
                arguments=(
                    r.context,
                    _options(r) if self._task.generates else r.continuation,
                ),
                idx=number,
                metadata=options["metadata"],
            )
            for number, r in enumerate(document.requests)
        ]

    def process_results(self, doc: dict, results: list) -> dict:
        document = self._documents[doc["index"]]
        given = [Answer(r) if self._task.generates else Answer(float(r[0]), bool(r[1])) for r in results]
        for number, answer in enumerate(given):
            self.answers[document.task, document.index, number] = answer
        return {self._task.metric: self._protocol.score(self._task, document, given).value}

    def aggregation(self) -> dict:
        return {self._task.metric: mean}

    def higher_is_better(self) -> dict:
        return {self._task.metric: True}


def as_tasks(task: Task, protocol: Protocol, documents: list[Document]) -> list[ProtocolTask]:
    """The documents of a task as lm-eval tasks; MMLU's subjects are tasks of their own."""
    by_name: dict[str, list[Document]] = {}
    for document in documents:
        by_name.setdefault(document.task, []).append(document)
    return [ProtocolTask(task, protocol, group) for group in by_name.values()]


def protocol_tasks(
    names: str, protocol: str, benchmarks: Path | None = None, limit: int | None = None, system: str = "5"
) -> list[ProtocolTask]:
    """Tasks for `lm_eval.simple_evaluate(model, tasks=…)` with any of lm-eval's models.

    `names` is `all` or a comma-separated list, `protocol` is leaderboard or orca (`system`: a message's id or a text);
    without `benchmarks`, rows come from the hub. Such a model makes tokens of the strings by its own rules: the
    leaderboard's numbers need `add_bos_token=False`, and only `orca-bench eval` tokenizes the Orca prompt as training does.
    """
    made = protocols.named(protocol, system_message(system))
    return [
        part
        for task in select(names)
        for part in as_tasks(task, made, made.documents(task, benchmark_rows.load(task, benchmarks), limit))
    ]


def prepare(lm: HarnessModel, task: Task, protocol: Protocol, documents: list[Document]) -> Call:
    """The call that `ask` will make with these documents, encoded and counted ahead.

    Raises UserError, with the request named, where one does not fit the model.
    """
    lm.expect(request for document in documents for request in document.requests)
    instances = [
        instance
        for part in as_tasks(task, protocol, documents)
        for doc in part.test_docs()
        for instance in part.construct_requests(
            doc, part.doc_to_text(doc), metadata=(part.config.task, doc["index"], 1)
        )
    ]
    return lm.prepare(instances[0].request_type, instances)


def ask(lm: HarnessModel, task: Task, protocol: Protocol, documents: list[Document]) -> tuple[dict[Key, Answer], dict]:
    """Requests in, answers out, through lm-eval's evaluator: the answer to each request, and lm-eval's own result."""
    tasks = as_tasks(task, protocol, documents)
    lm.expect(request for document in documents for request in document.requests)
    result = _simple_evaluate(lm, tasks, limit=None, log_samples=False)
    answers = {key: answer for part in tasks for key, answer in part.answers.items()}
    for key, request in numbered(documents):
        if task.generates:
            answers[key] = lm.texts[request.context]
    return answers, _kept(result)


# --- lm-eval's own prompts ----------------------------------------------------------------------------------------

#: Our task: the folder of lm-eval's task files, the task's name there, its metric and filter.
_PLAIN = {
    "arc_challenge": ("arc", "arc_challenge", "acc_norm", "none"),
    "hellaswag": ("hellaswag", "hellaswag", "acc_norm", "none"),
    "mmlu": ("mmlu/default", "mmlu", "acc", "none"),
    "truthful_qa": ("truthfulqa", "truthfulqa_mc2", "acc", "none"),
    "winogrande": ("winogrande", "winogrande", "acc", "none"),
    "gsm8k": ("gsm8k", "gsm8k", "exact_match", "strict-match"),
    "drop": ("drop", "drop", "f1", "none"),
}


class Plain:
    """lm-eval's own prompts, no wrapper: BOS, today's templates, lm-eval's sampler and metrics. Named, not implemented, here."""

    name, version = "plain", 1

    def __init__(self, max_new_tokens: Mapping[str, int] = MappingProxyType({})):
        self.max_new_tokens = protocols.Leaderboard.DEFAULT_MAX_NEW_TOKENS | max_new_tokens

    def warnings(self, task: Task) -> list[str]:
        """None of its own."""
        return []

    def describe(self) -> dict:
        return {
            "name": self.name,
            "version": self.version,
            "lm_eval": lm_eval.__version__,
            "tokens": "BOS + context and continuation encoded together",
            "max_new_tokens": protocols.protocol.described_limits(self.max_new_tokens),
        }


def run_plain(
    lm: HarnessModel, task: Task, rows: BenchmarkRows, limit: int | None, max_new_tokens: int = MAX_NEW_TOKENS
) -> PlainOutcome:
    """Run lm-eval's own task files for one task of the suite over the given rows; a text has at most `max_new_tokens` tokens."""
    folder, name, metric, filter_name = _PLAIN[task.name]
    manager = TaskManager(include_path=str(Path(lm_eval.__file__).parent / "tasks" / folder), include_defaults=False)
    found = list(parts(task, rows, name))
    for part_name, *_ in found:
        if part_name not in manager.all_tasks:
            raise UserError(
                f"lm-eval has no task '{part_name}'",
                where=task.name,
                hint="--protocol plain knows MMLU's 57 subjects only",
            )
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    specs = [
        {"task": part, "num_fewshot": task.shots, "custom_dataset": _dataset(task, asked, pool)}
        for part, _, asked, pool in found
    ]
    with _without_bars():
        # Only inside a group does lm_eval 0.4.13 lay a dictionary's keys over the task file of that name.
        loaded = list(manager.load({"group": "orca_bench", "task": specs})["tasks"].values())
    lm.expect([], max_new_tokens)
    result = _simple_evaluate(lm, loaded, limit, log_samples=True)
    questions, sent = [], []
    for part, numbers, asked, _ in found:
        samples = [s for s in result["samples"][part] if s["filter"] == filter_name]
        for sample in sorted(samples, key=lambda s: s["doc_id"]):
            row = asked[sample["doc_id"]]
            score, answers = _plain_score(task, row, sample, metric, lm.texts.get(sample["arguments"][0][0]))
            number = numbers[sample["doc_id"]]
            questions.append(Question(part, sample["doc_id"], number, score, answers, task.cluster(row)))
            sent += [list(arguments) for arguments in sample["arguments"]]
    if task.generates and max_new_tokens != MAX_NEW_TOKENS:
        sent.append(max_new_tokens)
    return PlainOutcome(questions, digest_of(sent), _kept(result))


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    """Keep `datasets` from drawing a bar for every split that lm-eval maps over; its downloads keep theirs."""
    import datasets

    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def parts(task: Task, rows: BenchmarkRows, name: str) -> Iterator[tuple[str, list[int], list[dict], list[dict]]]:
    """(lm-eval task, row numbers, rows asked, rows of the pool) of each part of a task, in order."""
    for part, numbers, pool in protocols.protocol.parts(task, rows):
        yield part if task.name == "mmlu" else name, numbers, [rows.evaluation_rows[i] for i in numbers], pool


def _dataset(task: Task, asked: list[dict], pool: list[dict]) -> Callable:
    def splits(**_) -> dict:
        from datasets import Dataset

        made = {task.split: Dataset.from_list(asked)}
        if task.few_shot_split:
            made[task.few_shot_split] = Dataset.from_list(pool)
        # A task file may name a split that it does not use; lm-eval asks for its rows all the same.
        return made | {split: made[task.split] for split in ("validation", "test") if split not in made}

    return splits


def _plain_score(
    task: Task, row: dict, sample: dict, metric: str, generated: Answer | None
) -> tuple[Score, list[Answer]]:
    value = float(sample[metric])
    if isinstance(task, ChoiceTask):
        answers = [Answer(float(logprob), bool(greedy)) for logprob, greedy in sample["filtered_resps"]]
        own = task.score(row, [answer.value for answer in answers])
        return Score(value, own.prediction, own.gold, {}), answers
    return Score(value, sample["filtered_resps"][0], sample["target"], {}), [generated]
