"""Options of `export --gptq` in, a GPTQ folder out, with a line that says what it is.

Its own module because the command reads records, by the package of training, and writes a model, by that of models.
"""

from __future__ import annotations

from pathlib import Path

import click

from orca_bench.cli.console import progress_message
from orca_bench.cli.divergence_work import sample_record_file
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


def check_gptq_folder(folder: ModelFolder, out: Path) -> int:
    """The group size in which the folder `out` can be written; raises UserError where it cannot."""
    if not out.absolute().parent.is_dir():
        raise UserError("no such folder", where=out.parent)
    return check_gptq_export(folder)


def export_gptq_folder(
    folder: ModelFolder, out: Path, group_size: int, records: str | None, iterations: int | None
) -> None:
    """Write the GPTQ folder `out`, with the group size of `check_gptq_folder`, calibrated on records in the Orca prompt.

    `records` None are none, which needs 0 iterations; `iterations` None are the default number. Raises UserError for what are no
    records, or too few.
    """
    iteration_count = DEFAULT_ITERATIONS if iterations is None else iterations
    token_ids: list[int] = []
    if records is not None:
        examples = sample_record_file(records, "--records", folder, CALIBRATION_TOKENS)
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
