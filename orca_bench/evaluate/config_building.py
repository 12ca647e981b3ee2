"""The texts of a user's options in, a checked EvaluationConfig (or RequestSelection) out.

Names become tasks, models are looked for here and on the hub, and each protocol gets the path of its result. Its own module
because the command line and the Python interface take the same texts; nothing here asks a model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orca_bench import hub
from orca_bench.errors import UserError, check_choice
from orca_bench.evaluate.engine_config import ENGINE_NAMES, EngineConfig
from orca_bench.evaluate.protocols import FEW_SHOT_NAMES, REQUEST_PROTOCOLS, default_system_text
from orca_bench.evaluate.tasks import SUITE, Task, select
from orca_bench.models.gguf.gguf_types import KV_CACHE_TYPES
from orca_bench.question_limit import Limit, limit_from_json
from orca_bench.suite import is_suite_spelling, task_facts
from orca_bench.system_messages import system_message

if TYPE_CHECKING:
    from orca_bench.evaluate.evaluation_config import EvaluationConfig
    from orca_bench.evaluate.offline_scoring import RequestSelection

PROTOCOL_NAMES = ("orca", "leaderboard", "both", "chat", "plain")
DTYPE_NAMES = ("auto", "float32", "bfloat16", "float16")


def evaluation_config(
    model_folder_or_id: str,
    runs_folder: Path,
    *,
    tasks: str = "all",
    protocol: str = "orca",
    system: str | int | None = None,
    few_shot: str | None = None,
    benchmarks: Path | None = None,
    benchmarks_revisions: Sequence[str] = (),
    limit: Limit = None,
    max_new_tokens: Sequence[str] = (),
    engine: EngineConfig | None = None,
    dtype: str = "auto",
    revision: str | None = None,
    name: str | None = None,
    out: Path | None = None,
    fresh: bool = False,
    max_seconds: float | None = None,
    data_report: str | Path | None = None,
    log_samples: str | Path | None = None,
    show_message: hub.ShowMessage = lambda line: None,
) -> EvaluationConfig:
    """What `evaluate` runs, with defaults filled in; protocol `both` is leaderboard and orca, `engine` None is hf.

    `model_folder_or_id` is a folder or hub id, `runs_folder` the folder where results go unless `out` names a file. `system`
    None is the protocol's own choice: message 5 under `orca`, none under `chat`. `few_shot`, of `chat`, is of FEW_SHOT_NAMES.
    `benchmarks_revisions` are `REV` or `TASK=REV`, `max_new_tokens` are `TASK=N`. A model of the hub is fetched here
    (`show_message` gets a line about it), and a server is asked for the name of its model. `data_report` is a report of
    `orca-bench data check`, or `none`; by default it is that of the model's folder. `log_samples` is the folder for lm-eval's own
    files, empty for one beside the result. Raises UserError for a text that is not valid.
    """
    check_choice(protocol, PROTOCOL_NAMES, "--protocol")
    check_choice(dtype, DTYPE_NAMES, "--dtype")
    tasks, harness_task_names = split_task_names(tasks, protocol)
    question_limit = limit_from_json(limit, may_name_other_tasks=bool(harness_task_names))
    if max_seconds is not None and not max_seconds > 0:
        raise UserError(f"{max_seconds} is not a length of time", where="--max-time", hint="give more than 0 seconds")
    system_text = chosen_system_text(system, protocol)
    few_shot = check_few_shot(few_shot, protocol)
    dataset_revisions_by_task, max_new_tokens_by_task = (
        revisions_by_task(benchmarks_revisions, benchmarks),
        token_limits_by_task(max_new_tokens, may_name_other_tasks=bool(harness_task_names)),
    )

    from orca_bench.evaluate.evaluation_config import EvaluationConfig
    from orca_bench.evaluate.overlap_marks import report_path
    from orca_bench.evaluate.result_names import default_result_path
    from orca_bench.models.model_folder import locate_model
    from orca_bench.models.model_names import check_model_name

    name, engine = None if name is None else check_model_name(name), engine or EngineConfig()
    # Before gigabytes of a model are fetched.
    selected_tasks = _select_tasks_with_rows(tasks, benchmarks, show_message) if tasks else []
    if engine.engine_name == "llamacpp":
        from orca_bench.evaluate.servers.llamacpp import check_model_and_tasks

        check_model_and_tasks(model_folder_or_id, selected_tasks, dtype)
    is_server = engine.engine_name == "api"
    model_folder = locate_model(
        model_folder_or_id,
        revision,
        show_message,
        with_weights=not is_server,
        dequantizes=engine.engine_name != "vllm",  # which runs GPTQ folders itself
    )
    if name is None:
        name = _served_name(engine) if is_server else model_folder.name
        if engine.engine_name == "llamacpp":  # else its results would take the places of the hf engine's
            name += "-llamacpp"
    protocol_names = ["leaderboard", "orca"] if protocol == "both" else [protocol]
    if out is None:
        result_paths = {
            protocol_name: default_result_path(
                name,
                model_folder,
                runs_folder,
                protocol_name,
                question_limit,
                system_text,
                max_new_tokens_by_task,
                few_shot,
            )
            for protocol_name in protocol_names
        }
    elif len(protocol_names) > 1:
        result_paths = {
            protocol_name: out.with_name(f"{out.stem}-{protocol_name}{out.suffix}") for protocol_name in protocol_names
        }
    else:
        result_paths = {protocol: out}
    return EvaluationConfig(
        model_folder=model_folder,
        model_name=name,
        tasks=selected_tasks,
        result_paths_by_protocol=result_paths,
        system_text=system_text,
        few_shot=few_shot,
        benchmarks_folder=benchmarks,
        question_limit=question_limit,
        dtype=dtype,
        ignores_cached_answers=fresh,
        engine_config=engine,
        max_seconds=max_seconds,
        dataset_revisions_by_task=dataset_revisions_by_task,
        max_new_tokens_by_task=max_new_tokens_by_task,
        # The folder of a served model is that of its tokenizer, which may be another model's.
        data_report_path=report_path(data_report, None if is_server else model_folder),
        has_named_report=data_report is not None,
        harness_task_names=harness_task_names,
        sample_log_folders_by_protocol=_sample_log_folders(log_samples, result_paths),
    )


def _sample_log_folders(log_samples: str | Path | None, result_paths: Mapping[str, Path]) -> dict[str, Path]:
    """The folder of lm-eval's own files by protocol; none where they are not wanted."""
    if log_samples is None:
        return {}
    if str(log_samples) in ("", "."):
        return {protocol: path.parent / "lm_eval" / path.stem for protocol, path in result_paths.items()}
    if len(result_paths) == 1:
        return dict.fromkeys(result_paths, Path(log_samples))
    return {protocol: Path(log_samples) / protocol for protocol in result_paths}


