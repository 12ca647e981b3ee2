"""What a plan says of a run: its parts by hand, what fits, what is cheapest, and what is refused."""

import numpy as np
import pytest
from transformers import LlamaConfig

from orca_bench.errors import UserError
from orca_bench.recipe import Data, Model, Recipe, Train
from orca_bench.train.gpus import GPUS, find_gpu
from orca_bench.train.memory_estimate import estimate_memory
from orca_bench.train.model_shape import ModelShape, published_shape
from orca_bench.train.run_plan import Machines, Workload, check_machines, plan_run, settings
from orca_bench.train.step_estimate import StepWork, estimate_step

SHAPE_13B = published_shape("openlm-research/open_llama_13b")
A100 = find_gpu("a100-80g", {})
CARD = Recipe(name="card", model=Model(base="openlm-research/open_llama_13b"), data=Data(records=["r"]), train=Train())
CARD_WORKLOAD = Workload(SHAPE_13B, np.full(137_000, 307, np.int64), 1024)


def machines(gpu=A100, gpus=8, nodes=1, dollars=1.5):
    return Machines(gpu, gpus, nodes, dollars)


def step_of(gpu=A100, tokens=600.0, nodes=1, **options):
    train = Train(**({"global_batch": 16} | options))
    passes = np.full(train.accumulation, tokens)
    return estimate_step(SHAPE_13B, train, StepWork(passes, passes * 150), gpu, nodes)


def test_zero_3_sends_three_times_the_weights_a_pass_and_stage_2_the_gradients_a_pass_and_the_weights_once():
    bytes_a_pass = 2 * SHAPE_13B.parameter_count * 7 / 8
    assert step_of(zero_stage=3).communication_bytes == pytest.approx(3 * bytes_a_pass)
    assert step_of(zero_stage=3, micro_batch=1, accumulation=2).communication_bytes == pytest.approx(6 * bytes_a_pass)
    assert step_of(zero_stage=2, micro_batch=1, accumulation=2).communication_bytes == pytest.approx(3 * bytes_a_pass)
    assert step_of(zero_stage=1, micro_batch=1, accumulation=2).communication_bytes == pytest.approx(2 * bytes_a_pass)
    assert step_of(global_batch=2, processes=1).communication_bytes == 0


def test_products_take_as_long_as_their_operations_at_the_measured_share_of_the_peak():
    without_attention = estimate_step(
        SHAPE_13B,
        Train(global_batch=16, gradient_checkpointing=False),
        StepWork(np.array([600.0]), np.array([0.0])),
        A100,
    )
    multiplied_parameters = SHAPE_13B.parameter_count - 32_000 * 5120
    assert without_attention.compute == pytest.approx(6 * 600 * multiplied_parameters / (0.869 * 312e12))


def test_recomputation_costs_a_forward_pass_of_the_layers_without_their_last_product():
    saving, recomputing = (step_of(tokens=1e6, gradient_checkpointing=flag).compute for flag in (False, True))
    assert 0.2 < recomputing / saving - 1 < 1 / 3


def test_nodes_with_a_slow_network_communicate_as_slowly_as_the_network():
    slow = find_gpu("a100-80g", {"--network-gb-s": 1.0})
    assert step_of(slow, nodes=2).communication == pytest.approx(step_of().communication * 300 / 4)
    fast = find_gpu("a100-80g", {"--network-gb-s": 1000.0})
    assert step_of(fast, nodes=2).communication == pytest.approx(step_of().communication)


def test_the_cards_run_is_bound_by_the_traffic_of_zero_3_and_stage_2_fits():
    plan = plan_run(CARD, CARD_WORKLOAD, machines())
    own = plan.recipe_estimate
    assert own.step.bound_by == "communication" and own.step_count == 25_688 and own.fits
    assert plan.stage_2_estimate.fits
    assert plan.stage_2_estimate.step.communication_bytes == pytest.approx(own.step.communication_bytes * 2 / 3)
    assert own.dollars == pytest.approx(own.hours * 8 * 1.5)


def test_the_cards_hours_are_met_with_examples_of_the_greatest_length_only():
    """The card says 15 hours. The recipe alone says how long an example may be, not how long they are (307 tokens)."""
    longest = Workload(SHAPE_13B, np.full(137_000, 1024, np.int64), 1024)
    assert plan_run(CARD, longest, machines()).recipe_estimate.hours == pytest.approx(15, rel=0.25)
    assert plan_run(CARD, CARD_WORKLOAD, machines()).recipe_estimate.hours < 0.6 * 15


