"""`orca-bench import`: a GGUF file in, a Hugging Face model folder out, compared with llama.cpp where the user wants it."""

from __future__ import annotations

from pathlib import Path

import click

from orca_bench.cli import options
from orca_bench.errors import UserError
from orca_bench.models.gguf.gguf_types import FOLDER_DTYPES


@click.command("import")
@click.argument("gguf_file", metavar="FILE.gguf", type=options.PATH)
@click.option(
    "--to",
    "folder",
    type=options.PATH,
    metavar="DIR",
    help="The folder to write.  [default: FILE without .gguf, beside it]",
)
@click.option(
    "--dtype",
    type=click.Choice(FOLDER_DTYPES),
    default="auto",
    show_default=True,
    help="Type of the written weights. auto: the smallest that holds the file's weights exactly (float16 and bfloat16 for "
    "files of it, float32 for quantised ones).",
)
@click.option(
    "--verify",
    "verifies",
    is_flag=True,
    help="Compare the folder with llama.cpp running the file: token ids of texts, and next-token probabilities. Needs the "
    "package xllamacpp; some minutes.",
)
def command(gguf_file: Path, folder: Path | None, dtype: str, verifies: bool) -> int:
    """Write a model folder with what is in a GGUF file of a LLaMA, llama.cpp's format.

    The weights are dequantised exactly, the rows of the query and key matrices are put back into transformers' order, and the
    tokenizer (SentencePiece or byte-level BPE) and chat template are rebuilt. A model in shards is read whole.

    No import is needed to use a file: `--model FILE.gguf` and the recipe key `model.base` take one as it is, and keep the folder
    in the cache: $ORCA_BENCH_CACHE/gguf, or orca-bench/gguf in the user's cache folder (~/.cache). It may be removed at any time.

    \b
      orca-bench import model.Q4_K_M.gguf --to models/mine
      orca-bench import model.Q4_K_M.gguf --to models/mine --verify
      orca-bench eval --model model.Q4_K_M.gguf --protocol leaderboard
    """
    from orca_bench.cli.console import counting, next_step
    from orca_bench.models.gguf import gguf_import, gguf_verification, llamacpp_server

    if not gguf_file.is_file():
        raise UserError("no such file", where=gguf_file)
    if verifies:
        llamacpp_server.check_installed("comparing with llama.cpp")  # before minutes of work
    model = gguf_import.read_gguf(gguf_file, dtype)
    if folder is None and gguf_import.path_without_suffix(gguf_file) == gguf_file:
        raise UserError("a folder to write is needed: the file's name has no .gguf", where="--to")
    folder = folder or gguf_import.path_without_suffix(gguf_file)
    if folder.exists():
        raise UserError("exists already", where=folder, hint="name another folder with --to, or remove it")
    gguf_import.import_gguf(model, folder)
    types = ", ".join(f"{name} {count / model.weight_count:.1%}" for name, count in model.file.types().items())
    click.echo(
        f"imported: {folder} ({model.weight_count:,} weights, written as {model.dtype}; in the file "
        f"{model.file.bits_per_weight():.2f} bits a weight: {types})"
    )
    if verifies:
        with counting("positions") as progress:
            report = gguf_verification.verify(gguf_file, folder, progress=progress)
        click.echo(str(report))
        if not report.is_equal:
            return 1
    next_step("eval", "--model", folder)
    return 0
