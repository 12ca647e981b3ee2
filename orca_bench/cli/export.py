"""`orca-bench export`: a model folder in, a GGUF file for llama.cpp out."""

from __future__ import annotations

from pathlib import Path

import click

from orca_bench.cli import options
from orca_bench.errors import UserError
from orca_bench.models.gguf.gguf_types import FILE_TYPES


@click.command("export")
@click.argument("model", required=False, type=options.MODEL)
@click.option(
    "--gguf",
    "type_name",
    type=click.Choice(list(FILE_TYPES)),
    default="q8_0",
    show_default=True,
    help="Type of the matrices in the file; norms are always float32.",
)
@click.option(
    "--out",
    type=options.PATH,
    metavar="FILE",
    help="The file to write.  [default: MODEL-TYPE.gguf in the working directory]",
)
@click.option(
    "--report",
    "record_words",
    multiple=True,
    metavar="RECORDS",
    help="Measure the file beside the folder on these records, which the model was not trained on (30,000 response tokens), and "
    "write NAME.report.md and NAME.report.json beside NAME.gguf; may be repeated.",
)
@options.runs
def command(model: str | None, type_name: str, out: Path | None, record_words: tuple[str, ...], runs: Path) -> None:
    """Write MODEL, a folder of a LLaMA, as a GGUF file, which llama.cpp and the programs built on it run.

    The file has the weights, the tokenizer and the chat template. It is read back and compared with the folder
    (configuration, every matrix, token ids of adversarial texts) before it gets its name. q8_0 has 8.5 bits a weight, q4_0 4.5.
    MODEL may be a run's name, a hub id or another GGUF file; the default is the newest finished run's model. A GGUF file is first
    written as a model folder to the cache: $ORCA_BENCH_CACHE/gguf, or orca-bench/gguf in the user's cache folder (~/.cache). The
    folder is used again, and may be removed at any time.

    With --report, what the rounding costs is measured after the export: bits a weight, size, and how far the file's next-token
    distributions diverge from the folder's, as `orca-bench divergence` measures it.

    \b
      orca-bench export runs/mini/model --gguf f16 --out mini.gguf
      orca-bench export mini --gguf q4_0
      orca-bench export mini --gguf q4_0 --report held-out.jsonl
    """
    from orca_bench import api
    from orca_bench.cli import divergence_work
    from orca_bench.cli.console import next_step, progress_message
    from orca_bench.models.gguf.gguf_export import export_gguf
    from orca_bench.models.model_folder import locate_model
    from orca_bench.models.model_names import results_folder_name

    if out is not None:
        _check_is_new(out)  # before a model is fetched
    folder = locate_model(api.select_model(model, runs, progress_message), None, progress_message)
    out = out or Path(f"{results_folder_name(folder.name)}-{type_name}.gguf")
    _check_is_new(out)
    record_files = divergence_work.prepare_export_report(out, record_words) if record_words else None
    export_gguf(folder, out, type_name)
    click.echo(
        f"exported: {out} ({out.stat().st_size / 1e6:.1f} MB, {type_name}); read back, it is {folder.path_or_hub_id}'s model"
    )
    if record_files is not None:
        divergence_work.write_export_report(folder, out, record_files, runs)
    next_step("eval", "--model", out, runs=runs)


def _check_is_new(out: Path) -> None:
    if out.exists():
        raise UserError("exists already", where=out, hint="name another file with --out, or remove it")