def split_task_names(task_names: str, protocol: str) -> tuple[str, list[str]]:
    """A comma-separated list of tasks parted into those of the suite, as a list of this kind, and names for lm-eval.

    Under protocol `plain` every name that the suite does not have is lm-eval's, which looks for it when the tasks are loaded.
    Raises UserError for a name that the suite does not have under another protocol, and where no task is named.
    """
    names = [name.strip() for name in task_names.split(",") if name.strip()]
    if protocol != "plain" or not names:
        try:
            select(task_names)
        except UserError as error:
            hint = f"{error.hint}; lm-eval's other tasks: only --protocol plain"
            raise UserError(error.problem, where=error.where, hint=hint) from None
        return task_names, []
    suite_names = [name for name in names if name == "all" or is_suite_spelling(name)]
    return ",".join(suite_names), [name for name in dict.fromkeys(names) if name not in suite_names]


def request_selection(
    *,
    tasks: str = "all",
    protocol: str = "orca",
    system: str | int | None = None,
    few_shot: str | None = None,
    benchmarks: Path | None = None,
    benchmarks_revisions: Sequence[str] = (),
    limit: Limit = None,
    max_new_tokens: Sequence[str] = (),
) -> RequestSelection:
    """Which requests are written or scored without a model; the texts are those of `evaluation_config`."""
    check_choice(protocol, REQUEST_PROTOCOLS, "--protocol")
    select(tasks)
    question_limit = limit_from_json(limit)
    system_text = chosen_system_text(system, protocol)
    few_shot, dataset_revisions_by_task = (
        check_few_shot(few_shot, protocol),
        revisions_by_task(benchmarks_revisions, benchmarks),
    )

    from orca_bench.evaluate.offline_scoring import RequestSelection

    max_new_tokens_by_task = token_limits_by_task(max_new_tokens)
    return RequestSelection(
        _select_tasks_with_rows(tasks, benchmarks),
        protocol,
        system_text,
        benchmarks,
        question_limit,
        dataset_revisions_by_task,
        max_new_tokens_by_task,
        few_shot,
    )


