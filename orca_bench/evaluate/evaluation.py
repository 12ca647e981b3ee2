"""The whole of one evaluation: check every input, load the model, run protocol after protocol.

A configuration comes in, result files go out. A protocol makes requests, lm-eval's evaluator hands them to the model, the
task scores the answers: `protocol_run` has that for one protocol; here are what comes before it and who does the work.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from orca_bench import launcher_environment, library_settings
from orca_bench.counts import counted
from orca_bench.errors import Interrupted
from orca_bench.evaluate import benchmark_rows, chat_encoding, engine_choice, protocols
from orca_bench.evaluate.answers import work_sharing
from orca_bench.evaluate.answers.work_sharing import Connection, WorkerPool
from orca_bench.evaluate.answers.workload import Workload, count_text
from orca_bench.evaluate.display import Display, SilentDisplay
from orca_bench.evaluate.evaluation_config import EvaluationConfig
from orca_bench.evaluate.harness.harness_entries import HarnessEntry, check_entry_names, limit_new_tokens, load_entries
from orca_bench.evaluate.harness.language_model import compute
from orca_bench.evaluate.overlap_marks import OverlapMarker, marking_message, open_marker
from orca_bench.evaluate.protocol_run import EvaluationInputs, ProtocolRun, open_run
from orca_bench.files import make_writable_folder
from orca_bench.models.model_warnings import warning_rank
from orca_bench.results.merging import check_output_path
from orca_bench.results.models import Result
from orca_bench.tokenizers import explain_disagreement

__all__ = ["EvaluationConfig", "SilentDisplay", "evaluate", "run_helper"]


@dataclass(frozen=True)
class _SuiteAndRows:
    """The suite that the rows are of, the rows by task, what marks those in the training records, and lm-eval's own tasks."""

    suite: benchmark_rows.Suite
    rows_by_task: dict[str, benchmark_rows.BenchmarkRows]
    marker: OverlapMarker | None
    harness_entries: list[HarnessEntry]


def evaluate(config: EvaluationConfig, display: Display) -> dict[str, Result]:
    """Run an evaluation and write its results; returns them by protocol, and nothing in a launcher's other processes.

    The model folder and all rows are checked before the model is loaded. Raises UserError for what is wrong with the input,
    and Interrupted, naming the partial result, where the user or the time limit stops it.
    """
    deadline_s = None if config.max_seconds is None else time.monotonic() + config.max_seconds
    if launcher_environment.has_other_processes():
        with work_sharing.launched_workers() as (workers, connection, process_count):
            if workers is not None:
                return _run_protocols(
                    config, _load_suite_and_rows(config, display.message), workers, deadline_s, display
                )
            if connection is not None:
                run_helper(config, connection, process_count)
            return {}
    suite_and_rows = _load_suite_and_rows(config, display.message)  # before helpers are started for nothing
    with work_sharing.start_workers(
        config.engine_config.process_count, functools.partial(run_helper, config)
    ) as workers:
        return _run_protocols(config, suite_and_rows, workers, deadline_s, display)


def _run_protocols(
    config: EvaluationConfig,
    suite_and_rows: _SuiteAndRows,
    workers: WorkerPool,
    deadline_s: float | None,
    display: Display,
) -> dict[str, Result]:
    """The first process's part: load the model, count what there is to compute, run each protocol."""
    text_flags = [task.generates_text for task in config.tasks]
    needs_scores = not all(text_flags + [entry.generates_text for entry in suite_and_rows.harness_entries])
    with (
        _open_engine(config, workers.process_count, display, needs_scores) as engine,
        contextlib.ExitStack() as stack,
    ):
        workers.show_message = display.message
        if deadline_s is not None:
            workers.is_expired = lambda: time.monotonic() > deadline_s
        inputs = EvaluationInputs(
            suite_and_rows.suite,
            suite_and_rows.rows_by_task,
            suite_and_rows.marker,
            engine,
            workers,
            suite_and_rows.harness_entries,
        )
        runs_by_protocol = {
            protocol_name: stack.enter_context(open_run(config, protocol_name, inputs, display))
            for protocol_name in config.result_paths_by_protocol
        }
        for warning in _warnings_of_runs(runs_by_protocol.values()):
            display.message(f"{config.model_name}: {warning}")
        workload = Workload()
        for protocol_run in runs_by_protocol.values():
            protocol_run.count(workload)
        if inputs.marker is not None and config.tasks:
            display.message(marking_message(inputs.marker, config.tasks))
        task_count = len(config.tasks) + len(inputs.harness_entries)
        display.message(_heading(config, engine, workload, task_count))
        display.expect(workload)
        results_by_protocol: dict[str, Result] = {}
        for protocol_name, protocol_run in runs_by_protocol.items():
            try:
                results_by_protocol[protocol_name] = protocol_run.run()
            except Interrupted as interruption:
                earlier_results = "".join(
                    f"{finished_protocol} is in {config.result_paths_by_protocol[finished_protocol]}; "
                    for finished_protocol in results_by_protocol
                )
                raise Interrupted(f"{earlier_results}{interruption}") from None
    return results_by_protocol


