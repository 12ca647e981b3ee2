"""Whether this model, with the attention in use, computes packed examples as it computes each alone, and its loss in parts.

Packing is silent where it goes wrong: examples that see one another still give a loss that falls. So before training begins the
attention in use is compared with masked attention, outputs and gradients, and the real engine computes an example of some ten
tokens alone, beside others, and beside others again: a few forward passes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from orca_bench.errors import UserError
from orca_bench.models import architecture
from orca_bench.train import micro_batches, packed_attention
from orca_bench.train.micro_batches import MicroBatch, ScoredSequence

if TYPE_CHECKING:
    import torch
    from deepspeed import DeepSpeedEngine

#: Relative difference up to which two ways of computing a sum or a gradient are rounding, by the dtype of the weights.
_ROUNDING = {"torch.float32": 1e-4, "torch.bfloat16": 2e-2, "torch.float16": 5e-3}
#: Up to which two computations of the same numbers in the same order are: GPU kernels may add in another order.
_REPETITION = 1e-6
#: Share of what another context does to an example's losses, above which a difference is no rounding. Attention to nothing but
#: the token itself gives 0.7 and more, rounding in bfloat16 at most 0.02 (random LLaMAs of width 32, 288 and 576, three seeds).
_MOST_OF_CONTEXT_EFFECT = 0.2
_LENGTHS = (19, 24, 23)  # of the examples before, of and after the one that is scored, in tokens
_CONTEXT_LENGTH = 12  # tokens of the scored example that are its context
_STOCK_ATTENTION = "eager"  # transformers' own; every model has it
_LONGEST_CHECKED_WINDOW = 2048  # a longer sliding window is not reached by the examples of the check


def check_engine(engine: DeepSpeedEngine, packs: bool, max_length: int = 0) -> None:
    """Compute losses in each way that training relies on. A collective.

    Where the model changes its logits after the output head, `engine.loss_head` is set to leave that to the model. Raises
    UserError where `packs`, with examples of up to `max_length` tokens, and packed examples see one another, are not computed as
    they are alone, or depend on the length of the pass.
    """
    generator = np.random.default_rng(0)
    vocab_size = engine.module.config.get_text_config().vocab_size
    before, scored, after, other_before, other_after = (
        generator.integers(0, vocab_size, length) for length in (*_LENGTHS, _LENGTHS[0], _LENGTHS[2])
    )
    other_context = np.concatenate([generator.integers(0, vocab_size, _CONTEXT_LENGTH), scored[_CONTEXT_LENGTH:]])
    attention_in_use = engine.module.config._attn_implementation
    if packs:
        _check_lengths(engine, max_length)
        engine.module.set_attn_implementation(_STOCK_ATTENTION)
    try:
        alone = micro_batches.pad([_scored_example(scored)], engine.device)
        losses_alone = _losses(engine, alone)
        _choose_loss_computation(engine, alone, losses_alone)
        losses_in_context = _losses(engine, micro_batches.pad([_scored_example(other_context)], engine.device))
    finally:
        engine.module.set_attn_implementation(attention_in_use)
    if not packs:
        return
    try:
        row, other_row = (
            _pack_around(scored, *neighbours, engine) for neighbours in ((before, after), (other_before, other_after))
        )
        losses_in_row, losses_among_others = _losses(engine, row), _losses(engine, other_row)
        _losses(engine, row, is_training=True)  # with dropout, where there is any
    except packed_attention.PackedLengthsMissing as error:
        raise _refusal(f"{error} does not tell its attention where examples end") from None
    except NotImplementedError as error:
        raise _refusal(f"this model has {error}") from None
    _check_attention(engine)
    context_effect = _mean_difference(losses_alone, losses_in_context)
    # Other neighbours give the products of a mixture of experts other shapes, and so another rounding.
    has_experts = _has_experts(engine)
    most_difference = _MOST_OF_CONTEXT_EFFECT * context_effect if has_experts else _REPETITION * losses_alone.mean()
    if not _mean_difference(losses_in_row, losses_among_others) <= most_difference:
        raise _refusal(
            f"this model's packed examples see one another: the loss of one is {losses_in_row.mean():.6f} beside some examples "
            f"and {losses_among_others.mean():.6f} beside others"
        )
    if not _mean_difference(losses_in_row, losses_alone) <= _MOST_OF_CONTEXT_EFFECT * context_effect:
        raise _refusal(
            "this model computes a packed example otherwise than alone: its losses differ by "
            f"{_mean_difference(losses_in_row, losses_alone):.6f}, where another context changes them by {context_effect:.6f}"
        )


def _refusal(problem: str, hint: str = "set it to none") -> UserError:
    return UserError(problem, where="train.packing", hint=hint)


def _check_lengths(engine: DeepSpeedEngine, max_length: int) -> None:
    """Raise UserError where examples of up to `max_length` tokens would be computed otherwise in a row than alone.

    transformers' rotary embeddings of the types dynamic and longrope choose their frequencies by the longest example of a forward
    pass, above the original window. Attention in chunks (Llama 4) is in transformers' masks alone: packed examples have none.
    """
    config = engine.module.config
    text_config = config.get_text_config()
    chunk_size = getattr(text_config, "attention_chunk_size", None)
    if chunk_size is not None and max_length > chunk_size:
        raise _refusal(
            f"this model attends in chunks of {chunk_size} tokens",
            f"set data.max_length to {chunk_size} or less, or train.packing to none",
        )
    rope = getattr(text_config, "rope_parameters", None) or getattr(text_config, "rope_scaling", None) or {}
    rope_type = rope.get("rope_type", "default")
    if rope_type not in ("dynamic", "longrope"):
        return
    window = (
        rope.get("original_max_position_embeddings")
        or getattr(text_config, "original_max_position_embeddings", None)
        or architecture.configured_window_tokens(config)
    )
    if window is not None and max_length > window:
        raise _refusal(
            f"this model's positions (rope_type {rope_type}) depend on the longest example of a pass above {window} tokens",
            f"set data.max_length to {window} or less, or train.packing to none",
        )


def _has_experts(engine: DeepSpeedEngine) -> bool:
    text_config = engine.module.config.get_text_config()
    return any(getattr(text_config, name, None) for name in ("num_local_experts", "num_experts", "n_routed_experts"))


def _check_attention(engine: DeepSpeedEngine) -> None:
    """Raise UserError where packed attention has other outputs or gradients than masked attention in float32."""
    import torch

    sizes = architecture.attention_sizes(engine.module.config)
    if sizes is None:
        raise _refusal("this model's configuration does not give the sizes of its attention")
    window = getattr(engine.module.config.get_text_config(), "sliding_window", None)
    window = window if window and window <= _LONGEST_CHECKED_WINDOW else None
    lengths = [*_LENGTHS, window + 9 if window else 31]
    dtype = next(engine.module.parameters()).dtype
    generator = torch.Generator().manual_seed(0)
    states = [
        torch.randn((1, heads, sum(lengths), sizes.head_size), generator=generator)
        .to(engine.device, dtype)
        .requires_grad_()
        for heads in (sizes.head_count, sizes.key_head_count, sizes.key_head_count)
    ]
    query, key, value = states
    weights = torch.randn((1, sum(lengths), sizes.head_count, sizes.head_size), generator=generator).to(engine.device)
    arguments = packed_attention.packing_arguments(lengths, engine.device)
    del arguments["position_ids"]
    scaling = sizes.head_size**-0.5
    results = []
    for attended in (
        packed_attention.packed_attention(
            engine.module, query, key, value, None, scaling=scaling, sliding_window=window, **arguments
        )[0],
        _masked_attention(states, lengths, scaling, window),
    ):
        gradients = torch.autograd.grad((attended.float() * weights).sum(), states)
        results.append([attended.detach(), *gradients])
    for packed, expected in zip(*results, strict=True):
        difference = float((packed.float() - expected.float()).norm() / expected.float().norm())
        if not difference <= _ROUNDING[str(dtype)]:
            raise _refusal(
                f"packed attention differs from masked attention by {difference:.2g} of its size on this device"
            )


def _masked_attention(
    states: list[torch.Tensor], lengths: list[int], scaling: float, window: int | None
) -> torch.Tensor:
    """Attention in float32 under a mask of blocks: [1, tokens, heads, head size]."""
    import torch

    query, key, value = (state.float() for state in states)
    key, value = (state.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for state in (key, value))
    example = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    position = torch.arange(len(example))
    distance = position[:, None] - position[None, :]
    mask = (example[:, None] == example[None, :]) & (distance >= 0)
    if window is not None:
        mask &= distance < window
    scores = (query @ key.transpose(-1, -2)) * scaling
    scores = scores.masked_fill(~mask.to(scores.device), float("-inf"))
    return (scores.softmax(dim=-1) @ value).transpose(1, 2)


def _choose_loss_computation(engine: DeepSpeedEngine, micro_batch: MicroBatch, own_losses: np.ndarray) -> None:
    """Let the head compute losses itself only where that gives what the model's own logits give."""
    import torch

    rounding = _ROUNDING[str(next(engine.module.parameters()).dtype)]
    if not engine.loss_head.computes_loss:
        return
    engine.eval()
    with torch.no_grad():
        loss = float(engine.loss_head.sum_of_losses(engine, micro_batch))
    engine.train()
    has_soft_cap = getattr(engine.module.config.get_text_config(), "final_logit_softcapping", None) is not None
    if has_soft_cap or not abs(loss - own_losses.sum()) <= rounding * own_losses.sum():
        engine.loss_head.computes_loss = False


def _scored_example(token_ids: np.ndarray) -> ScoredSequence:
    return ScoredSequence(token_ids, _CONTEXT_LENGTH)


def _pack_around(scored: np.ndarray, before: np.ndarray, after: np.ndarray, engine: DeepSpeedEngine) -> MicroBatch:
    """A row of three examples, of which the loss is that of the second."""
    sequences = [ScoredSequence(before, len(before)), _scored_example(scored), ScoredSequence(after, len(after))]
    return micro_batches.pack(sequences, engine.device)


def _losses(engine: DeepSpeedEngine, micro_batch: MicroBatch, is_training: bool = False) -> np.ndarray:
    """The loss of each scored token by the model's own logits, float64 [scored]."""
    import torch

    engine.train(is_training)
    with torch.no_grad():
        losses: np.ndarray = engine.loss_head.losses_by_own_logits(engine, micro_batch).double().cpu().numpy()
    engine.train()
    return losses


def _mean_difference(losses: np.ndarray, other_losses: np.ndarray) -> float:
    return float(np.abs(losses - other_losses).mean())
