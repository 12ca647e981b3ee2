"""Packed examples are computed as each alone; an engine whose model does not do that is refused."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from variable_length_stand_in import attend_each_sequence

from orca_bench.errors import UserError
from orca_bench.train import deepspeed_engine, micro_batches, packed_attention, packing_check
from orca_bench.train.micro_batches import ScoredSequence
from orca_bench.train.output_head import LossHead

SHAPE = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    "llama with tied weights": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE | {"tie_word_embeddings": True})),
    "mistral with a window": lambda: MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=8)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE)),
}


class Engine:
    """What the check uses of DeepSpeed's engine, around a model that is not sharded."""

    def __init__(self, model, is_packed=True):
        packed_attention.register_packed_attention()
        if is_packed:
            model.set_attn_implementation(packed_attention.PACKED_ATTENTION)
        self.module, self.loss_head, self.device = model, LossHead(model), torch.device("cpu")
        self.eval, self.train = model.eval, model.train
        self.fp16_enabled, self.gradient_accumulation_steps = lambda: False, lambda: 1

    def __call__(self, **arguments):
        return self.module(**arguments)


def build(name, scale=6):
    torch.manual_seed(1)
    model = MODELS[name]()
    with torch.no_grad():  # attention that matters
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(scale)
    return model


@pytest.mark.parametrize("name", MODELS)
def test_a_row_has_the_loss_and_the_gradients_of_its_examples_alone(name):
    model = build(name)
    generator = np.random.default_rng(2)
    sequences = [ScoredSequence(generator.integers(0, 300, n), p) for n, p in ((20, 5), (1, 1), (13, 1), (31, 30))]
    alone = Engine(model, is_packed=False)
    losses = [deepspeed_engine.sum_of_losses(alone, micro_batches.pad([s], torch.device("cpu"))) for s in sequences]
    expected = torch.autograd.grad(sum(losses), list(model.parameters()))
    model.lm_head.forward = type(model.lm_head).forward.__get__(model.lm_head)
    together = Engine(model)
    loss = deepspeed_engine.sum_of_losses(together, micro_batches.pack(sequences, torch.device("cpu")))
    assert float(loss) == pytest.approx(float(sum(losses)), rel=1e-6)
    for gradient, expected_gradient in zip(torch.autograd.grad(loss, list(model.parameters())), expected, strict=True):
        assert (gradient - expected_gradient).norm() <= 2e-5 * expected_gradient.norm()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_check_passes_models_that_pack(name, dtype):
    packing_check.check_engine(Engine(build(name).to(dtype)), packs=True)
    packing_check.check_engine(Engine(build(name, scale=1).to(dtype)), packs=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [1, 6])
def test_attention_that_crosses_examples_is_refused(dtype, scale, monkeypatch):
    def attend_to_all(query, key, value, scaling, sliding_window, sequence_lengths):
        return packed_attention_of_one(query, key, value, scaling, sliding_window, [sum(sequence_lengths)])

    packed_attention_of_one = packed_attention._attend_one_by_one
    engine = Engine(build("llama", scale).to(dtype))
    monkeypatch.setattr(packed_attention, "_attend_one_by_one", attend_to_all)
    monkeypatch.setattr(packing_check, "_check_attention", lambda engine: None)
    with pytest.raises(UserError, match=r"^train.packing: .*packed examples see one another"):
        packing_check.check_engine(engine, packs=True)


def test_attention_that_is_separate_and_wrong_is_refused(monkeypatch):
    def attend_to_nothing(query, key, value, scaling, sliding_window, sequence_lengths):
        copies = query.shape[1] // value.shape[1]
        return (value.repeat_interleave(copies, dim=1) + 0 * query + 0 * key.sum()).transpose(1, 2)

    for scale, dtype in ((1, torch.bfloat16), (1, torch.float32), (6, torch.bfloat16)):
        engine = Engine(build("llama", scale).to(dtype))
        with monkeypatch.context() as patch:
            patch.setattr(packed_attention, "_attend_one_by_one", attend_to_nothing)
            with pytest.raises(UserError, match="packed attention differs from masked attention by"):
                packing_check.check_engine(engine, packs=True)
            patch.setattr(packing_check, "_check_attention", lambda engine: None)
            with pytest.raises(UserError, match="computes a packed example otherwise than alone"):
                packing_check.check_engine(engine, packs=True)


