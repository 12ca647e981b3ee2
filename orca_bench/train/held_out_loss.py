"""The examples that are held out of training in; in which batches and after which steps their loss is computed out.

Their loss is the mean over all their trained tokens, as that of a step is over its own, so it does not depend on processes and
batches. Its own module because the training loop computes this loss as it computes that of a batch, and needs only the plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orca_bench.recipe import Recipe
from orca_bench.train.batch_plan import BatchPlan
from orca_bench.train.example_encoding import EncodedExamples

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass(frozen=True)
class HeldOutPlan:
    """The held-out examples in batches as large as those of the training, each example once."""

    examples: EncodedExamples
    batch_plan: BatchPlan
    interval: int  # steps

    def is_due(self, steps_done: int, step_count: int) -> bool:
        """Whether the loss is computed after so many steps of a run of `step_count`; it always is after the last one."""
        return steps_done % self.interval == 0 or steps_done == step_count


def plan_held_out_loss(recipe: Recipe, examples: EncodedExamples, model_config: PretrainedConfig) -> HeldOutPlan | None:
    """The plan for the held-out examples of a recipe, for a student of this configuration; None where there are none."""
    if not len(examples):
        return None
    one_pass = recipe.train.model_copy(update={"epochs": 1, "max_steps": None})
    batch_plan = BatchPlan.of_recipe(recipe.model_copy(update={"train": one_pass}), examples, model_config)
    return HeldOutPlan(examples, batch_plan, recipe.train.held_out_every or recipe.train.checkpoint_every)