def test_settings_that_fit_are_ranked_by_dollars_and_keep_the_global_batch():
    plan = plan_run(CARD, CARD_WORKLOAD, machines())
    dollars = [estimate.dollars for estimate in plan.fitting_estimates]
    assert dollars == sorted(dollars, key=lambda price: round(price, 4))
    for estimate in plan.fitting_estimates:
        train = estimate.train
        assert train.micro_batch * train.accumulation * train.processes == train.global_batch == 16
        assert estimate.fits
    assert {train.zero_stage for train in settings(CARD.train)} == {0, 1, 2, 3}
    assert {train.packing for train in settings(CARD.train)} == {"none", "exact"}
    assert {train.packing for train in settings(CARD.train.model_copy(update={"packing": "dense"}))} == {"dense"}


def test_examples_of_different_lengths_cost_less_packed_than_padded():
    lengths = np.random.default_rng(0).integers(50, 1024, 4000)
    plan = plan_run(CARD, Workload(SHAPE_13B, lengths, int(lengths.max())), machines())

    def seconds(packing):
        return min(e.step.seconds for e in plan.fitting_estimates if e.train.packing == packing)

    assert seconds("exact") < seconds("none")


def test_a_measured_step_scales_all_times():
    estimated_plan, plan_of_measured_step = (
        plan_run(CARD, CARD_WORKLOAD, machines(), seconds) for seconds in (None, 2.1)
    )
    assert plan_of_measured_step.recipe_estimate.step.seconds == pytest.approx(2.1)
    assert plan_of_measured_step.recipe_estimate.mfu == pytest.approx(0.074, rel=0.05)  # the card's 15 hours
    factor = 2.1 / estimated_plan.recipe_estimate.step.seconds
    assert plan_of_measured_step.fitting_estimates[0].hours == pytest.approx(
        factor * estimated_plan.fitting_estimates[0].hours
    )


def test_what_fits_nowhere_is_refused_with_what_would_make_it_fit():
    small = find_gpu("rtx-3090", {"--memory-gb": 6})
    with pytest.raises(UserError) as refusal:
        plan_run(CARD, CARD_WORKLOAD, machines(small))
    message = str(refusal.value)
    assert "no setting fits 8 × rtx-3090" in message
    gpu_name = message.partition("--gpu ")[2].partition(",")[0]
    assert plan_run(CARD, CARD_WORKLOAD, machines(find_gpu(gpu_name, {}))).fitting_estimates
    gpu_count = int(message.partition(" GPUs, with")[0].split()[-1])
    assert gpu_count > 8
    train = Train(global_batch=gpu_count, processes=gpu_count, micro_batch=1)
    more = CARD.model_copy(update={"train": train})
    assert plan_run(more, CARD_WORKLOAD, machines(small, gpus=gpu_count)).fitting_estimates


def test_the_advice_for_dense_packing_is_for_rows_of_the_greatest_length():
    small = find_gpu("rtx-3090", {"--memory-gb": 16})
    short_examples = Workload(SHAPE_13B, np.full(137_000, 300, np.int64), 300)
    train = CARD.train.model_copy(update={"packing": "dense"})

    def of_length(max_length):
        return CARD.model_copy(update={"train": train, "data": CARD.data.model_copy(update={"max_length": max_length})})

    with pytest.raises(UserError) as refusal:
        plan_run(of_length(16_384), short_examples, machines(small))
    gpu_name = str(refusal.value).partition("--gpu ")[2].partition(",")[0]
    assert plan_run(of_length(16_384), short_examples, machines(find_gpu(gpu_name, {}))).fitting_estimates
    shorter = int(str(refusal.value).partition("data.max_length=")[2].partition(")")[0])
    assert 300 < shorter < 16_384
    assert plan_run(of_length(shorter), short_examples, machines(small)).fitting_estimates


def test_a_recipe_in_float32_is_refused():
    recipe = CARD.model_copy(update={"train": Train(precision="fp32")})
    with pytest.raises(UserError, match=r"train\.precision=bf16"):
        plan_run(recipe, CARD_WORKLOAD, machines())


@pytest.mark.parametrize(
    ("gpus", "nodes", "words"),
    [
        (
            4,
            1,
            ["4 × 1 = 4 GPUs for 8 processes", "-o train.processes=4 -o train.micro_batch=2 -o train.accumulation=2"],
        ),
        (8, 2, ["16 GPUs for 8", "-o train.processes=16 -o train.micro_batch=1 -o train.accumulation=1"]),
        (3, 1, ["global_batch 16 cannot be divided by 3"]),
        (None, 3, ["cannot be shared out to 3 nodes"]),
    ],
)
def test_processes_that_do_not_match_the_gpus_are_refused_with_a_split_that_does(gpus, nodes, words):
    with pytest.raises(UserError) as refusal:
        check_machines(Train(), A100, gpus, nodes)
    assert all(word in str(refusal.value) for word in words)


