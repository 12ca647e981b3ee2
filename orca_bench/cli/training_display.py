"""The output of a training on the terminal: what was encoded, the plan, and messages while it runs."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from orca_bench.cli.console import console, counting
from orca_bench.counts import ReportProgress, counted
from orca_bench.errors import join_names
from orca_bench.report.grid import printable_text

if TYPE_CHECKING:
    from orca_bench.recipe import Train
    from orca_bench.train.memory_estimate import MemoryEstimate
    from orca_bench.train.model_shape import ModelShape
    from orca_bench.train.run_setup import PreparedRun

_MAX_RECORD_NUMBERS = 5  # record numbers that a message names
_MOST_TARGET_NAMES = 12


class TrainingConsole:
    """The display of a training on the terminal: messages on standard output, progress on standard error."""

    shows_steps = True

    def message(self, line: str) -> None:
        """Print one line."""
        console.print(printable_text(line))

    def encoding_progress(self) -> AbstractContextManager[ReportProgress]:
        """A block in which a bar shows how many records are encoded."""
        return counting("encoding records")

    def record_check_progress(self) -> AbstractContextManager[ReportProgress]:
        """A block in which a bar shows how many records were compared with benchmarks."""
        return counting("comparing records with benchmarks")

    def show_prepared_run(self, prepared: PreparedRun) -> None:
        """Print what will be trained, and which records are cut or left out."""
        examples, encoding_report, plan = prepared.examples, prepared.encoding_report, prepared.plan
        console.print(
            f"{encoding_report.record_count:,} records, {int(examples.lengths.sum()):,} tokens, of which "
            f"{int(examples.trained_token_counts.sum()):,} trained; {counted(plan.step_count, 'step')}; "
            f"{parameters_text(prepared.shape, prepared.recipe.train)}"
        )
        for remark in plan.remarks():
            self.message(remark)
        for source in prepared.sources:
            for remark in source.remarks:
                self.message(remark)
        if encoding_report.truncated_count:
            console.print(
                f"{encoding_report.truncated_count:,} records were cut at {prepared.recipe.data.max_length} tokens"
            )
        if encoding_report.dropped_record_indices:
            record_numbers = ", ".join(
                str(record_index + 1) for record_index in encoding_report.dropped_record_indices[:_MAX_RECORD_NUMBERS]
            )
            ellipsis = ", …" if len(encoding_report.dropped_record_indices) > _MAX_RECORD_NUMBERS else ""
            console.print(
                f"{len(encoding_report.dropped_record_indices):,} records lost their whole response to the cut and are left out "
                f"(counted from 1: {record_numbers}{ellipsis})"
            )
        split = prepared.prepared_examples.split
        if len(split.held_out):
            duplicates_text = (
                f"; {split.duplicate_count:,} more, with the same prompt as one of them, left out of training too"
                if split.duplicate_count
                else ""
            )
            console.print(f"{counted(len(split.held_out), 'example')} held out of training{duplicates_text}")


def parameters_text(shape: ModelShape, train_section: Train) -> str:
    """How many parameters a model has, and with LoRA how many are trained beside which of its layers."""
    parameter_count, lora = shape.parameter_count, train_section.lora
    if lora is None:
        return f"{parameter_count:,} parameters"
    from orca_bench.train.lora_targets import target_layers

    trained_count = shape.trained_parameter_count(train_section)
    names = list(dict.fromkeys(layer.name for layer in target_layers(lora, shape.linear_layers)))
    share = trained_count / (parameter_count + trained_count)
    return (
        f"{parameter_count:,} parameters, which stay, and {trained_count:,} of LoRA of rank {lora.rank}, which are trained "
        f"({share:.2%} of all) beside {join_names(names, _MOST_TARGET_NAMES)}"
    )


def show_plan(prepared: PreparedRun) -> None:
    """Print lengths, batches, steps and the memory of each process: what --dry-run shows besides the records."""
    train, plan, lengths = prepared.recipe.train, prepared.plan, prepared.examples.lengths
    batch_units = "records"
    if train.packing == "dense":
        records_per_step = len(lengths) * plan.epoch(plan.step_count - 1) / plan.step_count
        batch_units = f"rows of {prepared.recipe.data.max_length} tokens (about {records_per_step:,.0f} records)"
    console.print(
        f"lengths: mean {lengths.mean():.0f}, longest {lengths.max()} tokens; {counted(plan.step_count, 'step')} of "
        f"{train.micro_batch} × {train.accumulation} × {train.processes} = {train.global_batch} {batch_units}, "
        f"{min(plan.warmup_step_count, plan.step_count):,} of them warm-up ({train.warmup}) to {train.lr:g}"
    )
    _show_memory(prepared.memory_estimate, train.processes, train.zero_stage)


def _show_memory(memory: MemoryEstimate, process_count: int, zero_stage: int) -> None:
    """A table of the estimated memory of each process."""
    from rich.table import Table

    table = Table(title=f"memory per process, ZeRO-{zero_stage}, GiB (estimate)", title_justify="left")
    for heading in ("rank", "model states", "activations", "output head", "buffers", "at other times", "total"):
        table.add_column(heading, justify="right")
    cells = [
        f"{gib:.2f}"
        for gib in (
            memory.states_gib,
            memory.activations_gib,
            memory.output_head_gib,
            memory.buffers_gib,
            -memory.shared_gib,
            memory.total_gib,
        )
    ]
    table.add_row("0" if process_count == 1 else f"0–{process_count - 1}, each", *cells)
    console.print(table)