def test_attention_with_a_wrong_gradient_or_window_is_refused(monkeypatch):
    own_attention = packed_attention._attend_one_by_one

    def stop_key_gradient(query, key, value, *arguments):
        return own_attention(query, key.detach() + 0 * key, value, *arguments)

    def ignore_window(query, key, value, scaling, sliding_window, sequence_lengths):
        return own_attention(query, key, value, scaling, None, sequence_lengths)

    for fault, name in ((stop_key_gradient, "llama"), (ignore_window, "mistral with a window")):
        engine = Engine(build(name))
        with monkeypatch.context() as patch:
            patch.setattr(packed_attention, "_attend_one_by_one", fault)
            with pytest.raises(UserError, match="packed attention differs from masked attention by"):
                packing_check.check_engine(engine, packs=True)


def test_dropout_in_a_models_attention_is_refused_before_training():
    engine = Engine(LlamaForCausalLM(LlamaConfig(**SHAPE, attention_dropout=0.1)))
    with pytest.raises(UserError, match="train.packing: this model has attention with dropout"):
        packing_check.check_engine(engine, packs=True)


def test_positions_that_depend_on_the_longest_example_are_refused_above_the_window():
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    model = LlamaForCausalLM(LlamaConfig(**SHAPE, max_position_embeddings=64, rope_parameters=rope))
    with pytest.raises(UserError, match="rope_type dynamic.* above 64 tokens; set data.max_length to 64 or less"):
        packing_check.check_engine(Engine(model), packs=True, max_length=65)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE, max_position_embeddings=64, rope_parameters=rope))
    packing_check.check_engine(Engine(model), packs=True, max_length=64)


def test_experts_do_not_make_a_model_look_as_if_its_examples_saw_one_another():
    from transformers import MixtralConfig, MixtralForCausalLM

    model = MixtralForCausalLM(MixtralConfig(**SHAPE, num_local_experts=4, num_experts_per_tok=2))
    packing_check.check_engine(Engine(model.to(torch.bfloat16)), packs=True)


def test_the_trap_of_transformers_own_packing_would_be_found():
    """With use_cache, position_ids alone do not keep examples apart under sdpa: what the check is for."""
    model = build("llama")
    engine = Engine(model, is_packed=False)
    sequences = [ScoredSequence(np.arange(10), 10), ScoredSequence(np.arange(9) + 50, 1)]

    def loss(first_ids):
        sequences[0] = ScoredSequence(first_ids, 10)
        micro_batch = micro_batches.pack(sequences, torch.device("cpu"))
        position_ids = micro_batch.forward_arguments["position_ids"]

        def model_with_cache(input_ids, use_cache, **arguments):
            return model(input_ids=input_ids, position_ids=position_ids, use_cache=True)

        with torch.no_grad():
            return engine.loss_head.sum_of_losses(model_with_cache, micro_batch).item()

    assert loss(np.arange(10)) != pytest.approx(loss(np.arange(10) + 100), rel=1e-4)


def test_a_model_with_other_attention_is_refused_by_name_and_can_be_trained_padded():
    model = Gemma2ForCausalLM(Gemma2Config(**SHAPE, sliding_window=8, query_pre_attn_scalar=8))
    with pytest.raises(UserError, match="attention that takes softcap"):
        packing_check.check_engine(Engine(model), packs=True)
    engine = Engine(Gemma2ForCausalLM(Gemma2Config(**SHAPE, sliding_window=8, query_pre_attn_scalar=8)), False)
    packing_check.check_engine(engine, packs=False)
    assert not engine.loss_head.computes_loss  # its logits have a soft cap too


