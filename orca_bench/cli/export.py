"""`orca-bench export`: a model folder in, a GGUF file for llama.cpp out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orca_bench.cli import options
from orca_bench.errors import UserError
from orca_bench.models.gguf.gguf_types import FILE_TYPES

if TYPE_CHECKING:
    from orca_bench.models.gguf.importance_matrix import ImportanceMatrix
    from orca_bench.models.model_folder import ModelFolder


@click.command("export")
@click.argument("model", required=False, type=options.MODEL)
@click.option(
    "--gguf",
    "type_name",
    type=click.Choice(list(FILE_TYPES)),
    default="q8_0",
    show_default=True,
    help="Type of the matrices in the file; norms are always float32. Those with _k and iq4 are mixtures, for which each "
    "matrix has the type that llama-quantize gives it; they need the package libgguf.",
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
@click.option(
    "--imatrix",
    "importance_records",
    metavar="RECORDS",
    help="Round more exactly what matters for these records (a file, a folder or a hub set, as a recipe's data.records): an "
    "importance matrix. Use records of the kind that the model is to answer, other ones than those it is measured on. Needs the "
    "package libgguf.",
)
@click.option(
    "--imatrix-tokens",
    "token_count",
    type=click.IntRange(min=1),
    metavar="N",
    help="Tokens of --imatrix that are used, of records in random order, always the same.  [default: 32768]",
)
@options.runs
def command(
    model: str | None,
    type_name: str,
    out: Path | None,
    record_words: tuple[str, ...],
    importance_records: str | None,
    token_count: int | None,
    runs: Path,
) -> None:
    """Write MODEL, a folder of a LLaMA, as a GGUF file, which llama.cpp and the programs built on it run.

    The file has the weights, the tokenizer and the chat template. It is read back and compared with the folder
    (configuration, every matrix, token ids of adversarial texts, logits) before it gets its name. q8_0 has 8.5 bits a weight,
    q4_k_m about 4.8, q4_0 4.5, q2_k about 2.9. What a type costs: README.md of orca_bench/models/gguf.
    MODEL may be a run's name, a hub id or another GGUF file; the default is the newest finished run's model. A GGUF file is first
    written as a model folder to the cache: $ORCA_BENCH_CACHE/gguf, or orca-bench/gguf in the user's cache folder (~/.cache). The
    folder is used again, and may be removed at any time.

    With --report, what the rounding costs is measured after the export: bits a weight, size, and how far the file's next-token
    distributions diverge from the folder's, as `orca-bench divergence` measures it.

    \b
      orca-bench export runs/mini/model --gguf f16 --out mini.gguf
      orca-bench export mini --gguf q4_k_m
      orca-bench export mini --gguf q4_k_m --imatrix records/mini.jsonl --report held-out.jsonl
    """
    from orca_bench import api
    from orca_bench.cli import divergence_work
    from orca_bench.cli.console import counting, next_step, progress_message
    from orca_bench.models.gguf.gguf_export import check_export, export_gguf
    from orca_bench.models.model_folder import locate_model
    from orca_bench.models.model_names import results_folder_name

    if token_count is not None and importance_records is None:
        raise UserError("only with --imatrix, whose tokens it counts", where="--imatrix-tokens")
    if out is not None:
        _check_is_new(out)  # before a model is fetched
    folder = locate_model(api.select_model(model, runs, progress_message), None, progress_message)
    out = out or Path(f"{results_folder_name(folder.name)}-{type_name}.gguf")
    _check_is_new(out)
    check_export(folder, out, type_name, importance_records is not None)
    record_files = divergence_work.prepare_export_report(out, record_words) if record_words else None
    importance = (
        None
        if importance_records is None
        else _measure_importance(folder, importance_records, token_count, progress_message)
    )
    with counting("matrices") as progress:
        report = export_gguf(folder, out, type_name, importance, progress)
    types = ", ".join(f"{name} {count / sum(report.types.values()):.1%}" for name, count in report.types.items())
    click.echo(
        f"exported: {out} ({out.stat().st_size / 1e6:.1f} MB, {report.bits_per_weight:.2f} bits a weight: {types}); read back, "
        f"it is {folder.path_or_hub_id}'s model: its next-token probabilities diverge by {report.mean_kl:.2g} nats on average "
        f"({report.position_count:,} positions of prompts)"
    )
    if record_files is not None:
        divergence_work.write_export_report(folder, out, record_files, runs)
    next_step("eval", "--model", out, runs=runs)


def _check_is_new(out: Path) -> None:
    if out.exists():
        raise UserError("exists already", where=out, hint="name another file with --out, or remove it")


def _measure_importance(
    folder: ModelFolder, records: str, token_count: int | None, show_message: Callable[[str], None]
) -> ImportanceMatrix:
    """The importance matrix over records in the Orca prompt, encoded as training encodes them."""
    from orca_bench.cli.console import counting
    from orca_bench.models.gguf import importance_matrix
    from orca_bench.models.gguf.gguf_export import llama_configuration
    from orca_bench.train.record_sample import sample_examples

    wanted_count = importance_matrix.DEFAULT_TOKEN_COUNT if token_count is None else token_count
    importance_matrix.check_token_count(wanted_count, "--imatrix-tokens")
    examples = sample_examples([records], folder.tokenizer, folder.window_tokens, wanted_count)
    importance_matrix.check_token_count(len(examples.ids), records)
    show_message(f"importance matrix: {len(examples):,} records of {records}, {len(examples.ids):,} tokens")
    sequences = [examples.example(index).tolist() for index in range(len(examples))]
    with counting("tokens") as progress:
        return importance_matrix.measure_importance(
            folder, llama_configuration(folder), sequences, Path(records).name, progress
        )
