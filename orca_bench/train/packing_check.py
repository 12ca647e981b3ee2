"""Whether this model, with the attention in use, computes packed examples as it computes each alone, and its loss in parts.

Packing is silent where it goes wrong: examples that see one another still give a loss that falls. So it is computed once on the
real engine before training begins, a few forward passes of some 50 tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from orca_bench.errors import UserError
from orca_bench.train import micro_batches, packed_attention
from orca_bench.train.micro_batches import MicroBatch, ScoredSequence

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine

#: Relative difference up to which two ways of computing a loss are rounding, by the dtype of the weights.
_ROUNDING = {"torch.float32": 1e-4, "torch.bfloat16": 2e-2, "torch.float16": 5e-3}
#: Up to which two computations of the same numbers in the same order are: GPU kernels may add in another order.
_REPETITION = 1e-6
_LENGTHS = (19, 9, 23)  # of the examples before, of and after the one that is scored, in tokens
_STOCK_ATTENTION = "eager"  # transformers' own


def check_engine(engine: DeepSpeedEngine, packs: bool) -> None:
    """Compute a loss in each way that training relies on. A collective.

    Where the model changes its logits after the output head, `engine.loss_head` is set to leave that to the model. Raises
    UserError where `packs` and packed examples see one another, or are not computed as they are alone.
    """
    generator = np.random.default_rng(0)
    vocab_size = engine.module.config.vocab_size
    before, scored, after, other_before, other_after = (
        generator.integers(0, vocab_size, length) for length in (*_LENGTHS, _LENGTHS[0], _LENGTHS[2])
    )
    alone = micro_batches.pad([_example(scored, is_scored=True)], engine.device)
    rounding = _ROUNDING[str(next(engine.module.parameters()).dtype)]
    attention_in_use = engine.module.config._attn_implementation
    if packs:
        engine.module.set_attn_implementation(_STOCK_ATTENTION)
    try:
        loss_alone = _choose_loss_computation(engine, alone, rounding)
    finally:
        engine.module.set_attn_implementation(attention_in_use)
    if not packs:
        return
    try:
        loss_in_row, loss_among_others = (
            _loss(engine, _pack_around(scored, *neighbours, engine))
            for neighbours in ((before, after), (other_before, other_after))
        )
    except packed_attention.PackedLengthsMissing as error:
        raise _refusal(f"{error} does not tell its attention where examples end") from None
    except NotImplementedError as error:
        raise _refusal(f"this model has {error}") from None
    if not abs(loss_in_row - loss_among_others) <= _REPETITION * abs(loss_in_row):
        raise _refusal(
            f"this model's packed examples see one another: the loss of one is {loss_in_row:.6f} beside some examples and "
            f"{loss_among_others:.6f} beside others"
        )
    if not abs(loss_in_row - loss_alone) <= rounding * abs(loss_alone):
        raise _refusal(
            f"this model computes a packed example otherwise than alone: its loss is {loss_in_row:.6f}, alone {loss_alone:.6f}"
        )


def _refusal(problem: str) -> UserError:
    return UserError(problem, where="train.packing", hint="set it to none")


def _choose_loss_computation(engine: DeepSpeedEngine, micro_batch: MicroBatch, rounding: float) -> float:
    """The loss by the model's own logits; the head computes losses itself from now on only where that gives the same."""
    can_compute_loss = engine.loss_head.computes_loss
    engine.loss_head.computes_loss = False
    own_loss = _loss(engine, micro_batch)
    if can_compute_loss and getattr(engine.module.config, "final_logit_softcapping", None) is None:
        engine.loss_head.computes_loss = True
        if not abs(_loss(engine, micro_batch) - own_loss) <= rounding * abs(own_loss):
            engine.loss_head.computes_loss = False
    return own_loss


def _example(token_ids: np.ndarray, is_scored: bool) -> ScoredSequence:
    return ScoredSequence(token_ids, 1 if is_scored else len(token_ids))


def _pack_around(scored: np.ndarray, before: np.ndarray, after: np.ndarray, engine: DeepSpeedEngine) -> MicroBatch:
    """A row of three examples, of which the loss is that of the second."""
    sequences = [_example(before, False), _example(scored, True), _example(after, False)]
    return micro_batches.pack(sequences, engine.device)


def _loss(engine: DeepSpeedEngine, micro_batch: MicroBatch) -> float:
    import torch

    engine.eval()
    with torch.no_grad():
        loss = float(engine.loss_head.sum_of_losses(engine, micro_batch))
    engine.train()
    return loss
