"""A reference, other models and token ids in, how the models' next-token distributions differ from the reference's out.

All models are fed the same batches of the prefix tree, one batch at a time, so that the system message and the prompt that
records share are computed once. The output head runs on the scored positions only, some at a time: [positions, vocabulary] is
in memory for these alone. Logits are float32 and all that follows is float64. Where a model does not fit the tree, or a record
is too long for it, all models are computed by plain forward passes, a record at a time. Its own module because no question is
scored: engines are used here below the interface that protocols share.

The price: the weights of all models in float32, and a forward pass of each over all records; nothing is kept for a second try.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from orca_bench.errors import UserError
from orca_bench.evaluate.engine import prefix_tree
from orca_bench.evaluate.engine.kv_cache import CachedPath
from orca_bench.evaluate.engine.tree_engine import TreeEngine, load_checked_engine, not_finite_error
from orca_bench.evaluate.request_encoding import ScoredSequence
from orca_bench.models.model_folder import ModelFolder
from orca_bench.stats.token_divergences import TokenDivergences
from orca_bench.tokenizers import probe_texts

#: Called with the tokens that every model has computed, and all tokens.
ReportTokens = Callable[[int, int], None]
_HEAD_POSITIONS = 64  # that go through the output heads at once
#: Whose distributions are computed at once: 8 × 32,000 float64 fit a processor's cache, three times as fast.
_POSITIONS_AT_ONCE = 8
_PROBE_COUNT = 1000  # texts whose ids must be the same


def check_same_tokens(reference: ModelFolder, model: ModelFolder) -> None:
    """Raise UserError where two models do not have the same token ids: vocabulary size, BOS, EOS, and ids of probe texts."""
    reference_tokenizer, tokenizer = reference.tokenizer, model.tokenizer
    sizes = [folder.config.get_text_config().vocab_size for folder in (model, reference)]
    if sizes[0] != sizes[1]:
        raise UserError(
            f"a vocabulary of {sizes[0]:,}, and {sizes[1]:,} in {reference.path_or_hub_id}: only models with the same token "
            "ids can be compared token by token",
            where=model.path_or_hub_id,
        )
    texts = probe_texts(_PROBE_COUNT)
    ids_by_model = [
        [
            ("BOS and EOS", [compared_tokenizer.bos_id, compared_tokenizer.eos_id]),
            *zip(texts, compared_tokenizer.encode_batch(texts), strict=True),
        ]
        for compared_tokenizer in (tokenizer, reference_tokenizer)
    ]
    for (text, ids), (_, reference_ids) in zip(*ids_by_model, strict=True):
        if ids != reference_ids:
            raise UserError(
                f"another tokenizer than {reference.path_or_hub_id}'s: {text!r:.60} is {str(ids):.60} and there "
                f"{str(reference_ids):.60}; only models with the same token ids can be compared token by token",
                where=model.path_or_hub_id,
            )


def measure_divergences(
    reference: ModelFolder,
    models: Sequence[ModelFolder],
    sequences: Sequence[ScoredSequence],
    report_tokens: ReportTokens = lambda done_count, total: None,
) -> list[TokenDivergences]:
    """The divergences of each model from the reference over the scored tokens of the sequences, in the models' order.

    A token's record is the number of its sequence. Raises UserError where a model cannot be evaluated, where it gives a logit
    that is not finite, and where the memory is too small for all models at once.
    """
    folders = [reference, *models]
    with _explain_full_memory(len(folders)):
        engines = [load_checked_engine(folder, "float32") for folder in folders]
        with torch.inference_mode():
            return _measure_with_engines(engines, folders, sequences, report_tokens)


def _measure_with_engines(
    engines: Sequence[TreeEngine],
    folders: Sequence[ModelFolder],
    sequences: Sequence[ScoredSequence],
    report_tokens: ReportTokens,
) -> list[TokenDivergences]:
    """As `measure_divergences`; the first engine and folder are the reference's."""
    scored_count = sum(len(sequence.token_ids) - sequence.scored_start for sequence in sequences)
    divergences_by_model = [_empty_divergences(scored_count) for _ in folders[1:]]
    longest_length = max(len(sequence.token_ids) for sequence in sequences) - 1
    fits_tree = all(engine.max_tree_tokens is None or longest_length <= engine.max_tree_tokens for engine in engines)
    passes = _tree_passes(engines, sequences) if fits_tree else _plain_passes(engines, sequences)
    total_count = (
        prefix_tree.count_distinct_tokens(sequences)
        if fits_tree
        else sum(len(sequence.token_ids) - 1 for sequence in sequences)
    )
    computed_count = position_count = 0
    for computed_pass in passes:
        for start in range(0, len(computed_pass.target_ids), _HEAD_POSITIONS):
            positions = slice(start, start + _HEAD_POSITIONS)
            logits = [logits_at(positions) for logits_at in computed_pass.logits]
            place = slice(position_count, position_count + len(logits[0]))
            for divergences in divergences_by_model:
                divergences.record_labels[place] = computed_pass.sequence_indices[positions]
            _measure_positions(divergences_by_model, place, logits, computed_pass.target_ids[positions])
            _check_finite(divergences_by_model, place, folders)
            position_count = place.stop
        computed_count += computed_pass.token_count
        report_tokens(computed_count, total_count)
    return divergences_by_model