def test_nodes_of_a_gpu_whose_network_nobody_knows_are_refused():
    with pytest.raises(UserError, match="--network-gb-s"):
        check_machines(Train(), find_gpu("l40s", {}), 4, 2)
    assert check_machines(Train(), find_gpu("l40s", {"--network-gb-s": 12.5}), 4, 2) == (4, 2)


def test_a_gpu_that_is_not_in_the_table_takes_its_figures_from_options():
    with pytest.raises(UserError) as refusal:
        find_gpu("h10", {"--tflops": 100.0})
    assert "did you mean 'h100'" in str(refusal.value)
    assert "--memory-gb, --memory-gb-s, --link-gb-s" in str(refusal.value) and "--tflops" not in str(refusal.value)
    figures = {"--tflops": 142.0, "--memory-gb": 48.0, "--memory-gb-s": 864.0, "--link-gb-s": 32.0}
    own = find_gpu("mine", figures)
    assert (own.name, own.peak_flops, own.memory_gb) == ("mine", 142e12, 48.0)
    assert find_gpu("H100", {"--memory-gb": 94.0}).memory_gb == 94.0


@pytest.mark.parametrize("figure", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_figure_of_a_gpu_is_refused(figure):
    with pytest.raises(UserError, match="--memory-gb"):
        find_gpu("h100", {"--memory-gb": figure})


def test_every_gpu_of_the_table_has_figures_in_plausible_units():
    for gpu in GPUS:
        assert 50e12 < gpu.peak_flops < 5e15 and 16 <= gpu.memory_gb <= 200
        assert 200 < gpu.memory_gb_s < 10_000 and 30 < gpu.link_gb_s < 1000
        assert 0.25 * gpu.product_share < gpu.attention_share / 0.5 < gpu.product_share


def test_the_training_of_128_examples_on_a_gpu_is_estimated_by_the_python_time_of_that_of_16():
    """results/bench/training-gpu.md: 0.189 and 0.707 s a step on an H200. The first gives HOST_SECONDS_PER_LAYER."""
    config = LlamaConfig(hidden_size=2048, intermediate_size=5504, num_hidden_layers=22, num_attention_heads=16)
    shape = ModelShape.of_config(config)

    def seconds(tokens, passes, recomputes):
        train = Train(
            global_batch=passes, micro_batch=1, accumulation=passes, processes=1, gradient_checkpointing=recomputes
        )
        pass_tokens = np.full(passes, tokens / passes)
        step = estimate_step(shape, train, StepWork(pass_tokens, pass_tokens * 164 / 2), find_gpu("h200", {}))
        return step.seconds

    assert seconds(2616, 1, recomputes=False) == pytest.approx(0.189, rel=0.02)
    assert seconds(21_516, 2, recomputes=True) == pytest.approx(0.707, rel=0.15)


def test_the_memory_of_a_plan_by_mean_length_is_that_of_the_greatest_length():
    by_mean, by_longest = (
        plan_run(CARD, Workload(SHAPE_13B, np.full(1000, tokens, np.int64), 1024), machines()) for tokens in (307, 1024)
    )
    assert by_mean.recipe_estimate.memory == by_longest.recipe_estimate.memory
    assert by_mean.recipe_estimate.step.seconds < by_longest.recipe_estimate.step.seconds


def test_what_needs_nearly_all_of_the_memory_does_not_count_as_fitting():
    needed_gb = plan_run(CARD, CARD_WORKLOAD, machines()).recipe_estimate.memory.total_gib * 2**30 / 1e9
    for spare_share, fits in ((0.04, False), (0.06, True)):
        gpu = find_gpu("a100-80g", {"--memory-gb": needed_gb / (1 - spare_share)})
        assert plan_run(CARD, CARD_WORKLOAD, machines(gpu)).recipe_estimate.fits == fits


def test_offloading_is_a_cause_of_its_own():
    assert step_of(offload="none").offload == 0
    alone = step_of(global_batch=2, processes=1, offload="cpu")
    assert alone.communication == 0 and alone.bound_by == "offload"


def test_one_process_may_have_every_stage():
    one_process = Train(processes=1, micro_batch=16)
    assert {(train.zero_stage, train.offload) for train in settings(one_process)} >= {(2, "cpu"), (1, "none")}


def test_the_gradients_in_float32_are_of_a_whole_part_at_stages_1_and_2_and_of_a_thousand_million_at_stage_3():
    buffers = {
        stage: estimate_memory(SHAPE_13B, Train(zero_stage=stage, global_batch=16), 1024).buffers_gib * 2**30
        for stage in (1, 2, 3)
    }
    assert buffers[1] == buffers[2] == pytest.approx(1e9 + 4 * SHAPE_13B.parameter_count / 8)
    assert buffers[3] == pytest.approx(1e9 + 4e9 + 2e9)
