"""A spike of the loss is found by its distance from what is usual, whatever the losses are and whatever was before."""

import numpy as np
import pytest

from orca_bench.errors import UserError
from orca_bench.recipe import Recipe, Train
from orca_bench.train import divergence
from orca_bench.train.loss_spikes import WINDOW_STEPS, LossSpikes

RECIPE = Recipe.model_validate({"name": "r", "model": {"base": "b"}, "data": {"records": ["r"]}})


def heights(losses):
    """The height of each loss beside those before it."""
    spikes, all_heights = LossSpikes(), []
    for loss in losses:
        all_heights.append(spikes.height(loss))
        spikes.add(loss)
    return all_heights


def usual_losses(count=2000, seed=0):
    """Losses that fall from 2 to 1 nats with the noise of small batches, heavier in the tails than a normal one."""
    rng = np.random.default_rng(seed)
    return np.linspace(2.0, 1.0, count) + 0.12 * rng.standard_t(5, count)


def test_until_there_are_enough_steps_there_is_no_spike():
    assert heights([1.0] * WINDOW_STEPS + [100.0])[:WINDOW_STEPS] == [None] * WINDOW_STEPS
    assert heights([1.0] * WINDOW_STEPS + [100.0])[-1] == pytest.approx(99 / 0.05)


def test_the_height_is_in_standard_deviations_where_the_losses_are_normal():
    losses = 10 + np.random.default_rng(1).normal(size=WINDOW_STEPS)
    assert heights([*losses, 15.0])[-1] == pytest.approx(5 / losses.std(), rel=0.4)


def test_a_spike_stands_out_of_usual_losses_and_does_not_hide_the_next_one():
    losses = usual_losses()
    losses[[700, 701, 702, 710]] += 3.0
    heights_of_all = heights(losses)
    top = sorted(range(len(losses)), key=lambda step: heights_of_all[step] or 0)
    assert set(top[-4:]) == {700, 701, 702, 710}
    assert heights_of_all[710] > 10 and max(heights_of_all[step] for step in top[-20:-4]) < 10


def test_twenty_useless_losses_of_fifty_do_not_move_what_is_usual():
    assert heights([1.0] * 30 + [100.0] * 20 + [1.1])[-1] == pytest.approx(2)


def test_a_model_that_has_learned_everything_has_no_spikes_of_a_thousandth():
    assert heights([1e-3] * WINDOW_STEPS + [1.1e-3])[-1] == pytest.approx(2)
    assert heights([0.0] * WINDOW_STEPS + [1e-3])[-1] is None


def test_a_run_that_continues_judges_as_the_one_that_was_stopped():
    losses = usual_losses(300)
    assert LossSpikes(losses[:299]).height(losses[299]) == heights(losses)[299]


@pytest.mark.parametrize(
    ("spike_factor", "height", "is_problem"), [(None, 99.0, False), (10.0, 10.0, False), (10.0, 10.1, True)]
)
def test_only_a_spike_above_the_recipes_factor_stops_a_run(spike_factor, height, is_problem):
    problem = divergence.spike_problem(height, 2.5, Train(spike_factor=spike_factor))
    assert (problem is not None) == is_problem
    if is_problem:
        assert problem.startswith("the loss jumped to 2.5, 10.1 deviations above the median of the 50 steps before")
    assert divergence.spike_problem(None, 2.5, Train(spike_factor=1.0)) is None


@pytest.mark.parametrize(("spike_factor", "is_refused"), [(8.0, True), (12.0, False), (None, False)])
def test_a_run_that_a_spike_stopped_goes_on_with_a_higher_factor_or_none(tmp_path, spike_factor, is_refused):
    recipe = RECIPE.model_copy(update={"train": Train(spike_factor=spike_factor)})
    manifest = {"diverged": {"step": 7, "what": "the loss jumped", "loss": 3.0, "exceeded": False, "spike": 10.0}}
    if is_refused:
        with pytest.raises(UserError, match="diverged at step 7 .*raise train.spike_factor, or set it to null"):
            divergence.refuse_repeated_divergence(manifest, recipe, tmp_path)
    else:
        divergence.refuse_repeated_divergence(manifest, recipe, tmp_path)