class _ComputedPass(NamedTuple):
    """One pass of every model: the tokens that it computed, and its scored positions.

    `logits` has a function for each model that gives the logits, [positions, vocabulary], of some of the scored positions.
    `target_ids` is int64 [scored], the right tokens; `sequence_indices` int64 [scored], the numbers of their sequences.
    """

    token_count: int
    logits: Sequence[Callable[[slice], torch.Tensor]]
    target_ids: torch.Tensor
    sequence_indices: NDArray[np.int64]


def _tree_passes(engines: Sequence[TreeEngine], sequences: Sequence[ScoredSequence]) -> Iterator[_ComputedPass]:
    """A pass for each batch of the prefix tree, of which the model with the least room says how large it is."""
    cached_paths = [CachedPath() for _ in engines]
    batches = prefix_tree.tree_batches(sequences, min(engine.max_batch_tokens for engine in engines))
    for batch, next_cached_indices in prefix_tree.with_next_cached_indices(batches):
        logits_functions = []
        indices = torch.tensor(
            [i for targets in batch.scored_targets for i in targets.preceding_indices], dtype=torch.long
        )
        for model_index, engine in enumerate(engines):
            with torch.inference_mode():
                hidden_states, cached_paths[model_index] = engine.tree_forward.compute_batch(
                    batch, cached_paths[model_index], next_cached_indices
                )
                scored_states = hidden_states[indices.to(hidden_states.device)]
            logits_functions.append(functools.partial(_head_logits, engine, scored_states))
        yield _ComputedPass(
            len(batch.token_ids),
            logits_functions,
            torch.tensor([id_ for targets in batch.scored_targets for id_ in targets.target_ids], dtype=torch.long),
            np.repeat(
                np.array([targets.sequence_index for targets in batch.scored_targets], dtype=np.int64),
                [len(targets.target_ids) for targets in batch.scored_targets],
            ),
        )


def _head_logits(engine: TreeEngine, scored_states: torch.Tensor, positions: slice) -> torch.Tensor:
    return engine.tree_forward.logits(scored_states[positions])


def _plain_passes(engines: Sequence[TreeEngine], sequences: Sequence[ScoredSequence]) -> Iterator[_ComputedPass]:
    """A pass for each sequence alone."""
    for sequence_index, sequence in enumerate(sequences):
        target_ids = torch.tensor(sequence.token_ids[sequence.scored_start :], dtype=torch.long)
        with torch.inference_mode():
            log_probabilities = [
                engine.plain_passes.log_probabilities(sequence.token_ids[:-1], sequence.scored_start - 1)
                for engine in engines
            ]
        yield _ComputedPass(
            len(sequence.token_ids) - 1,
            [tensor.__getitem__ for tensor in log_probabilities],  # logits up to a constant
            target_ids,
            np.full(len(target_ids), sequence_index, dtype=np.int64),
        )


def _measure_positions(
    divergences_by_model: Sequence[TokenDivergences],
    place: slice,
    logits: Sequence[torch.Tensor],
    target_ids: torch.Tensor,
) -> None:
    """Write what is known of some positions to their place; `logits` are [positions, vocabulary], the reference's first."""
    reference_logits, *logits_by_model = logits
    targets = target_ids.to(reference_logits.device)[:, None]
    for start in range(0, len(targets), _POSITIONS_AT_ONCE):
        rows = slice(start, start + _POSITIONS_AT_ONCE)
        part = slice(place.start + start, min(place.start + start + _POSITIONS_AT_ONCE, place.stop))
        reference = reference_logits[rows].float().double().log_softmax(dim=-1)
        probabilities, reference_top = reference.exp(), reference_logits[rows].argmax(dim=-1)
        reference_log_probabilities = reference.gather(1, targets[rows])[:, 0].cpu()
        for divergences, model_logits in zip(divergences_by_model, logits_by_model, strict=True):
            own_logits = model_logits[rows].to(reference.device)
            model = own_logits.float().double().log_softmax(dim=-1)
            divergences.kl_divergences[part] = (probabilities * (reference - model)).sum(dim=-1).cpu()
            divergences.log_probabilities[part] = model.gather(1, targets[rows])[:, 0].cpu()
            divergences.reference_log_probabilities[part] = reference_log_probabilities
            divergences.has_same_top[part] = (reference_top == own_logits.argmax(dim=-1)).cpu()


def _check_finite(
    divergences_by_model: Sequence[TokenDivergences], place: slice, folders: Sequence[ModelFolder]
) -> None:
    """Raise UserError, naming the model, where a logit was not finite: log-probability or divergence is then none either."""
    for divergences, model in zip(divergences_by_model, folders[1:], strict=True):
        for folder, values in (
            (folders[0], divergences.reference_log_probabilities[place]),
            (model, divergences.log_probabilities[place]),
            (model, divergences.kl_divergences[place]),
        ):
            if not np.isfinite(values).all():
                raise not_finite_error(folder)


def _empty_divergences(token_count: int) -> TokenDivergences:
    """Arrays that are filled while the models are computed.

    They are allocated at once: small arrays that stay, among distributions that come and go, kept glibc from using the memory of
    these again (10 GiB for 30,000 tokens of 32,000 words).
    """
    return TokenDivergences(
        np.empty(token_count),
        np.empty(token_count),
        np.empty(token_count),
        np.empty(token_count, dtype=np.bool_),
        np.empty(token_count, dtype=np.int64),
    )


@contextmanager
def _explain_full_memory(model_count: int) -> Iterator[None]:
    """Raise UserError where the memory is too small for all models at once."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise UserError(
            f"out of memory with {model_count} models at once", hint="measure fewer in one command"
        ) from None
