"""What LoRA costs by the formulas, and where a plan lists it."""

from dataclasses import replace

import numpy as np
import pytest
from transformers import LlamaConfig

from orca_bench.errors import UserError
from orca_bench.recipe import Architecture, Data, Lora, Model, Recipe, Train
from orca_bench.train import lora, student_model
from orca_bench.train.deepspeed_engine import deepspeed_config, fit_gradient_buffer
from orca_bench.train.gpus import find_gpu
from orca_bench.train.lora_targets import LinearLayers
from orca_bench.train.memory_estimate import estimate_memory, reduce_bucket_size
from orca_bench.train.model_shape import ModelShape, published_shape
from orca_bench.train.planned_workload import described_workload
from orca_bench.train.run_plan import PROPOSED_LORA, Machines, Workload, plan_run
from orca_bench.train.step_estimate import StepWork, estimate_step

SHAPE_13B = published_shape("openlm-research/open_llama_13b")


def lora_train(**keys):
    return Train(**({"global_batch": 16, "lora": Lora(rank=16, alpha=32.0)} | keys))


def test_only_loras_weights_have_gradients_and_states():
    train = lora_train(zero_stage=0)
    base, trained = SHAPE_13B.parameter_count, SHAPE_13B.trained_parameter_count(train)
    assert trained == 62_586_880  # 16 × 40 × (4 × 2 × 5120 + 3 × (5120 + 13,824))
    states = estimate_memory(SHAPE_13B, train, 1024).states_gib * 2**30
    assert states == pytest.approx(2 * base + 16 * trained)
    states = estimate_memory(SHAPE_13B, lora_train(zero_stage=3), 1024).states_gib * 2**30
    assert states == pytest.approx((2 * base + 16 * trained) / 8)
    full, frozen = (estimate_memory(SHAPE_13B, train, 1024) for train in (Train(global_batch=16), lora_train()))
    assert frozen.output_head_gib < 0.2 * full.output_head_gib
    assert frozen.activations_gib > full.activations_gib


def test_frozen_weights_take_two_thirds_of_the_operations():
    flops, trained_flops = SHAPE_13B.flops, SHAPE_13B.training_flops(lora_train())
    adapter_count = SHAPE_13B.trained_parameter_count(lora_train())
    assert trained_flops.product_flops(1.0) == pytest.approx(flops.product_flops(1.0) * 4 / 6 + 6 * adapter_count)
    assert trained_flops.attention_flops(1.0) == flops.attention_flops(1.0)
    assert SHAPE_13B.training_flops(Train()) == flops


@pytest.mark.parametrize(("targets", "recomputes_last"), [(None, True), (["down_proj"], True), (["q_proj"], False)])
def test_the_last_product_of_a_layer_is_recomputed_where_it_is_a_target(targets, recomputes_last):
    gpu, tokens = find_gpu("a100-80g", {}), np.full(1, 600.0)

    def compute(recomputes):
        train = Train(
            global_batch=16, lora=Lora(rank=16, alpha=32.0, targets=targets), gradient_checkpointing=recomputes
        )
        return estimate_step(SHAPE_13B, train, StepWork(tokens, np.zeros(1)), gpu).compute

    expected = SHAPE_13B.layer_product_parameter_count
    expected += SHAPE_13B.adapter_parameter_count(Train(lora=Lora(rank=16, alpha=32.0, targets=targets)))
    expected -= 0 if recomputes_last else 40 * 5120 * 13_824
    recomputed_flops = (compute(True) - compute(False)) * gpu.product_share * gpu.peak_flops
    assert recomputed_flops == pytest.approx(2 * 600 * expected)


def test_an_output_head_with_lora_has_all_logits_and_their_gradients_in_float32():
    for precision in ("bf16", "fp32"):
        train = lora_train(lora=Lora(rank=16, alpha=32.0, targets=["lm_head"]), micro_batch=1, precision=precision)
        assert estimate_memory(SHAPE_13B, train, 1024).output_head_gib * 2**30 == pytest.approx(12 * 1024 * 32_000)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_deepspeeds_buffer_of_gradients_has_the_size_of_the_estimate(stage):
    config = LlamaConfig(
        hidden_size=64, intermediate_size=160, num_hidden_layers=3, num_attention_heads=4, vocab_size=500
    )
    train = lora_train(lora=Lora(rank=4, alpha=8.0), zero_stage=stage, precision="fp32", processes=1, micro_batch=16)
    student, shape = student_model.build_random_model(config, seed=0), ModelShape.of_config(config)
    lora.inject_adapter(student, train.lora, seed=0)
    recipe = Recipe(name="r", model=Model(base="b"), data=Data(records=["r"]), train=train)
    deepspeed_configuration = deepspeed_config(recipe)
    assert "reduce_bucket_size" not in deepspeed_configuration["zero_optimization"]  # as without LoRA
    fit_gradient_buffer(deepspeed_configuration, student)
    bucket_size = deepspeed_configuration["zero_optimization"]["reduce_bucket_size"]
    gathered_count = 0 if stage < 3 else shape.parameter_count + shape.adapter_parameter_count(train)
    buffers_gib = estimate_memory(shape, train, 64).buffers_gib
    assert buffers_gib * 2**30 == pytest.approx(4 * (bucket_size + gathered_count))
    assert bucket_size == shape.trained_parameter_count(train)
    assert reduce_bucket_size(10**12) == 500_000_000


