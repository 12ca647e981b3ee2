"""One pass over the sequences of all open requests: their next tokens in, the scores of what follows out.

A sequence whose text grows is fed its newest token; a prompt is fed in pieces, so that a long one does not hold up the others.
Its own module because it computes; `batch_scheduler` decides for whom.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from orca_bench.evaluate.engine.token_choice import TokenChoice
from orca_bench.evaluate.engine.tree_forward import TreeForward
from orca_bench.serve.request_sequence import NOT_FINITE, RequestSequence
from orca_bench.serve.sequence_cache import SequencesAttention
from orca_bench.serve.token_requests import TokenScore

#: The most tokens of prompts in a pass. A pass of 256 takes a CPU about as long for a token as a longer one, and the texts of
#: others wait for it.
MAX_PROMPT_TOKENS = 256


def compute_step(
    tree_forward: TreeForward, sequences: Sequence[RequestSequence], max_prompt_tokens: int = MAX_PROMPT_TOKENS
) -> None:
    """Feed the next tokens of the sequences and add what follows to them."""
    pieces = _next_pieces(sequences, max_prompt_tokens)
    attention = SequencesAttention(
        [sequence.cache for sequence, _ in pieces],
        [len(ids) for _, ids in pieces],
        tree_forward.layout.window_tokens_by_mask,
    )
    fed_ids = [token_id for _, ids in pieces for token_id in ids]
    token_ids, positions = (torch.tensor([ids], device=tree_forward.device) for ids in (fed_ids, attention.positions))
    hidden_states = tree_forward.last_hidden(token_ids, positions, attention)[0]
    rows = _scored_rows(pieces)
    if not rows:
        return
    row_indices = torch.tensor([index for _, index, _ in rows], device=hidden_states.device)
    logits = tree_forward.logits(hidden_states.index_select(0, row_indices)).float()
    log_sums = logits.logsumexp(dim=-1)
    for (sequence, _, _), is_finite in zip(rows, log_sums.isfinite().tolist(), strict=True):
        if not is_finite:
            sequence.finish("cancelled", NOT_FINITE)
    chosen_ids = _choose_tokens(
        logits,
        {
            row: sequence
            for row, (sequence, _, target_id) in enumerate(rows)
            if target_id is None and sequence.end is None
        },
    )
    target_ids = [chosen_ids.get(row, target_id or 0) for row, (_, _, target_id) in enumerate(rows)]
    scores = score_tokens(logits, target_ids, [sequence.request.top_count for sequence, _, _ in rows], log_sums)
    for (sequence, _, target_id), score in zip(rows, scores, strict=True):
        if sequence.end is not None:
            continue
        if target_id is None:
            sequence.add_new_token(score)
        else:
            sequence.add_prompt_scores([score])


def _next_pieces(
    sequences: Sequence[RequestSequence], max_prompt_tokens: int
) -> list[tuple[RequestSequence, list[int]]]:
    """The sequences that take part in a step, and the ids that are fed of each."""
    pieces = []
    for sequence in sequences:
        ids = sequence.unfed_ids
        if sequence.new_count == 0:
            ids = ids[:max_prompt_tokens]
            max_prompt_tokens -= len(ids)
        if ids:
            pieces.append((sequence, ids))
    return pieces


def _scored_rows(
    pieces: Sequence[tuple[RequestSequence, list[int]]],
) -> list[tuple[RequestSequence, int, int | None]]:
    """(sequence, index among the fed tokens, the token that follows in the prompt) of all tokens after which one is scored.

    None follows the last token of a sequence: there one is chosen.
    """
    rows: list[tuple[RequestSequence, int, int | None]] = []
    first_index = 0
    for sequence, ids in pieces:
        first_position = sequence.cache.token_count - len(ids)
        next_ids = [*sequence.token_ids[first_position + 1 : sequence.cache.token_count + 1], None][: len(ids)]
        rows += [
            (sequence, first_index + offset, next_id)
            for offset, next_id in enumerate(next_ids)
            if next_id is None or sequence.request.scores_prompt
        ]
        first_index += len(ids)
    return rows


def _choose_tokens(logits: torch.Tensor, sequences_by_row: Mapping[int, RequestSequence]) -> dict[int, int]:
    """The next token of each sequence, by the row of `logits`, [rows, vocabulary], that it follows.

    The rows of all sequences with the same rule are processed at once. A sequence whose probabilities are no numbers is ended.
    """
    rows_by_rule: dict[TokenChoice, list[int]] = {}
    for row, sequence in sequences_by_row.items():
        rows_by_rule.setdefault(sequence.sampler.rule, []).append(row)
    chosen_ids: dict[int, int] = {}
    for rule, rows in rows_by_rule.items():
        rule_logits = logits[rows]
        if rule.is_greedy:
            chosen_ids |= zip(rows, rule_logits.argmax(dim=-1).tolist(), strict=True)
            continue
        probabilities = sequences_by_row[rows[0]].sampler.probabilities(rule_logits)
        are_finite = probabilities.sum(dim=-1).isfinite().tolist()
        for row, row_probabilities, is_finite in zip(rows, probabilities, are_finite, strict=True):
            sequence = sequences_by_row[row]
            if is_finite:
                chosen_ids[row] = sequence.sampler.draw(row_probabilities)
            else:
                sequence.finish("cancelled", f"logits divided by the temperature {rule.temperature} are infinite")
    return chosen_ids


def score_tokens(
    logits: torch.Tensor, token_ids: Sequence[int], top_counts: Sequence[int], log_sums: torch.Tensor | None = None
) -> list[TokenScore]:
    """The scores of tokens by their logits, float32 [tokens, vocabulary], each with its number of likeliest tokens.

    `log_sums` is what `logits.logsumexp(dim=-1)` gives, where it is known.
    """
    if log_sums is None:
        log_sums = logits.logsumexp(dim=-1)
    targets = torch.tensor(token_ids, device=logits.device)[:, None]
    log_probabilities = (logits.gather(1, targets)[:, 0] - log_sums).tolist()
    top_count = min(max(top_counts, default=0), logits.shape[1])
    tops: list[list[tuple[int, float]]] = [[] for _ in token_ids]
    if top_count:
        top_logits, top_ids = logits.topk(top_count, dim=-1)
        top_log_probabilities = (top_logits - log_sums[:, None]).tolist()
        tops = [
            list(zip(ids, row, strict=True)) for ids, row in zip(top_ids.tolist(), top_log_probabilities, strict=True)
        ]
    return [
        TokenScore(token_id, log_probability, tuple(top[:count]))
        for token_id, log_probability, top, count in zip(token_ids, log_probabilities, tops, top_counts, strict=True)
    ]
