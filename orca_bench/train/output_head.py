"""The output head during training: the loss of the scored positions, without logits of all positions in memory.

Most of a batch is prompt, and logits (positions × vocabulary, float32) are the largest tensor of all. So the head computes
scored positions alone, some of them at a time, and of each part the loss and its gradient at once; no part's logits stay.
It takes the place of the head's own forward pass because ZeRO-3 has a module's weights together only while that runs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from orca_bench.train.micro_batches import MicroBatch

_FEWEST_POSITIONS = 512  # computed at a time: with fewer, matrix products and the sum of gradients get slow
_MOST_PARTS = 13  # so that a part takes an eighth of the logits of all positions in float32, with its copy in bfloat16


def positions_per_part(position_count: int) -> int:
    """How many positions the head computes at a time."""
    return max(_FEWEST_POSITIONS, -(-position_count // _MOST_PARTS))


class LossHead:
    """Computes the loss of a model: takes the place of the forward pass of its output head.

    With `computes_loss` the "logits" that the model returns are the sum of the losses, a tensor [1, 1, 1] in float64,
    computed in parts; without it they are the logits of the scored positions, [1, positions, vocabulary]. The second is for
    models that change logits after the head.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        import torch

        self.head = model.get_output_embeddings()
        #: False for a head that is more than a matrix.
        self.computes_loss = isinstance(self.head, torch.nn.Linear) and self.head.bias is None
        self._own_forward = self.head.forward
        self._micro_batch: MicroBatch | None = None
        self._gradient_factor = 1.0
        self.head.forward = self._forward

    def sum_of_losses(
        self, model: Callable[..., Any], micro_batch: MicroBatch, gradient_factor: float = 1.0
    ) -> torch.Tensor:
        """The sum of the negative log-likelihoods (nats) of a micro batch's targets; a scalar, float64.

        `model` is the model itself or the engine around it: what is called for a forward pass. `gradient_factor` is the
        gradient that this loss will get in the backward pass, as far as it is known: see `cross_entropy_sum`.
        """
        import torch

        self._micro_batch, self._gradient_factor = micro_batch, gradient_factor
        logits = model(input_ids=micro_batch.token_ids, use_cache=False, **micro_batch.forward_arguments).logits
        if self.computes_loss:
            loss: torch.Tensor = logits.sum()
            return loss
        return _losses_of_logits(logits[0], micro_batch.targets).sum(dtype=torch.float64)

    def losses_by_own_logits(self, model: Callable[..., Any], micro_batch: MicroBatch) -> torch.Tensor:
        """The negative log-likelihood (nats) of each of a micro batch's targets, by the model's own logits; float32 [scored]."""
        computes_loss, self.computes_loss = self.computes_loss, False
        self._micro_batch = micro_batch
        try:
            logits = model(input_ids=micro_batch.token_ids, use_cache=False, **micro_batch.forward_arguments).logits
        finally:
            self.computes_loss = computes_loss
        return _losses_of_logits(logits[0], micro_batch.targets)

    def _forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        assert self._micro_batch is not None, "a forward pass in training is one of `sum_of_losses`"
        scored_states = hidden_states.flatten(0, 1).index_select(0, self._micro_batch.scored_positions)
        if self.computes_loss:
            return cross_entropy_sum(scored_states, self.head.weight, self._micro_batch.targets, self._gradient_factor)[
                None, None, None
            ]
        return self._own_forward(scored_states[None])


def _losses_of_logits(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")


def cross_entropy_sum(
    hidden_states: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, gradient_factor: float = 1.0
) -> torch.Tensor:
    """The sum of the negative log-likelihoods (nats) of the targets, a scalar in float64.

    hidden_states: [positions, hidden]; weight: [vocabulary, hidden]; targets: int64 [positions]. Differentiable in the first two.

    The gradients are computed here, before the backward pass says what the loss is multiplied by. `gradient_factor` is that
    number, if it is known. In fp16 the gradient of the logits gets it before it is rounded, so that small ones do not vanish
    and DeepSpeed's loss scale has its effect. Otherwise the products get it, in float32: rounded to bfloat16 the factor alone
    would be up to 0.4 % wrong, the same for all of a step.
    """
    import torch

    loss: torch.Tensor = _loss_function().apply(
        hidden_states, weight, targets, gradient_factor, torch.is_grad_enabled()
    )
    return loss


def _losses_to_gradient(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The loss of each position, float32 [positions, 1]; `logits`, [positions, vocabulary], becomes the gradient of their sum.

    In place, so that there is one tensor of this size and no second. The gradient is the probabilities, less 1 at the target.
    targets: int64 [positions, 1].
    """
    target_logits = logits.gather(1, targets)
    maxima = logits.amax(dim=1, keepdim=True)
    sums = logits.sub_(maxima).exp_().sum(dim=1, keepdim=True)
    logits.div_(sums).scatter_add_(1, targets, logits.new_full(targets.shape, -1.0))
    return maxima + sums.log() - target_logits


@functools.cache
def _loss_function() -> Any:
    """The function with its gradient, defined on first use because it needs torch."""
    import torch

    class SumOfLosses(torch.autograd.Function):
        """Cross-entropy of a matrix product by parts of the positions; the gradients are computed with the loss."""

        @staticmethod
        def forward(
            ctx: Any,
            hidden_states: torch.Tensor,
            weight: torch.Tensor,
            targets: torch.Tensor,
            gradient_factor: float,
            has_gradients: bool,
        ) -> torch.Tensor:
            needs_states_gradient, needs_weight_gradient = (
                has_gradients and is_needed for is_needed in ctx.needs_input_grad[:2]
            )
            states_gradient = torch.empty_like(hidden_states) if needs_states_gradient else None
            weight_gradient = torch.zeros_like(weight, dtype=torch.float32) if needs_weight_gradient else None
            loss = torch.zeros((), dtype=torch.float64, device=hidden_states.device)
            part_size = positions_per_part(len(targets))
            for start in range(0, len(targets), part_size):
                part = slice(start, start + part_size)
                logits = (hidden_states[part] @ weight.t()).float()
                loss += _losses_to_gradient(logits, targets[part, None]).sum(dtype=torch.float64)
                if weight.dtype == torch.float16:
                    logits.mul_(gradient_factor)
                gradient = logits.to(weight.dtype)
                del logits  # or it would lie beside those of the next part
                if states_gradient is not None:
                    torch.matmul(gradient, weight, out=states_gradient[part])
                if weight_gradient is not None and weight.dtype == torch.float32:
                    weight_gradient.addmm_(gradient.t(), hidden_states[part])
                elif weight_gradient is not None:
                    weight_gradient += gradient.t() @ hidden_states[part]
                del gradient
            if weight.dtype != torch.float16:
                for product in (states_gradient, weight_gradient):
                    if product is not None:
                        product.mul_(gradient_factor)
            ctx.gradient_factor = gradient_factor
            ctx.save_for_backward(
                states_gradient, None if weight_gradient is None else weight_gradient.to(weight.dtype)
            )
            return loss

        @staticmethod
        def backward(
            ctx: Any, loss_gradient: torch.Tensor
        ) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None, None]:
            remaining_factor = loss_gradient / ctx.gradient_factor  # 1, to rounding, where the factor was announced
            states_gradient, weight_gradient = (  # multiplied in place: a loss is differentiated once
                None if gradient is None else gradient.mul_(remaining_factor.to(gradient.dtype))
                for gradient in ctx.saved_tensors
            )
            return states_gradient, weight_gradient, None, None, None

    return SumOfLosses