def _warnings_of_runs(protocol_runs: Iterable[ProtocolRun]) -> list[str]:
    """What the protocols' results warn of the model, each warning once, the most important one first."""
    warnings = [warning for protocol_run in protocol_runs for warning in protocol_run.result.model.warnings]
    return sorted(dict.fromkeys(warnings), key=warning_rank)


def _heading(config: EvaluationConfig, engine: engine_choice.LoadedEngine, workload: Workload, task_count: int) -> str:
    """What is evaluated, in one line: model, size, dtype, device, tasks, requests."""
    description = engine.model_description
    parameter_count = description.get("parameters")
    model_facts = [
        *([f"{count_text(parameter_count)} parameters"] if parameter_count else []),
        *(str(description[key]) for key in ("dtype", "device") if description.get(key)),
    ]
    if not model_facts:
        # The address of the description: that of the configuration may hold a password.
        model_facts = [f"answered by {description['engine'].get('base_url') or config.engine_config.engine_name}"]
    protocols_text = " and ".join(config.result_paths_by_protocol)
    request_text = f", {workload.request_count:,} requests" if workload.request_count else ""
    return (
        f"{config.model_name}: {', '.join(model_facts)}; {counted(task_count, 'task')} "
        f"under {protocols_text}{request_text}"
    )


def run_helper(config: EvaluationConfig, connection: Connection, process_count: int) -> None:
    """Be one of `process_count` processes that answer: do what the first one sends. It also says what is wrong with the input."""
    with (
        work_sharing.reply_with_errors(connection),
        _open_engine(config, process_count, SilentDisplay(), True) as engine,
    ):
        encodings_by_protocol = {
            protocol_name: chat_encoding.encoding_of_model(
                protocol_name, config.model_folder, engine.tokenizer, engine.window_tokens
            )
            for protocol_name in config.result_paths_by_protocol
        }
        work_sharing.answer_work_items(
            connection, lambda work_item: compute(engine.engine, encodings_by_protocol, work_item)
        )


def _load_suite_and_rows(config: EvaluationConfig, show_message: Callable[[str], None]) -> _SuiteAndRows:
    """All rows, with every input checked that can be without loading the model."""
    if config.engine_config.engine_name == "hf":
        config.model_folder.check_model()
    config.model_folder.check_tokenizer()
    if protocols.Chat.name in config.result_paths_by_protocol:
        config.model_folder.chat_template.check(config.system_text, config.few_shot == "turns")
    suite = benchmark_rows.read_suite(config.benchmarks_folder)
    rows_by_task = {
        task.name: benchmark_rows.load_task_rows(
            task, config.benchmarks_folder, config.dataset_revisions_by_task.get(task.name)
        )
        for task in config.tasks
    }
    marker = open_marker(
        config.data_report_path, rows_by_task, config.tasks, None if config.has_named_report else show_message
    )
    for path in config.result_paths_by_protocol.values():
        check_output_path(path)
        make_writable_folder(path.parent)
    harness_entries = (
        load_entries(config.harness_task_names, config.benchmarks_folder) if config.harness_task_names else []
    )
    check_entry_names(config.question_limit.other_task_names, harness_entries, "--limit")
    limit_new_tokens(harness_entries, config.max_new_tokens_by_task)
    return _SuiteAndRows(suite, rows_by_task, marker, harness_entries)


@contextlib.contextmanager
def _open_engine(
    config: EvaluationConfig, process_count: int, display: Display, needs_scores: bool
) -> Iterator[engine_choice.LoadedEngine]:
    """The engine of the configuration, with all that a result says of its model; one of `process_count` on this machine."""
    library_settings.limit_cpu_threads(process_count)
    with engine_choice.open_engine(
        config.engine_config,
        config.model_folder,
        config.model_name,
        config.dtype,
        display.message,
        needs_scores,
        config.model_folder.chat_template.end_ids if protocols.Chat.name in config.result_paths_by_protocol else (),
    ) as engine:
        if (disagreement := config.model_folder.tokenizer_disagreement) is not None:
            display.message(f"{config.model_name}: {explain_disagreement(disagreement)}")
        yield engine