def chosen_system_text(system: str | int | None, protocol_name: str) -> str | None:
    """The text of a system message, None for the protocol's own choice; raises UserError where the protocol has none."""
    if system is None:
        return default_system_text(protocol_name)
    if protocol_name in ("leaderboard", "plain"):
        raise UserError(
            f"not an option of --protocol {protocol_name}, which has no system message",
            where="--system",
            hint="it is one of --protocol orca and chat",
        )
    return system_message(system)


def check_few_shot(few_shot: str | None, protocol_name: str) -> str:
    """How few-shot examples are shown, the default filled in; raises UserError for another word and for another protocol."""
    if few_shot is None:
        return FEW_SHOT_NAMES[0]
    check_choice(few_shot, FEW_SHOT_NAMES, "--few-shot")
    if protocol_name != "chat":
        raise UserError(
            f"not an option of --protocol {protocol_name}, whose examples are always one text",
            where="--few-shot",
            hint="it is one of --protocol chat",
        )
    return few_shot


def _select_tasks_with_rows(
    task_names: str, benchmarks_folder: Path | None, show_message: hub.ShowMessage = lambda line: None
) -> list[Task]:
    """The tasks of a comma-separated list; of `all`, those that the suite in a benchmarks directory has rows for.

    `show_message` gets a line about the others. Raises UserError where there is no such directory.
    """
    from orca_bench.evaluate import benchmark_rows

    requested_tasks = select(task_names)
    selected_tasks = (
        benchmark_rows.tasks_of_suite(benchmarks_folder, requested_tasks)
        if task_names.strip() == "all"
        else requested_tasks
    )
    benchmark_rows.read_suite(benchmarks_folder)
    if missing_titles := [task.title for task in requested_tasks if task not in selected_tasks]:
        show_message(f"{benchmarks_folder} has no rows of {', '.join(missing_titles)}: not evaluated")
    return selected_tasks


