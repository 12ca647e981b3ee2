"""Plain forward passes: progress, shared passes, greedy texts, full memory, NaN, and models that are not causal."""

import architectures
import pytest
import torch
from architectures import tiny_model_of

from orca_bench import library_settings
from orca_bench.errors import NotFinite, UserError
from orca_bench.evaluate.engine import prefix_tree
from orca_bench.evaluate.engine.tree_engine import TreeEngine
from orca_bench.evaluate.request_encoding import ScoredSequence


@pytest.fixture(scope="module", autouse=True)
def _quiet():
    library_settings.prepare_libraries()


@pytest.fixture(scope="module")
def plain_engine():
    engine = TreeEngine(tiny_model_of("falcon"))
    engine.choose_path()
    assert engine.computation_path == "plain" and engine.plain_passes.use_cache
    return engine


def test_progress_of_plain_passes_adds_up_to_the_tree_that_was_announced(plain_engine):
    requests, prompts = architectures.questions()
    counts, texts = [], []
    plain_engine.log_likelihoods(requests, counts.append)
    plain_engine.generate_ids(prompts, lambda number, ids: False, 3, texts.append)
    assert sum(counts) == prefix_tree.count_distinct_tokens(requests) and sum(texts) == len(prompts)


def test_requests_that_feed_the_same_share_a_pass(plain_engine, monkeypatch):
    passes, whole = [], plain_engine.plain_passes.log_probabilities
    monkeypatch.setattr(
        plain_engine.plain_passes, "log_probabilities", lambda ids, *more: passes.append(len(ids)) or whole(ids, *more)
    )
    plain_engine.log_likelihoods(
        [ScoredSequence([5, 6, 7, choice], 3) for choice in (10, 11, 12, 13)] + [ScoredSequence([5, 6, 9], 1)]
    )
    assert sorted(passes) == [2, 3]


def test_greedy_texts_ignore_what_a_folder_says_of_sampling(plain_engine):
    prompt = [[5, 9, 11, 20]]
    wanted = plain_engine.generate_ids(prompt, lambda number, ids: False, 12)
    model = plain_engine.model
    before = model.generation_config
    model.generation_config = type(before)(
        do_sample=True, temperature=3.0, repetition_penalty=9.0, eos_token_id=wanted[0][2], max_length=6
    )
    try:
        assert plain_engine.generate_ids(prompt, lambda number, ids: False, 12) == wanted
        assert model.generation_config.repetition_penalty == 9.0
    finally:
        model.generation_config = before


def test_stops_and_room_hold_without_a_tree_with_and_without_a_cache(plain_engine, monkeypatch):
    prompts = [[5, 9, 11], [7, 8]]
    with_cache = plain_engine.generate_ids(prompts, lambda number, ids: len(ids) == 2 + number, 9)
    assert [len(ids) for ids in with_cache] == [2, 3]
    monkeypatch.setattr(plain_engine.plain_passes, "use_cache", False)
    assert plain_engine.generate_ids(prompts, lambda number, ids: len(ids) == 2 + number, 9) == with_cache


def test_memory_that_is_too_small_for_one_sequence_is_said(plain_engine, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("as a GPU would")

    monkeypatch.setattr(plain_engine.model, "forward", full)
    with pytest.raises(UserError, match="out of memory with one sequence of 3 tokens"):
        plain_engine.log_likelihoods([ScoredSequence([1, 2, 3, 4], 1)])


def test_nan_is_named_on_the_plain_way():
    engine = TreeEngine(tiny_model_of("mpt"))
    engine.choose_path()
    engine.model.get_output_embeddings().weight.data[3] = float("nan")
    with pytest.raises(NotFinite, match="request 1"):
        engine.log_likelihoods([ScoredSequence([5, 6, 7, 8], 4), ScoredSequence([5, 6, 7, 9], 2)])
    with pytest.raises(NotFinite, match="nan to request 0"):
        engine.generate_ids([[1, 2, 3]], lambda number, ids: True, 4)
    with pytest.raises(NotFinite):
        engine.choose_path()


def test_a_model_that_sees_what_is_behind_is_refused():
    """A BERT that calls itself a decoder and is none: nothing in its configuration gives it away."""
    model = tiny_model_of("bert")
    model.config.is_decoder = True
    with pytest.raises(UserError, match="depends on the tokens behind it"):
        TreeEngine(model).choose_path()