def test_what_is_sent_are_loras_gradients_and_at_stage_3_all_weights_twice_a_pass():
    def sent(**keys):
        passes = np.full(2, 600.0)
        train = lora_train(micro_batch=1, accumulation=2, **keys)
        return estimate_step(SHAPE_13B, train, StepWork(passes, passes), find_gpu("a100-80g", {})).communication_bytes

    trained = SHAPE_13B.trained_parameter_count(lora_train())
    everything = SHAPE_13B.parameter_count + trained
    share = 2 * 7 / 8  # bytes, and the part that comes from others
    assert sent(zero_stage=1) == pytest.approx(share * 2 * trained)
    assert sent(zero_stage=2) == pytest.approx(share * 3 * trained)
    assert sent(zero_stage=3) == pytest.approx(share * (4 * everything + 2 * trained))


def card(**train_keys):
    train = Train(**train_keys)
    return Recipe(
        name="card", model=Model(base="openlm-research/open_llama_13b"), data=Data(records=["r"]), train=train
    )


WORKLOAD = Workload(SHAPE_13B, np.full(137_000, 307, np.int64), 1024)


def test_where_the_recipe_does_not_fit_settings_with_lora_are_listed_by_themselves():
    one_gpu = Machines(find_gpu("a100-40g", {}), 1, 1, 1.5)
    plan = plan_run(card(processes=1, micro_batch=16), WORKLOAD, one_gpu)
    assert not plan.recipe_estimate.fits and plan.problem is not None and "no setting fits" in str(plan.problem)
    assert not plan.fitting_estimates and plan.lora_estimates
    assert all(estimate.train.lora == PROPOSED_LORA and estimate.fits for estimate in plan.lora_estimates)
    dollars = [round(estimate.dollars, 4) for estimate in plan.lora_estimates]
    assert dollars == sorted(dollars)


def test_where_the_recipe_fits_or_has_lora_itself_nothing_else_is_proposed():
    eight = Machines(find_gpu("a100-80g", {}), 8, 1, 1.5)
    plan = plan_run(card(), WORKLOAD, eight)
    assert plan.recipe_estimate.fits and not plan.lora_estimates and plan.problem is None
    own = Lora(rank=64, alpha=16.0, targets=["q_proj"])
    plan = plan_run(card(lora=own), WORKLOAD, eight)
    assert not plan.lora_estimates and all(estimate.train.lora == own for estimate in plan.fitting_estimates)
    assert plan.fitting_estimates[0].hours < plan_run(card(), WORKLOAD, eight).fitting_estimates[0].hours


def test_lora_that_training_would_refuse_is_not_proposed():
    one_gpu = Machines(find_gpu("a100-40g", {}), 1, 1, 1.5)
    recipe = card(processes=1, micro_batch=16)
    shape = {"hidden_size": 5120, "intermediate_size": 13_824, "num_hidden_layers": 40, "num_attention_heads": 40}
    random = Model(random=Architecture(**shape), tokenizer="mini:tokenizer")
    narrow = LinearLayers("gate", 5120, 8, 40)  # the rank that is proposed is 16
    without_layers, with_narrow_layer = (
        replace(WORKLOAD, shape=replace(SHAPE_13B, linear_layers=linear_layers))
        for linear_layers in ((), (*SHAPE_13B.linear_layers, narrow))
    )
    for refused_recipe, workload in (
        (recipe.model_copy(update={"model": random}), WORKLOAD),
        (recipe, replace(WORKLOAD, has_quantized_base=True)),
        (recipe, without_layers),
        (recipe, with_narrow_layer),
    ):
        with pytest.raises(UserError, match="no setting fits"):
            plan_run(refused_recipe, workload, one_gpu)


def test_what_does_not_fit_with_lora_either_is_refused():
    with pytest.raises(UserError, match="no setting fits"):
        plan_run(card(), WORKLOAD, Machines(find_gpu("rtx-3090", {"--memory-gb": 4}), 8, 1, None))


def test_a_plan_without_records_refuses_the_same():
    train = Train(lora=Lora(rank=8, alpha=8.0, targets=["q_pro"]))
    recipe = Recipe(name="r", model=Model(base="openlm-research/open_llama_13b"), data=Data(records=["r"]), train=train)
    with pytest.raises(UserError, match="no linear layer 'q_pro'.*did you mean 'q_proj'"):
        described_workload(recipe, 100, 200)