def test_the_loss_is_left_to_a_model_that_scales_its_logits():
    from transformers import GraniteConfig, GraniteForCausalLM

    engine = Engine(GraniteForCausalLM(GraniteConfig(**SHAPE, logits_scaling=8.0)), is_packed=False)
    assert engine.loss_head.computes_loss
    packing_check.check_engine(engine, packs=False)
    assert not engine.loss_head.computes_loss


def test_a_model_that_keeps_the_lengths_to_itself_is_refused():
    engine = Engine(build("llama"))
    own_forward = engine.module.forward
    engine.module.forward = lambda input_ids, use_cache, **arguments: own_forward(
        input_ids=input_ids, use_cache=use_cache, attention_mask=arguments.get("attention_mask")
    )
    with pytest.raises(UserError, match="does not tell its attention where examples end"):
        packing_check.check_engine(engine, packs=True)


@pytest.mark.parametrize(
    ("architecture", "problem"),
    [
        ("gpt_oss", "attention that takes s_aux"),  # sinks
        ("bloom", "packed examples see one another"),  # they compute attention themselves, and know no lengths
        ("mpt", "packed examples see one another"),
        ("mamba", "packed examples see one another|does not give the sizes of its attention"),
    ],
)
def test_models_whose_attention_is_another_are_refused_by_name(architecture, problem):
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"num_local_experts": 4, "layer_types": ["full_attention"] * 2, "attention_dropout": 0.0}
    options = SHAPE | sizes if architecture == "gpt_oss" else {"vocab_size": 300, "hidden_size": 32, "n_layers": 2}
    options |= {"d_model": 32, "n_heads": 4, "n_layer": 2, "n_head": 4, "num_hidden_layers": 2}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **options))
    with pytest.raises(UserError, match=f"^train.packing: .*({problem})"):
        packing_check.check_engine(Engine(model), packs=True, max_length=10**6)


def test_attention_in_chunks_is_refused_above_a_chunk():
    config = LlamaConfig(**SHAPE, attention_chunk_size=64)
    with pytest.raises(UserError, match="attends in chunks of 64 tokens; set data.max_length to 64 or less"):
        packing_check.check_engine(Engine(LlamaForCausalLM(config)), packs=True, max_length=65)
    packing_check.check_engine(Engine(LlamaForCausalLM(config)), packs=True, max_length=64)


def test_dropout_in_attention_is_refused_before_it_is_trained():
    with pytest.raises(NotImplementedError, match="dropout"):
        packed_attention.packed_attention(
            SimpleNamespace(), None, None, None, None, dropout=0.1,
            sequence_lengths=[1], cu_seq_lens_q=torch.tensor([0, 1]), max_length_q=1,
        )  # fmt: skip


@pytest.mark.parametrize("head_size", [8, 100])
@pytest.mark.parametrize("sliding_window", [None, 4])
@pytest.mark.parametrize("scaling", [None, 0.2])
def test_the_kernel_for_variable_lengths_gets_what_gives_the_same_as_one_by_one(
    monkeypatch, head_size, sliding_window, scaling
):
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", attend_each_sequence)
    lengths, generator = [7, 1, 11], torch.Generator().manual_seed(0)
    query = torch.randn(1, 4, 19, head_size, generator=generator)
    key, value = (torch.randn(1, 4, 19, head_size, generator=generator) for _ in range(2))
    boundaries = torch.tensor([0, 7, 8, 19], dtype=torch.int32)
    one_by_one = packed_attention._attend_one_by_one(query, key, value, scaling, sliding_window, lengths)
    in_one = packed_attention._attend_in_one_kernel(query, key, value, scaling, sliding_window, boundaries, 11)
    assert in_one.shape == one_by_one.shape == (1, 19, 4, head_size)
    torch.testing.assert_close(in_one, one_by_one, rtol=1e-5, atol=3e-6)
