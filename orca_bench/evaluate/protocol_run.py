"""One protocol of an evaluation: count its requests, then run its tasks one after the other, and write the result after each.

The configuration, the rows and a loaded engine come in; a result file and its questions go out. Its own module because an
evaluation runs several protocols over the same rows with the same engine, each with a result of its own.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orca_bench.errors import Interrupted, OutOfTime, UserError
from orca_bench.evaluate import chat_encoding, protocols, result_building
from orca_bench.evaluate.answers.answer_cache import ANSWER_CACHE_FILE_NAME, AnswerCache
from orca_bench.evaluate.answers.portions import Call
from orca_bench.evaluate.answers.work_sharing import WorkerPool
from orca_bench.evaluate.answers.workload import Workload
from orca_bench.evaluate.benchmark_rows import BenchmarkRows, Suite
from orca_bench.evaluate.chat_encoding import ChatEncoding, merge_warning
from orca_bench.evaluate.display import Display, Titled
from orca_bench.evaluate.engine_choice import LoadedEngine
from orca_bench.evaluate.evaluation_config import EvaluationConfig
from orca_bench.evaluate.harness.harness_entries import HarnessEntry
from orca_bench.evaluate.harness.harness_scores import run_entry
from orca_bench.evaluate.harness.language_model import HarnessModel
from orca_bench.evaluate.harness.lm_eval_run import TaskOutcome
from orca_bench.evaluate.harness.plain_protocol import Plain, harness_facts, run_plain
from orca_bench.evaluate.harness.protocol_tasks import instances_of, run_documents
from orca_bench.evaluate.harness.sample_log import SampleLog
from orca_bench.evaluate.overlap_marks import OverlapMarker
from orca_bench.evaluate.request_encoding import MAX_NEW_TOKENS
from orca_bench.evaluate.tasks import Task
from orca_bench.models import model_warnings
from orca_bench.results.merging import ResultOutput
from orca_bench.results.models import Question, Result
from orca_bench.results.task_results import TaskResult


@dataclass(frozen=True)
class EvaluationInputs:
    """What the protocols of one evaluation share: the suite, the rows by task, the engine, and the processes that compute.

    `marker` marks the questions that are in the training records, where there is a report of them. `harness_entries` are
    tasks and groups of lm-eval that the suite does not have, for protocol `plain`.
    """

    suite: Suite
    rows_by_task: Mapping[str, BenchmarkRows]
    marker: OverlapMarker | None
    engine: LoadedEngine
    workers: WorkerPool
    harness_entries: Sequence[HarnessEntry] = ()


@dataclass
class ProtocolRun:
    """One protocol of an evaluation: its result so far and the file that it goes to, and the model as it answers under it.

    `prepared_calls_by_task` are the requests of tasks that `count` has encoded and `run` has not yet run, by task.
    """

    config: EvaluationConfig
    inputs: EvaluationInputs
    display: Display
    protocol: protocols.RequestProtocol | Plain
    result: Result
    output: ResultOutput
    harness_model: HarnessModel
    prepared_calls_by_task: dict[str, Call] = field(default_factory=dict)

    def count(self, workload: Workload) -> None:
        """Add what there is to compute to a workload; of `plain` nothing is known before it runs.

        All requests are encoded, so that what is wrong with one is said before the first is computed: raises UserError with
        the request named.
        """
        if isinstance(self.protocol, Plain):
            workload.uncounted_protocols.append(self.protocol.name)
            return
        for task in self.config.tasks:
            self.display.count(task, self.protocol.name)
            documents = self.protocol.documents(task, self.inputs.rows_by_task[task.name], self._limit_of(task))
            call = self.harness_model.prepare(instances_of(task, self.protocol, documents))
            if call.discards_first_text_tokens and not self.inputs.engine.returns_text_tokens:
                raise UserError(
                    f"{task.title} under {self.protocol.name} throws the first tokens of some texts away, and the server "
                    "does not tell the tokens of a text",
                    where=self.config.engine_config.engine_name,
                    hint="the server must know `logprobs`, or choose another protocol",
                )
            if (check_scored_tokens := self.inputs.engine.check_scored_tokens) is not None:
                check_scored_tokens(call.most_scored_tokens, f"an answer of {task.title} under {self.protocol.name}")
            workload.request_count += call.request_count
            workload.total_tokens_by_kind[call.answer_kind] += call.computed_token_count
            workload.cached_tokens_by_kind[call.answer_kind] += self.harness_model.cached_tokens(call)
            self.prepared_calls_by_task[task.name] = call
        if isinstance(encoding := self.harness_model.encoding, ChatEncoding) and encoding.merged_response_count:
            self.result.model.warnings = [*self.result.model.warnings, merge_warning(encoding.merged_response_count)]
            self.display.message(f"{self.config.model_name}: {merge_warning(encoding.merged_response_count)}")

    def run(self) -> Result:
        """Run all tasks; the result is written after each. Raises Interrupted, naming it, where something stops the run."""
        questions: list[Question] = []
        cache, evaluation_key = self.harness_model.cache, [self.output.path.name, self.config.question_limit.to_json()]
        try:
            if cache is not None:  # until a first task is finished no result says that its answers are needed
                cache.begin_evaluation(evaluation_key)
            for task in self.config.tasks:
                questions += self._run_task(task, questions)
            for entry in self._harness_entries:
                questions += self._run_entry(entry, questions)
            if cache is not None:
                cache.finish_evaluation(evaluation_key)
        except (KeyboardInterrupt, OutOfTime) as stop_reason:
            raise self._interruption(stop_reason) from None
        return self.result

    def _run_task(self, task: Task, earlier_questions: list[Question]) -> list[Question]:
        """Run one task, and write the result with its questions after the earlier ones; returns its questions."""
        start_time_s = time.time()
        self.display.begin(task, self.protocol.name)
        task_rows = self.inputs.rows_by_task[task.name]
        task_outcome = self._evaluate_task(task, task_rows)
        self.result.lm_eval[task.name] = task_outcome.lm_eval
        harness_model = self.harness_model
        entry = result_building.add_task_result(
            self.result,
            task,
            task_rows,
            self.protocol,
            task_outcome.questions,
            task_outcome.requests_sha256,
            tokens_sha256=harness_model.tokens_sha256,
            shortened_context_count=harness_model.shortened_context_count,
            server_shortened_context_count=harness_model.server_shortened_context_count or None,
            elapsed_seconds=round(time.time() - start_time_s, 1),
            marker=self.inputs.marker,
        )
        self._write_and_show(task, entry, [*earlier_questions, *task_outcome.questions])
        return task_outcome.questions

    @property
    def _harness_entries(self) -> Sequence[HarnessEntry]:
        return self.inputs.harness_entries if isinstance(self.protocol, Plain) else ()

    def _run_entry(self, entry: HarnessEntry, earlier_questions: list[Question]) -> list[Question]:
        """Run one task or group that the suite does not have, as `_run_task`."""
        start_time_s = time.time()
        self.display.begin(entry, self.protocol.name)
        self.harness_model.begin()
        scores = run_entry(self.harness_model, entry, self.config.question_limit.of_task(entry.name))
        self.result.lm_eval[entry.name] = scores.lm_eval
        result_building.add_harness_result(
            self.result,
            entry.name,
            scores.task_result,
            entry.row_hashes_by_split,
            self.harness_model,
            round(time.time() - start_time_s, 1),
        )
        self._write_and_show(entry, scores.task_result, [*earlier_questions, *scores.questions])
        return list(scores.questions)

    def _write_and_show(self, task: Titled, entry: TaskResult, questions: Sequence[Question]) -> None:
        """Write the result with all its questions; say that a task is done, and how many answers were there already."""
        harness_model, prefix_cache_text = self.harness_model, self._record_prefix_cache()
        self.output.write(self.result, questions)
        self.display.end(task, entry)
        if prefix_cache_text:
            self.display.message(f"{task.title}: {prefix_cache_text}")
        if harness_model.cached_answer_count and harness_model.cache is not None:
            answer_count, cache_path = harness_model.cached_answer_count, harness_model.cache.database_path
            self.display.message(f"{task.title}: {answer_count} answers were cached by an earlier run in {cache_path}")

    def _record_prefix_cache(self) -> str | None:
        """Put what a server had in its prefix cache into the result; returns it in words, None where it is not known."""
        describe_prefix_cache = self.inputs.engine.describe_prefix_cache
        prefix_cache = None if describe_prefix_cache is None else describe_prefix_cache()
        if prefix_cache is None or self.result.model.engine is None:
            return None
        self.result.model.engine.prefix_cache = prefix_cache
        prompt_tokens, cached_tokens = int(prefix_cache["prompt_tokens"]), int(prefix_cache["cached_tokens"])
        return (
            f"the server had {cached_tokens / prompt_tokens:.0%} of {prompt_tokens:,} prompt tokens in its cache so far, as "
            f"the {prefix_cache['counted_by']} count{'s' if prefix_cache['counted_by'] == 'server' else ''}"
        )

    def _evaluate_task(self, task: Task, rows: BenchmarkRows) -> TaskOutcome:
        """The task's scored questions, through lm-eval's evaluator."""
        if isinstance(self.protocol, Plain):
            max_new_tokens = self.protocol.max_new_tokens_by_task.get(task.name, MAX_NEW_TOKENS)
            self.harness_model.begin(default_max_new_tokens=max_new_tokens)
            return run_plain(self.harness_model, task, rows, self._limit_of(task), max_new_tokens)
        self.harness_model.begin(self.prepared_calls_by_task.pop(task.name, None))
        # Made again and not kept since `count`: the strings of all tasks take gigabytes, their ids much less.
        documents = self.protocol.documents(task, rows, self._limit_of(task))
        return run_documents(self.harness_model, task, self.protocol, documents)

    def _limit_of(self, task: Task) -> int | None:
        return self.config.question_limit.of_task(task.name)

    def _interruption(self, stop_reason: BaseException) -> Interrupted:
        """What is said of a run that was stopped: by what, after which tasks, and where they are."""
        protocol_name = self.protocol.name
        ordered_names = [task.name for task in self.config.tasks] + [entry.name for entry in self._harness_entries]
        finished_tasks = ", ".join(name for name in ordered_names if name in self.result.tasks)
        stop_cause = " by --max-time" if isinstance(stop_reason, OutOfTime) else ""
        place = (
            f"after {finished_tasks} of protocol {protocol_name}, stored in {self.output.path}"
            if finished_tasks
            else f"before the first task of protocol {protocol_name} was finished"
        )
        command_text = "the same command without --fresh" if self.config.ignores_cached_answers else "the same command"
        return Interrupted(f"stopped{stop_cause} {place}; {command_text} goes on from there")


@contextlib.contextmanager
def open_run(
    config: EvaluationConfig, protocol_name: str, inputs: EvaluationInputs, display: Display
) -> Iterator[ProtocolRun]:
    """The run of the protocol of a name; its file of answers is open until the block ends.

    Raises UserError where the model's context window has no place for a task's answers, where lm-eval has no task of the name
    and the protocol is `plain`, and where a file that is no result is in the way.
    """
    protocol, engine = _build_protocol(config, protocol_name), inputs.engine
    encoding = chat_encoding.encoding_of_model(
        protocol_name, config.model_folder, engine.tokenizer, engine.window_tokens
    )
    if engine.max_pair_tokens is not None:
        encoding.limit_pair_length(engine.max_pair_tokens)
    for task in config.tasks:
        if protocol_name == Plain.name:
            harness_facts(task)  # raises before the first task is evaluated
        if task.generates_text:
            encoding.check_max_new_tokens(
                protocol.max_new_tokens_by_task[task.name], where=f"{task.title} under protocol {protocol_name}"
            )
    model_description = engine.model_description | {"warnings": _model_warnings(config, protocol_name)}
    question_limit = config.question_limit
    if protocol_name == Plain.name:
        question_limit = question_limit.with_tasks(entry.name for entry in inputs.harness_entries)
    result = result_building.start_result(inputs.suite, protocol, question_limit, model_description)
    if config.benchmarks_folder is not None:
        result.benchmarks = str(config.benchmarks_folder)
    result.protocol.max_length = encoding.window_tokens
    result_path = config.result_paths_by_protocol[protocol_name]
    cache = AnswerCache(
        result_path.parent / ANSWER_CACHE_FILE_NAME,
        _cache_identity(engine, result),
        config.ignores_cached_answers,
        engine.probe_log_probability,
    )
    with contextlib.closing(cache):
        if cache.journal_note:
            display.message(cache.journal_note)
        harness_model = HarnessModel(engine.engine, encoding, cache, inputs.workers, protocol_name, display)
        if (sample_log_folder := config.sample_log_folders_by_protocol.get(protocol_name)) is not None:
            sample_log = SampleLog(sample_log_folder, result.model, result.protocol, config.question_limit)
            harness_model.sample_log = sample_log
            display.message(f"lm-eval's own files of {protocol_name}: {sample_log.results_file}")
        row_hashes_by_task: dict[str, Mapping[str, str]] = {
            task.name: inputs.rows_by_task[task.name].hashes_by_split for task in config.tasks
        }
        if protocol_name == Plain.name:
            row_hashes_by_task |= {entry.name: entry.row_hashes_by_split for entry in inputs.harness_entries}
        output = ResultOutput(result_path, result, row_hashes_by_task)
        for note in output.notes:
            display.message(note)
        yield ProtocolRun(config, inputs, display, protocol, result, output, harness_model)


def _build_protocol(config: EvaluationConfig, protocol_name: str) -> protocols.RequestProtocol | Plain:
    """The protocol of a name with the system message and the token limits of a configuration."""
    if protocol_name == Plain.name:
        return Plain(config.max_new_tokens_by_task)
    chat_settings = protocols.ChatSettings(config.few_shot)
    if protocol_name == protocols.Chat.name:
        template_description = chat_encoding.describe_template(config.model_folder.chat_template, config.system_text)
        chat_settings = protocols.ChatSettings(config.few_shot, template_description)
    return protocols.protocol_by_name(protocol_name, config.system_text, config.max_new_tokens_by_task, chat_settings)


def _model_warnings(config: EvaluationConfig, protocol_name: str) -> list[str]:
    """What a reader of a result should know of the model."""
    model_folder, engine_name = config.model_folder, config.engine_config.engine_name
    is_loaded_elsewhere = engine_name == "api" or (engine_name == "vllm" and model_folder.is_quantized)
    gguf_bits = model_folder.gguf_bits_per_weight
    if engine_name == "llamacpp":
        computation = model_warnings.RUN_BY_LLAMACPP
    elif model_folder.is_quantized:  # else it was dequantised when it was located
        computation = model_warnings.RUN_BY_GPTQ_KERNEL
    else:
        computation = model_warnings.in_full_precision("GPTQ" if gguf_bits is None else "GGUF")
    warnings = model_warnings.model_warnings(
        protocol_name == "orca" and model_folder.has_own_prompt,
        [] if is_loaded_elsewhere else model_folder.unused_weight_names,
        gguf_bits if model_warnings.has_quantized_bits(gguf_bits) else model_folder.gptq_bits_per_weight,
        computation,
    )
    if protocol_name == protocols.Chat.name:
        warnings += chat_encoding.template_notes(model_folder.chat_template, config.system_text)
    return warnings


def _cache_identity(engine: LoadedEngine, result: Result) -> dict[str, Any]:
    """All that answers depend on besides the requests; if any of these differs, cached answers are not reused."""
    excluded_keys = ("scoring", "max_new_tokens")  # changes no answer; stands in each request
    return engine.identity_fields | {
        "protocol": {
            key: setting_value for key, setting_value in result.protocol.to_json().items() if key not in excluded_keys
        },
        "versions": {key: result.versions[key] for key in ("torch", "transformers", "orca_bench")},
    }
