"""`orca-bench eval`."""

from __future__ import annotations

from pathlib import Path

import click

from orca_bench.cli import options


@click.command("eval")
@click.option("--model", help="Model folder or hub id.  [default: the newest finished run]")
@options.revision
@click.option(
    "--name",
    help="What the result, its folder and its column are called.  [default: by the model's folder, or its id; api: the served "
    "model's name]",
)
@click.option("--tasks", default="all", show_default=True, help="all, or a comma-separated list: arc_challenge,gsm8k.")
@click.option(
    "--protocol",
    type=click.Choice(["orca", "leaderboard", "both", "plain"]),
    default="orca",
    show_default=True,
    help="orca: the question in the Orca prompt, scored as trained. leaderboard: as Open LLM Leaderboard v1 asked and scored, "
    "comparable with reported scores. both: these two, side by side. plain: today's lm-eval, its own prompts.",
)
@options.system
@options.benchmarks
@options.benchmarks_revision
@click.option("--limit", type=int, help="Ask only the first N questions of each task (of each MMLU subject).")
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default="auto",
    show_default=True,
    help="auto: float32 on a CPU, the checkpoint's own on a GPU.",
)
@options.max_new_tokens
@options.runs
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Result file (both: FILE-PROTOCOL.json).  [default: runs/NAME/results/PROTOCOL[-systemN][-limitN].json]",
)
@click.option(
    "--engine",
    type=click.Choice(["hf", "vllm", "api"]),
    default="hf",
    show_default=True,
    help="What computes the answers. hf: orca-bench's own engine. vllm: a vLLM server, started and ended here. api: an "
    "OpenAI-compatible completions server with log-probabilities; --model is then the folder of its tokenizer.",
)
@click.option(
    "--processes", type=int, help="hf: so many processes share the work.  [default: one a GPU; 1 without GPUs]"
)
@click.option("--device-map", help="hf: `auto` spreads a model that is larger than a GPU over all; one process.")
@click.option("--tensor-parallel", type=int, help="vllm: GPUs that share each layer.  [default: 1]")
@click.option("--base-url", help="api: the server's address: http://127.0.0.1:8000/v1. Its key: OPENAI_API_KEY.")
@click.option("--served-model", help="api: the name that the server has for the model.  [default: the only one]")
@click.option("--concurrency", type=int, help="vllm, api: requests at a time.  [default: 16]")
@click.option("--fresh", is_flag=True, help="Ask everything again, where an earlier run of the same kept its answers.")
@click.option(
    "--max-time",
    metavar="TIME",
    help="Begin nothing more after so long (90m, 2h, 1h30m, or seconds) and exit with 130: every answer is kept, and the same "
    "command goes on.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
def command(
    model,
    revision,
    name,
    tasks,
    protocol,
    system,
    benchmarks,
    benchmarks_revisions,
    limit,
    dtype,
    max_new_tokens,
    runs,
    out,
    fresh,
    max_time,
    as_json,
    **engine,
):
    """Evaluate a model on the seven tasks of Open LLM Leaderboard v1, through lm-evaluation-harness.

    ARC 25-shot, HellaSwag 10, MMLU 5, TruthfulQA 0, Winogrande 5, GSM8K 5, DROP 3. Under the orca protocol, question and
    few-shot examples stand in the User turn, and the answer is scored behind the Response header, tokenized as in
    training. Under the leaderboard protocol the model gets, byte for byte, what the harness of the reported scores sent.
    Writes one JSON (values, standard errors, n, protocol, versions, hashes, lm-eval's own result) and, beside it,
    one JSON Lines file with every question's prediction, gold and score. Both grow task by task, and answers.sqlite keeps
    every answer within seconds: a run that was stopped, however it was, goes on by the same command. Before it starts it says how
    many tokens are to be computed, after a minute when it will end. Ctrl-C (or SIGTERM) stops it, a second one at once. Under
    torchrun the command is one of the processes that share the work.

    Where the result file is there already, the tasks of the same setting (model, protocol, limit, rows, versions) stay in it:
    tasks may be evaluated one by one. A result of another setting is renamed, never replaced.

    \b
      orca-bench eval --tasks all
      orca-bench eval --tasks arc_challenge,mmlu --limit 100 --benchmarks path/to/benchmarks
      orca-bench eval --model psmathur/orca_mini_13b --revision main --protocol both
      orca-bench eval --model /models/llama-65b --device-map auto
      orca-bench eval --model /models/orca_mini_13b --engine api --base-url http://10.0.0.5:8000/v1
    """
    from orca_bench.cli import evaluating

    evaluating.check(tasks, limit)  # cheap errors before the heavy imports
    choice, max_seconds = evaluating.choice(**engine), evaluating.seconds(max_time)
    order = evaluating.order(
        model,
        tasks,
        protocol,
        system,
        benchmarks,
        limit,
        dtype,
        runs,
        out,
        fresh,
        choice,
        max_seconds,
        name=name,
        revision=revision,
        benchmarks_revisions=benchmarks_revisions,
        room=max_new_tokens,
    )
    results = evaluating.run(order)
    if not results:
        return  # one of a launcher's processes: the first one speaks for all
    evaluating.report([(order.result_paths[name], result) for name, result in results.items()], as_json)