def engine_config(
    engine: str = "hf",
    processes: int | None = None,
    device_map: str | None = None,
    tensor_parallel: int | None = None,
    base_url: str | None = None,
    served_model: str | None = None,
    concurrency: int | None = None,
    kv_cache: str | None = None,
) -> EngineConfig:
    """The engine hf, vllm, llamacpp or api with its options, defaults filled in.

    Raises UserError for another engine, for an option of another one, for a number that is not positive, and for
    options that exclude one another.
    """
    from orca_bench.evaluate.engine_choice import default_process_count

    check_choice(engine, ENGINE_NAMES, "--engine")
    values_and_engines_by_option: dict[str, tuple[str | int | None, tuple[str, ...]]] = {
        "--processes": (processes, ("hf",)),
        "--device-map": (device_map, ("hf",)),
        "--tensor-parallel": (tensor_parallel, ("vllm",)),
        "--base-url": (base_url, ("api",)),
        "--served-model": (served_model, ("api",)),
        "--concurrency": (concurrency, ("vllm", "llamacpp", "api")),
        "--kv-cache": (kv_cache, ("llamacpp",)),
    }
    for option, (option_value, engines_with_option) in values_and_engines_by_option.items():
        if option_value is not None and engine not in engines_with_option:
            first_names = ", ".join(engines_with_option[:-1])
            hint = f"it is one of {first_names + ' and ' if first_names else ''}{engines_with_option[-1]}"
            raise UserError(f"not an option of --engine {engine}", where=option, hint=hint)
        if isinstance(option_value, int) and option_value < 1:
            raise UserError(f"{option_value} is not a number of them", where=option, hint="give 1 or more")
    if kv_cache is not None:
        check_choice(kv_cache, KV_CACHE_TYPES, "--kv-cache")
    if engine == "api" and base_url is None:
        raise UserError("--engine api needs a server", where="--base-url", hint="http://127.0.0.1:8000/v1, say")
    if device_map is not None and (processes or 1) > 1:
        raise UserError("a model that is spread over all devices is run by one process", where="--processes")

    if processes is None:
        processes = default_process_count() if engine == "hf" and device_map is None else 1
    defaults = EngineConfig(engine)
    return EngineConfig(
        engine,
        processes,
        device_map,
        tensor_parallel or defaults.tensor_parallel_size,
        base_url,
        served_model,
        concurrency,
        kv_cache or defaults.kv_cache_type,
    )


def revisions_by_task(revision_texts: Sequence[str], benchmarks: Path | None) -> dict[str, str]:
    """The revision of each task's data set on the hub: of `REV` for all, of `TASK=REV` for one; raises UserError for others."""
    if revision_texts and benchmarks is not None:
        raise UserError(
            "only rows of the hub have revisions", where="--benchmarks-revision", hint="leave out --benchmarks"
        )
    dataset_revisions_by_task: dict[str, str] = {}
    for revision_text in sorted(
        revision_texts, key=lambda revision_text: "=" in revision_text
    ):  # what is for all tasks first
        task_names, equals_sign, revision = revision_text.rpartition("=")
        if not revision:
            raise UserError(
                "no revision is named", where=f"--benchmarks-revision {revision_text}", hint="REV or TASK=REV"
            )
        dataset_revisions_by_task |= {task.name: revision for task in select(task_names if equals_sign else "all")}
    return dataset_revisions_by_task


def token_limits_by_task(limit_texts: Sequence[str], may_name_other_tasks: bool = False) -> dict[str, int]:
    """The most new tokens of some `TASK=N`; raises UserError for another task and for what is no positive number.

    With `may_name_other_tasks` a name that the suite does not have is taken as it stands.
    """
    generation_task_names = [task.name for task in SUITE if task.generates_text]
    max_new_tokens_by_task: dict[str, int] = {}
    for limit_text in limit_texts:
        name_text, _, token_count_text = limit_text.partition("=")
        is_other = may_name_other_tasks and bool(name_text.strip()) and not is_suite_spelling(name_text)
        if is_other:
            task_name = name_text.strip()
        else:
            task_name = task_facts(name_text, "--max-new-tokens").name if name_text.strip() else ""
        if not is_other and task_name not in generation_task_names:
            raise UserError(
                f"'{limit_text}': {task_name or 'nothing'} is no task whose answers are texts",
                where="--max-new-tokens",
                hint=f"give TASK=N, TASK one of {', '.join(generation_task_names)}",
            )
        if not (token_count_text.isascii() and token_count_text.isdigit() and int(token_count_text[:9]) >= 1):
            raise UserError(
                f"'{limit_text}' gives no number of tokens",
                where="--max-new-tokens",
                hint="give TASK=N with N of 1 or more",
            )
        max_new_tokens_by_task[task_name] = int(token_count_text[:9])
    return max_new_tokens_by_task


def _served_name(config: EngineConfig) -> str:
    """What a server calls its model; raises UserError where it cannot be reached or has several."""
    from orca_bench.evaluate.servers.server_engine import ServerEngine

    assert config.base_url is not None  # `engine_config` refuses api without one
    with contextlib.closing(ServerEngine(config.base_url, config.served_model_name, config.concurrency)) as server:
        return server.served_model_name
