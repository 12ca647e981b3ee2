"""`orca-bench plan RECIPE`: a recipe and GPUs in, the memory, time and price of its run out, and what would be cheaper."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orca_bench.cli import options
from orca_bench.counts import counted
from orca_bench.errors import UserError

if TYPE_CHECKING:
    from orca_bench.recipe import Recipe
    from orca_bench.train.run_plan import Machines, RunEstimate, RunPlan, Workload

_LISTED_SETTINGS = 8


@click.command("plan")
@click.argument("recipe", type=options.PATH)
@options.overrides
@options.runs
@click.option("--gpu", "gpu_name", default="a100-80g", show_default=True, metavar="NAME", help="Kind of GPU.")
@click.option("--gpus", "gpus_per_node", type=int, metavar="N", help="GPUs in each node.  [default: processes / nodes]")
@click.option("--nodes", "node_count", type=int, default=1, show_default=True, metavar="M", help="Machines with GPUs.")
@click.option(
    "--price", type=float, metavar="X", help="Dollars per GPU-hour.  [default: 1.50 for a100-80g, else unknown]"
)
@click.option("--records", "record_count", type=int, metavar="N", help="Number of records, which are then not read.")
@click.option(
    "--tokens-per-record",
    type=int,
    metavar="T",
    help="With --records: mean length of an example, prompt and response; the lengths spread as in Alpaca and Dolly.  "
    "[default: all have data.max_length, which none exceeds]",
)
@click.option(
    "--step-seconds",
    "measured_step_s",
    type=float,
    metavar="S",
    help="Measured seconds of a step of this recipe on these GPUs: all times are scaled by it.",
)
@click.option("--tflops", type=float, help="Peak rate of the GPU in bf16 without sparsity, TFLOP/s.")
@click.option("--memory-gb", type=float, help="Memory of the GPU, 10⁹ bytes.")
@click.option("--memory-gb-s", type=float, help="Bandwidth of the GPU's memory, GB/s.")
@click.option("--link-gb-s", type=float, help="NVLink or PCIe to the other GPUs, one direction, GB/s.")
@click.option("--network-gb-s", type=float, help="Network between nodes, one GPU's share, one direction, GB/s.")
@options.output_format("terminal", "json")
def command(
    recipe: Path,
    overrides: tuple[str, ...],
    runs: Path,
    gpu_name: str,
    gpus_per_node: int | None,
    node_count: int,
    price: float | None,
    record_count: int | None,
    tokens_per_record: int | None,
    measured_step_s: float | None,
    tflops: float | None,
    memory_gb: float | None,
    memory_gb_s: float | None,
    link_gb_s: float | None,
    network_gb_s: float | None,
    output_format: str,
) -> None:
    """Estimate memory, hours and dollars of the training that RECIPE describes, before any GPU is rented.

    Prints the memory of each process, the seconds of a step by cause (compute, memory traffic, communication, Python), the
    hours and dollars of the run, and all settings that fit the GPUs, the cheapest first. The settings keep the updates: they
    differ in ZeRO stage, micro batch, recomputation of activations, packing and offloading. Where a recipe that trains all
    weights does not fit, settings with LoRA of rank 16 are listed too, by themselves, because that is another training.

    Reads the records as `orca-bench train --dry-run` does; with --records it reads none. The formulas, their sources and how far
    they were off are in orca_bench/train/README.md. Start, checkpoints, held-out losses and export are not in the hours.

    GPUs: a100-40g, a100-80g, h100, h100-pcie, h200, b200, l40s, l4, a10g, rtx-a6000, rtx-4090, rtx-3090. Another one takes
    --tflops, --memory-gb, --memory-gb-s and --link-gb-s; these options also replace figures of the table.

    \b
      orca-bench plan recipes/mini.yaml --gpu l4 -o train.precision=bf16
      orca-bench plan recipes/13b.yaml --records 137000 --tokens-per-record 307
      orca-bench plan recipes/13b.yaml --records 137000 --gpu h100 --price 2.5
    """
    from orca_bench import api
    from orca_bench.train.gpus import find_gpu
    from orca_bench.train.planned_workload import described_workload, read_workload
    from orca_bench.train.run_plan import Machines, check_machines, plan_run

    for option, number in (
        ("--gpus", gpus_per_node),
        ("--nodes", node_count),
        ("--price", price),
        ("--step-seconds", measured_step_s),
    ):
        if number is not None and not 0 < number < float("inf"):
            raise UserError(f"{number:g}", where=option, hint="give a number above 0")
    if tokens_per_record is not None and record_count is None:
        raise UserError("is about --records", where="--tokens-per-record", hint="add --records N")
    gpu = find_gpu(
        gpu_name,
        {
            "--tflops": tflops,
            "--memory-gb": memory_gb,
            "--memory-gb-s": memory_gb_s,
            "--link-gb-s": link_gb_s,
            "--network-gb-s": network_gb_s,
        },
    )
    checked_recipe = api.load_recipe(recipe, overrides, runs)
    gpus_per_node, node_count = check_machines(checked_recipe.train, gpu, gpus_per_node, node_count)
    machines = Machines(gpu, gpus_per_node, node_count, gpu.dollars_per_hour if price is None else price)
    if record_count is None:
        workload = read_workload(checked_recipe)
    else:
        workload = described_workload(checked_recipe, record_count, tokens_per_record)
    plan = plan_run(checked_recipe, workload, machines, measured_step_s)
    if output_format == "json":
        print(json.dumps(_plan_values(workload, machines, plan), indent=1))
    else:
        _print_plan(checked_recipe, workload, machines, plan)


def _print_plan(recipe: Recipe, workload: Workload, machines: Machines, plan: RunPlan) -> None:
    from orca_bench.cli.console import console
    from orca_bench.cli.training_display import parameters_text

    own = plan.recipe_estimate
    lengths = workload.lengths
    price = "price of a GPU-hour unknown (--price)"
    if machines.dollars_per_hour is not None:
        price = f"${machines.dollars_per_hour:.2f} per GPU-hour"
    console.print(
        f"{recipe.name}: {parameters_text(workload.shape, own.train)}; "
        f"{counted(len(lengths), 'example')} of {lengths.mean():.0f} tokens (longest {workload.longest:,}); "
        f"{counted(own.step_count, 'step')} of {own.train.global_batch}"
    )
    console.print(
        f"{machines.gpus_per_node} × {machines.gpu.name} in {counted(machines.node_count, 'node')}; {price}; all figures are "
        "estimates\n"
    )
    console.print(f"the recipe, {_setting_text(own.train)}:")
    memory = own.memory
    console.print(
        f"  memory per process {memory.total_gib:.1f} of {own.gpu_memory_gib:.1f} GiB"
        f"{'' if own.fits else ', which does not fit'} (model states {memory.states_gib:.1f}, activations "
        f"{memory.activations_gib:.1f}, output head {memory.output_head_gib:.1f}, buffers {memory.buffers_gib:.1f}, of which "
        f"{memory.shared_gib:.1f} at different times)"
    )
    causes = ", ".join(f"{cause} {seconds:.3g}" for cause, seconds in own.step.seconds_by_cause.items() if seconds)
    console.print(f"  step {own.step.seconds:.3g} s: {causes}; MFU {own.mfu:.1%}")
    console.print(f"  run {_time_text(own.hours)}{_dollars_text(own, ', $')}; {_bound_text(plan)}")
    if plan.problem is not None:
        console.print(f"\n{plan.problem}")
    if plan.fitting_estimates:
        _print_settings(workload, machines, plan.fitting_estimates, "settings that fit")
    if plan.lora_estimates:
        lora = plan.lora_estimates[0].train.lora
        assert lora is not None, "`plan_run` gives settings with LoRA"
        keys = f"-o train.lora.rank={lora.rank} -o train.lora.alpha={lora.alpha:g}"
        console.print(
            f"\nLoRA ({keys}) fits, and is another training: it learns "
            f"{workload.shape.trained_parameter_count(plan.lora_estimates[0].train):,} new weights beside the model's, which "
            "stay, so its losses and answers are others."
        )
        _print_settings(workload, machines, plan.lora_estimates, "settings with LoRA that fit")


def _bound_text(plan: RunPlan) -> str:
    """What binds the recipe; for communication also how much is sent, and what ZeRO stage 2 would do."""
    own, stage_2 = plan.recipe_estimate, plan.stage_2_estimate
    text = f"bound by {own.step.bound_by}"
    if own.step.bound_by == "communication":
        text += f": ZeRO-{own.train.zero_stage} sends {_sent_text(own)}"
        if stage_2 is not None:
            text += (
                f"; stage 2 sends {_sent_text(stage_2)}, takes {stage_2.step.seconds:.3g} s, and its "
                f"{stage_2.memory.total_gib:.1f} GiB {'fit' if stage_2.fits else 'do not fit'}"
            )
    return text


def _sent_text(estimate: RunEstimate) -> str:
    return f"{estimate.step.communication_bytes / 1e9:.0f} GB per GPU and step"


def _setting_text(train: Any) -> str:
    parts = [
        f"ZeRO-{train.zero_stage}",
        f"micro batch {train.micro_batch} × {train.accumulation}",
        "recomputation" if train.gradient_checkpointing else "no recomputation",
        f"packing {train.packing}",
    ]
    if train.offload == "cpu":
        parts.append("offload cpu")
    if train.lora is not None:
        parts.append(f"LoRA of rank {train.lora.rank}")
    return ", ".join(parts)


def _time_text(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes"


def _dollars_text(estimate: RunEstimate, prefix: str) -> str:
    return "" if estimate.dollars is None else f"{prefix}{estimate.dollars:,.2f}"


def _print_settings(workload: Workload, machines: Machines, estimates: list[RunEstimate], title: str) -> None:
    """The cheapest settings that fit, each with the first of every ZeRO stage below them."""
    from rich.table import Table

    from orca_bench.cli.console import console
    from orca_bench.train.memory_estimate import optimizer_bytes_per_parameter

    listed = estimates[:_LISTED_SETTINGS]
    for stage in sorted({estimate.train.zero_stage for estimate in estimates}):
        cheapest = next(estimate for estimate in estimates if estimate.train.zero_stage == stage)
        if cheapest not in listed:
            listed.append(cheapest)
    table = Table(
        title=f"\n{title}, cheapest first ({len(listed)} of {len(estimates)}; of each ZeRO stage the cheapest)",
        title_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
    )
    for heading in ("ZeRO", "batch", "recompute", "packing", "GiB", "s/step", "hours", "dollars", "bound by"):
        table.add_column(heading, justify="right" if heading in ("GiB", "s/step", "hours", "dollars") else "left")
    for estimate in listed:
        train = estimate.train
        table.add_row(
            f"{train.zero_stage}{', cpu' if train.offload == 'cpu' else ''}",
            f"{train.micro_batch} × {train.accumulation}",
            "yes" if train.gradient_checkpointing else "no",
            train.packing,
            f"{estimate.memory.total_gib:.1f}",
            f"{estimate.step.seconds:.3g}",
            f"{estimate.hours:.{1 if estimate.hours >= 1 else 3}f}",
            _dollars_text(estimate, "") or "?",
            estimate.step.bound_by,
        )
    console.print(table)
    if any(estimate.train.offload == "cpu" for estimate in listed):
        state_bytes = optimizer_bytes_per_parameter(listed[0].train)
        states_gb = state_bytes * workload.shape.trained_parameter_count(listed[0].train) / machines.node_count / 1e9
        console.print(
            f"cpu: with train.offload, which takes {states_gb:,.0f} GB of main memory on each node, not checked"
        )


def _plan_values(workload: Workload, machines: Machines, plan: RunPlan) -> dict[str, Any]:
    gpu, stage_2 = machines.gpu, plan.stage_2_estimate
    return {
        "parameters": workload.shape.parameter_count,
        "examples": len(workload.lengths),
        "mean_tokens": float(workload.lengths.mean()),
        "longest_tokens": workload.longest,
        "gpu": gpu.name,
        "gpu_memory_gib": gpu.memory_gib,
        "gpus_per_node": machines.gpus_per_node,
        "nodes": machines.node_count,
        "dollars_per_gpu_hour": machines.dollars_per_hour,
        "recipe": _estimate_values(plan.recipe_estimate),
        "recipe_at_stage_2": None if stage_2 is None else _estimate_values(stage_2),
        "settings": [_estimate_values(estimate) for estimate in plan.fitting_estimates],
        "lora_settings": [_estimate_values(estimate) for estimate in plan.lora_estimates],
        "problem": None if plan.problem is None else str(plan.problem),
    }


def _estimate_values(estimate: RunEstimate) -> dict[str, Any]:
    train, memory = estimate.train, estimate.memory
    return {
        "zero_stage": train.zero_stage,
        "micro_batch": train.micro_batch,
        "accumulation": train.accumulation,
        "gradient_checkpointing": train.gradient_checkpointing,
        "packing": train.packing,
        "offload": train.offload,
        "lora": None if train.lora is None else train.lora.model_dump(),
        "memory_gib": memory.total_gib,
        "memory_gib_by_part": dataclasses.asdict(memory),
        "fits": estimate.fits,
        "step_seconds": estimate.step.seconds,
        "seconds_by_cause": estimate.step.seconds_by_cause,
        "bound_by": estimate.step.bound_by,
        "communication_bytes": estimate.step.communication_bytes,
        "mfu": estimate.mfu,
        "steps": estimate.step_count,
        "hours": estimate.hours,
        "gpu_hours": estimate.gpu_hours,
        "dollars": estimate.dollars,
    }
