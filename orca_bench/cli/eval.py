"""`orca-bench eval`: a model in, a result with every question out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from orca_bench.cli import options
from orca_bench.evaluate.engine_config import ENGINE_NAMES
from orca_bench.models.gguf.gguf_types import KV_CACHE_TYPES
from orca_bench.question_limit import QuestionLimit


@click.command("eval")
@options.model
@options.revision
@click.option(
    "--name",
    help="Name of the model in the result, its folder and tables.  [default: from the model's folder or id; api: the served "
    "model's name]",
)
@options.tasks
@click.option(
    "--protocol",
    type=click.Choice(["orca", "leaderboard", "both", "chat", "plain"]),
    default="orca",
    show_default=True,
    help="orca: questions in the Orca prompt, scored as trained. leaderboard: the requests and scores of Open LLM Leaderboard "
    "v1, comparable with reported scores. both: one after the other. chat: questions in the model's own chat template. plain: "
    "today's lm-eval with its own prompts.",
)
@options.protocol_system
@options.few_shot
@options.benchmarks
@options.benchmarks_revision
@options.limit_of_any_task
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default="auto",
    show_default=True,
    help="Type of the weights. auto: the checkpoint's own on a GPU; float32 on a CPU, or bfloat16 for LLaMAs of 100M "
    "parameters and more that are stored in it, where the CPU multiplies it in hardware.",
)
@options.max_new_tokens
@options.runs
@click.option(
    "--out",
    type=options.PATH,
    metavar="FILE",
    help="Result file (both: FILE-PROTOCOL.json).  [default: runs/NAME/results/PROTOCOL[-systemN][-limitN].json]",
)
@click.option(
    "--engine",
    type=click.Choice(ENGINE_NAMES),
    default="hf",
    show_default=True,
    help="What computes the answers. hf: orca-bench's own engine. vllm: a vLLM server that this command starts and ends. "
    "llamacpp: llama.cpp itself runs --model FILE.gguf, for the tasks mmlu, gsm8k and drop. api: an OpenAI-compatible "
    "completions server with log-probabilities; --model is then the folder of its tokenizer.",
)
@click.option("--processes", type=int, help="hf: processes that share the work.  [default: one for each GPU, else 1]")
@click.option("--device-map", help="hf: auto spreads a model that is larger than one GPU over all of them.")
@click.option("--tensor-parallel", type=int, help="vllm: GPUs that share each layer.  [default: 1]")
@click.option("--base-url", help="api: address of the server, http://127.0.0.1:8000/v1. Its key: OPENAI_API_KEY.")
@click.option("--served-model", help="api: the server's name for the model.  [default: the only one it has]")
@click.option(
    "--concurrency", type=int, help="vllm, llamacpp, api: requests at the same time.  [default: 16; llamacpp: 1]"
)
@click.option(
    "--kv-cache",
    type=click.Choice(KV_CACHE_TYPES),
    help="llamacpp: type of cached keys and values; f32 turns flash attention off too.  [default: f16, as llama.cpp's]",
)
@click.option("--fresh", is_flag=True, help="Compute all answers again; do not use those of earlier evaluations.")
@click.option(
    "--max-time",
    metavar="TIME",
    help="Start nothing new after this time (90m, 2h, 1h30m, or seconds) and exit with 130. Every answer is stored, and the "
    "same command continues.",
)
@click.option(
    "--log-samples",
    is_flag=False,
    flag_value="",
    metavar="[DIR]",
    help="Write lm-eval's own files too, results_TIME.json and samples_TASK_TIME.jsonl, below DIR.  [DIR: lm_eval/ beside the "
    "result]",
)
@options.data_report("that of the model's folder, where there is one")
@options.output_format("terminal", "markdown", "json", explanation="json is the content of the result file.")
@options.reported
@options.all_tasks
@options.with_notes
def command(
    model: str | None,
    revision: str | None,
    name: str | None,
    tasks: str,
    protocol: str,
    system: str | None,
    few_shot: str | None,
    benchmarks: Path | None,
    benchmarks_revisions: tuple[str, ...],
    limit: QuestionLimit,
    dtype: str,
    max_new_tokens: tuple[str, ...],
    runs: Path,
    out: Path | None,
    fresh: bool,
    max_time: str | None,
    log_samples: str | None,
    data_report: str | None,
    output_format: str,
    reported: str,
    all_tasks: bool,
    with_notes: bool,
    **engine_options: Any,
) -> None:
    """Evaluate a model on the tasks of Open LLM Leaderboard v1, through lm-evaluation-harness.

    --tasks lists the tasks with their few-shot examples. Under the orca protocol, question and few-shot examples stand in the
    User turn, and the answer is scored after the Response header, tokenized as in training. Under the leaderboard protocol the
    model gets, byte for byte, the requests of the harness that gave the reported scores. Under protocol plain, --tasks takes
    lm-eval's other tasks and groups too, by lm-eval's names.

    Writes one JSON file (values, standard errors, n, protocol, versions, hashes, lm-eval's own result) and beside it one JSON
    Lines file with the prediction, gold answer and score of every question. Both grow task by task, and answers.sqlite stores
    every answer within seconds. The same command continues an evaluation that was stopped for any reason. Ctrl-C (or SIGTERM)
    stops it; a second one stops it at once. Under torchrun the command is one of the processes that share the work.

    A result file that exists is extended: tasks of the same setting (model, protocol, limit, rows, versions) stay in it, so
    tasks may be evaluated one by one. A result of another setting is renamed and never overwritten.

    Where a report of `orca-bench data check` says which questions are in the records that the model was trained on, these
    questions are marked, and every table has the score without them.

    \b
      orca-bench eval --tasks all
      orca-bench eval --limit 200 --limit mmlu=20 --benchmarks path/to/benchmarks
      orca-bench eval --model psmathur/orca_mini_13b --revision main --protocol both
      orca-bench eval --model mine.Q4_K_M.gguf --protocol chat
      orca-bench eval --protocol plain --tasks arc_easy,wikitext,mmlu_stem
      orca-bench eval --model /models/llama-65b --device-map auto
      orca-bench eval --model /models/orca_mini_13b --engine api --base-url http://10.0.0.5:8000/v1
      orca-bench eval --model mine.Q4_K_M.gguf --engine llamacpp --tasks mmlu,gsm8k,drop
    """
    from orca_bench.cli.durations import duration_s
    from orca_bench.evaluate.config_building import engine_config, split_task_names

    split_task_names(tasks, protocol)  # cheap errors before the heavy imports
    engine, max_seconds = engine_config(**engine_options), duration_s(max_time)

    from orca_bench import api
    from orca_bench.cli.console import next_step
    from orca_bench.cli.evaluation_display import EvaluationDisplay
    from orca_bench.cli.interrupts import interruptible
    from orca_bench.cli.result_output import print_results
    from orca_bench.report.reported_scores import find_reported_scores

    reported_scores = find_reported_scores(reported)  # a wrong name is an error before the work, not after it

    with interruptible(), EvaluationDisplay() as display:
        results = api.evaluate(
            model,
            runs,
            tasks=tasks,
            protocol=protocol,
            system=system,
            few_shot=few_shot,
            benchmarks=benchmarks,
            benchmarks_revisions=benchmarks_revisions,
            limit=limit,
            max_new_tokens=max_new_tokens,
            engine=engine,
            dtype=dtype,
            revision=revision,
            name=name,
            out=out,
            fresh=fresh,
            max_seconds=max_seconds,
            data_report=data_report,
            log_samples=log_samples,
            display=display,
        )
    if results:  # of a launcher's processes, the first one prints for all
        print_results(list(results.values()), output_format, reported_scores, all_tasks, with_notes)
        if output_format == "terminal":
            next_step("page", *(file.path for file in results.values()))
