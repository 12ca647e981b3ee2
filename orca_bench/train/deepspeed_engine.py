"""The DeepSpeed engine around the student: its configuration and the loss.

Runs on GPUs (bf16 or fp16, NCCL) and on the CPU (gloo). Its own module because everything that depends on how DeepSpeed
0.19.8 behaves is here.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from orca_bench import launcher_environment
from orca_bench.errors import UserError
from orca_bench.recipe import Recipe
from orca_bench.tokenizers import Tokenizer
from orca_bench.train import lora, operator_locks, packed_attention, packing_check
from orca_bench.train.memory_estimate import reduce_bucket_size
from orca_bench.train.micro_batches import MicroBatch
from orca_bench.train.output_head import LossHead

if TYPE_CHECKING:
    import torch
    from deepspeed import DeepSpeedEngine
    from transformers import PreTrainedModel


def deepspeed_config(recipe: Recipe, loads_converted_checkpoint: bool = False) -> dict[str, Any]:
    """DeepSpeed's configuration for a recipe; `loads_converted_checkpoint` where another number of processes wrote it."""
    train = recipe.train
    zero_config: dict[str, Any] = {
        "stage": train.zero_stage,
        "contiguous_gradients": True,
        "overlap_comm": False,
        "stage3_gather_16bit_weights_on_model_save": train.zero_stage == 3,
    }
    if train.offload == "cpu":
        zero_config["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
    return {
        "train_batch_size": train.global_batch,
        "train_micro_batch_size_per_gpu": train.micro_batch,
        "gradient_accumulation_steps": train.accumulation,
        "gradient_clipping": train.grad_clip,
        "zero_optimization": zero_config,
        "checkpoint": {"load_universal": loads_converted_checkpoint},
        "bf16": {"enabled": train.precision == "bf16"},
        "fp16": {"enabled": train.precision == "fp16"},
        # torch's AdamW is the optimizer: the same arithmetic on every device, checked against plain PyTorch in the tests.
        "zero_force_ds_cpu_optimizer": False,
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 1_000_000_000,
        "wall_clock_breakdown": False,
    }


def start_engine(recipe: Recipe, tokenizer: Tokenizer, loads_converted_checkpoint: bool = False) -> DeepSpeedEngine:
    """Build the student and wrap it in a DeepSpeed engine; torch.distributed is started on the way.

    Needs RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT in the environment, as launchers set them.
    Raises UserError where the launcher started another number of processes than the recipe says, and where the model cannot be
    trained with the recipe's packing.
    """
    import deepspeed
    import torch

    if recipe.train.offload == "cpu":  # DeepSpeed compiles its optimizer
        # One process of the machine removes the locks; the others wait until it has.
        observation_s = operator_locks.OBSERVATION_S if launcher_environment.local_rank() == 0 else math.inf
        for lock in operator_locks.remove_abandoned_locks(operator_locks.extensions_folder(), observation_s):
            print(f"removed {lock}, which a killed training had left", file=sys.stderr)
    with without_shared_memory_operator():
        deepspeed.init_distributed(dist_backend="nccl" if torch.cuda.is_available() else "gloo")
    world_size = torch.distributed.get_world_size()
    if world_size != recipe.train.processes:
        raise UserError(
            f"the launcher started {world_size} processes and the recipe says {recipe.train.processes}",
            where="train.processes",
            hint=f"start {recipe.train.processes}, or give -o train.processes={world_size} with a batch that fits",
        )
    if torch.cuda.is_available():
        torch.cuda.set_device(launcher_environment.local_rank())
    deepspeed_configuration = deepspeed_config(recipe, loads_converted_checkpoint)
    student = _load_student(recipe, tokenizer, deepspeed_configuration)
    if recipe.train.lora is not None:
        lora.inject_adapter(student, recipe.train.lora, recipe.train.seed)
        fit_gradient_buffer(deepspeed_configuration, student)
    if recipe.train.gradient_checkpointing:
        student.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    student.config.use_cache = False
    if recipe.train.packing != "none":
        packed_attention.register_packed_attention()
        student.set_attn_implementation(packed_attention.PACKED_ATTENTION)
    if recipe.train.zero_stage == 3:
        _gather_layers_whole(student)
    loss_head = LossHead(student)  # before DeepSpeed's own hooks
    engine, *_ = deepspeed.initialize(
        model=student, optimizer=_build_optimizer(recipe, student), config=deepspeed_configuration
    )
    engine.loss_head = loss_head
    packing_check.check_engine(engine, recipe.train.packing != "none", recipe.data.max_length)
    engine.train()
    return engine


def fit_gradient_buffer(deepspeed_configuration: dict[str, Any], student: PreTrainedModel) -> None:
    """Set the size of DeepSpeed's buffer of gradients to what a student with LoRA needs (`reduce_bucket_size`)."""
    trained_count = sum(
        getattr(parameter, "ds_numel", parameter.numel())
        for parameter in student.parameters()
        if parameter.requires_grad
    )
    deepspeed_configuration["zero_optimization"]["reduce_bucket_size"] = reduce_bucket_size(trained_count)


def _gather_layers_whole(student: PreTrainedModel) -> None:
    """Let ZeRO-3 gather the weights of a decoder layer at once, and not those of each matrix by themselves.

    Hooks around each module take some 15 ms of Python a layer and step, which is most of a step of 16 examples on a GPU.
    """
    from deepspeed.utils import set_z3_leaf_modules

    layer_class_names = list(student._no_split_modules or ())
    if layer_class_names:
        set_z3_leaf_modules(student, layer_class_names)


@contextlib.contextmanager
def without_shared_memory_operator() -> Iterator[None]:
    """Start torch.distributed on a CPU without the operator that DeepSpeed compiles for it.

    deepspeed 0.19.8 (comm/torch.py) uses it for tensor-parallel inference alone. It takes a compiler and half a minute at the
    first start, and 66 MiB of shared memory a process, which a killed process leaves behind until the machine restarts.
    """
    deepspeed_backend: Any = importlib.import_module(
        "deepspeed.comm.torch"
    )  # `deepspeed.comm` has torch itself by this name
    build_operator = deepspeed_backend.build_shm_op
    deepspeed_backend.build_shm_op = lambda: None
    try:
        yield
    finally:
        deepspeed_backend.build_shm_op = build_operator


def _load_student(recipe: Recipe, tokenizer: Tokenizer, deepspeed_configuration: dict[str, Any]) -> PreTrainedModel:
    """The model to train: random weights, or those of the base."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.integrations import HfDeepSpeedConfig

    from orca_bench.models import weights
    from orca_bench.train import student_model

    if recipe.model.base is None:
        return student_model.build_random_model(student_model.student_config(recipe, tokenizer), recipe.train.seed)
    # While this object lives, from_pretrained lays ZeRO-3 shards out as it reads: no process ever holds the whole model.
    partitioning_guard = HfDeepSpeedConfig(deepspeed_configuration) if recipe.train.zero_stage == 3 else None
    try:
        with weights.catch_loading_errors(recipe.model.base):
            model = AutoModelForCausalLM.from_pretrained(
                recipe.model.base,
                config=student_model.student_config(recipe, tokenizer),
                dtype=getattr(torch, student_model.DTYPE_NAME_BY_PRECISION[recipe.train.precision]),
            )
    finally:
        del partitioning_guard
    return model


def _build_optimizer(recipe: Recipe, model: PreTrainedModel) -> torch.optim.Optimizer:
    import torch

    train = recipe.train
    trained_parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer_options = {
        "lr": train.lr,
        "betas": tuple(train.betas),
        "eps": train.eps,
        "weight_decay": train.weight_decay,
    }
    if train.offload == "cpu":
        from deepspeed.ops.adam import DeepSpeedCPUAdam

        return DeepSpeedCPUAdam(trained_parameters, adamw_mode=True, **optimizer_options)
    return torch.optim.AdamW(trained_parameters, fused=True, **optimizer_options)


def sum_of_losses(engine: DeepSpeedEngine, micro_batch: MicroBatch, backward_factor: float = 1.0) -> torch.Tensor:
    """The sum of the negative log-likelihoods (nats) of a micro batch's targets; a scalar, float64.

    `backward_factor` is what the sum is multiplied by before `engine.backward` gets it.
    """
    loss_scale = float(engine.optimizer.loss_scale) if engine.fp16_enabled() else 1.0
    factor = backward_factor * loss_scale / engine.gradient_accumulation_steps()  # DeepSpeed divides by these
    loss: torch.Tensor = engine.loss_head.sum_of_losses(engine, micro_batch, factor)
    return loss


def last_gradient_norm(engine: DeepSpeedEngine) -> float | None:
    """The norm of the last step's gradient before clipping; infinity where it is not finite, None where it is unknown."""
    if not engine.was_step_applied():
        return math.inf  # DeepSpeed leaves such a step out, in every precision, and keeps the norm of the step before
    gradient_norm = engine.get_global_grad_norm()
    return None if gradient_norm is None else float(gradient_norm)


def largest_absolute_weight(engine: DeepSpeedEngine) -> float:
    """The largest absolute value of all weights; infinity where one is NaN. A collective."""
    import torch

    largest_weight_magnitude = torch.zeros((), device=engine.device)
    for parameter in engine.module.parameters():
        local_shard = getattr(parameter, "ds_tensor", parameter).detach()  # at stage 3 this process has only its part
        if local_shard.numel():
            largest_weight_magnitude = torch.maximum(
                largest_weight_magnitude,
                local_shard.abs()
                .max()
                .float()
                .nan_to_num(math.inf, math.inf, math.inf)
                .to(largest_weight_magnitude.device),
            )
    torch.distributed.all_reduce(largest_weight_magnitude, op=torch.distributed.ReduceOp.MAX)
    return float(largest_weight_magnitude)
