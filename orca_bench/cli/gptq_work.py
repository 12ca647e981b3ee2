"""Options of `export --gptq` in, a GPTQ folder out, with a line that says what it is.

Its own module because the command reads records, by the package of training, and writes a model, by that of models.
"""

from __future__ import annotations

from pathlib import Path

import click

from orca_bench.cli.console import progress_message
from orca_bench.errors import UserError
from orca_bench.models.gptq.gptq_export import (
    BITS,
    CALIBRATION_TOKENS,
    DEFAULT_ITERATIONS,
    GROUP_SIZES,
    check_gptq_export,
    export_gptq,
)
from orca_bench.models.model_folder import ModelFolder


def export_gptq_folder(folder: ModelFolder, out: Path, records: str | None, iterations: int | None) -> None:
    """Write the GPTQ folder `out`, calibrated on records in the Orca prompt.

    `iterations` None are the default number. Raises UserError where there are no records to calibrate on.
    """
    from orca_bench.train.record_sample import sample_examples

    iteration_count = DEFAULT_ITERATIONS if iterations is None else iterations
    if records is None and iteration_count > 0:
        raise UserError(
            "which records is the rounding calibrated on?",
            where="--gptq",
            hint="give --records, of the kind that the model is to answer; or --gptq-iterations 0, which rounds to the nearest",
        )
    if not out.absolute().parent.is_dir():
        raise UserError("no such folder", where=out.parent)
    group_size = check_gptq_export(folder)
    token_ids: list[int] = []
    if records is not None and iteration_count > 0:
        examples = sample_examples([records], folder.tokenizer, folder.window_tokens, CALIBRATION_TOKENS)
        token_ids = examples.ids.tolist()
        progress_message(
            f"calibration: {len(examples):,} records of {records} in the Orca prompt, {len(token_ids):,} tokens, "
            f"{iteration_count} iterations a block"
        )
    if group_size != GROUP_SIZES[0]:
        progress_message(f"groups of {group_size} weights: the model's layers are no multiples of {GROUP_SIZES[0]}")
    report = export_gptq(folder, out, token_ids, iteration_count, group_size)
    rounding = f"{iteration_count} iterations a block" if iteration_count else "rounded to the nearest"
    click.echo(
        f"exported: {out} ({report.byte_count / 1e6:.1f} MB; {BITS} bits in groups of {group_size}, {rounding}; "
        f"{report.bits_per_weight:.2f} bits a weight with the embedding); read back, it is {folder.path_or_hub_id}'s model"
    )
