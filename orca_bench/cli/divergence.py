"""`orca-bench divergence`: models and a reference with the same token ids in, how far their distributions differ out."""

from __future__ import annotations

from pathlib import Path

import click

from orca_bench.cli import options


@click.command("divergence")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...", type=options.MODEL)
@click.argument("reference", type=options.MODEL)
@click.option(
    "--records",
    "record_words",
    multiple=True,
    required=True,
    metavar="FILE",
    help="File of records that the models were not trained on, folder of such files, or hub set; may be repeated.",
)
@click.option(
    "--tokens",
    "token_count",
    type=click.IntRange(min=1),
    metavar="N",
    default=options.DIVERGENCE_TOKEN_COUNT,
    show_default=True,
    help="Score at least so many response tokens, of a random sample of the records that is always the same; all where there "
    "are fewer.",
)
@click.option(
    "--max-length",
    type=click.IntRange(min=2),
    metavar="N",
    help="Cut records at so many tokens, as in training.  [default: the smallest window of the models]",
)
@click.option(
    "--out",
    "out_paths",
    type=options.PATH,
    multiple=True,
    metavar="FILE",
    help="Also write the report to this file, as Markdown (.md) or JSON (.json); may be repeated.",
)
@options.output_format("terminal", "markdown", "json", explanation="json has all numbers, unrounded.")
@options.with_notes
@options.runs
def command(
    models: tuple[str, ...],
    reference: str,
    record_words: tuple[str, ...],
    token_count: int,
    max_length: int | None,
    out_paths: tuple[Path, ...],
    output_format: str,
    with_notes: bool,
    runs: Path,
) -> None:
    """Measure how far each MODEL diverges from REFERENCE: what a quantisation costs, token by token.

    MODEL and REFERENCE are runs' names, model folders, GGUF files or hub ids of models with the same token ids. All of them
    score the response tokens of records in the Orca prompt, encoded as in training, over all next tokens: the Kullback–Leibler
    divergence in nats, the share of positions with the same most probable token, the log-probability of the right token and the
    perplexity, as llama.cpp's llama-perplexity --kl-divergence reports them. Standard errors have the records as clusters.

    Weights of a GGUF file are dequantised and computed in float32, as in eval: the loss is the rounding's alone. Where results
    of all models, of the same weights and under the same protocol, are below runs/, the differences on the tasks follow, as
    `orca-bench compare` writes them.

    All models are in memory together. It takes minutes and keeps nothing: an interrupted run starts anew.

    \b
      orca-bench divergence mini-q4_0.gguf mini --records held-out.jsonl
      orca-bench divergence mini-q8_0.gguf mini-q4_0.gguf mini --records held-out.jsonl --out mini.md --out mini.json
    """
    import json

    from orca_bench import api
    from orca_bench.cli import divergence_work
    from orca_bench.cli.console import next_step, progress_message
    from orca_bench.cli.result_output import print_grids
    from orca_bench.models.model_folder import locate_model
    from orca_bench.results.output_files import check_output_file

    divergence_work.check_report_paths(out_paths)
    for path in out_paths:
        check_output_file(path, [*models, reference, *record_words])
    record_files = divergence_work.read_record_files(record_words)
    folders = [
        locate_model(api.select_model(word, runs, progress_message), None, progress_message)
        for word in (reference, *models)
    ]
    report = divergence_work.report_divergence(folders[0], folders[1:], record_files, runs, token_count, max_length)
    if output_format == "json":
        click.echo(json.dumps(report.to_json(), indent=1, ensure_ascii=False))
    else:
        print_grids(report.grids(), output_format, with_notes)
    divergence_work.write_report(report, out_paths)  # after the output, which an error here does not lose
    if output_format == "terminal" and not report.comparisons:
        next_step("eval", "--model", models[0], runs=runs)
