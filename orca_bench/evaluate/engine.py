"""Token ids in, log-probabilities and generated ids out: the model behind an evaluation.

Log-likelihoods: the sequences of many requests are laid into one row as a prefix tree. A token that several sequences
share (a question before its four choices, five examples before a hundred questions) is computed once; each token attends
to its ancestors only, at the position that is its depth, and the output head runs only where a continuation is scored.
This is exact, not an approximation: `check` compares it with a plain forward pass before anything is scored.

Generation: greedy, in batches padded on the left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from orca_bench.errors import UserError
from orca_bench.evaluate.encoding import Ids

#: Tokens in one row of the prefix tree. The mask has this number squared entries.
ROW_TOKENS = 2048
#: Tokens of prompts and answers that a batch of generation may keep: bounds its keys and values, 13 GB for a 13B in 16 bits.
GENERATION_TOKENS = 16_384
_HEAD_ROWS = 256  # positions that go through the output head at once: bounds [positions, vocabulary] in memory
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.25, torch.float16: 0.05}  # nats, for `check`

Progress = Callable[[int], None]


@dataclass
class _Row:
    """Tokens of one packed row: parent of each (-1 for a root), depth, and what is scored where."""

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    #: (number of the request, places whose next token is scored, the tokens scored)
    scored: list[tuple[int, list[int], list[int]]] = field(default_factory=list)


class Engine:
    """A causal language model on one device."""

    def __init__(self, model, row_tokens: int = ROW_TOKENS):
        self.model = model.eval()
        self.device = next(model.parameters()).device
        self.row_tokens = row_tokens

    # --- log-likelihoods ------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def log_likelihoods(
        self, sequences: Sequence[Ids], progress: Progress = lambda done: None
    ) -> list[tuple[float, bool]]:
        """(log-probability in nats, whether greedy decoding would say it) of each sequence's scored part.

        `progress(n)` is called with the number of requests just answered. Raises UserError, with the number of the
        request, where a log-probability is not a finite number.
        """
        answers: list[tuple[float, bool]] = [(0.0, True)] * len(sequences)
        for row in _rows(sequences, self.row_tokens):
            for number, logprob, greedy in self._score(row):
                if not math.isfinite(logprob):
                    raise UserError(
                        f"the model gave log-probability {logprob} to request {number}; its weights are broken"
                    )
                answers[number] = (logprob, greedy)
            progress(len(row.scored))
        return answers

    def _score(self, row: _Row) -> Iterator[tuple[int, float, bool]]:
        hidden = self._hidden(row)
        places = np.concatenate([places for _, places, _ in row.scored]).astype(np.int64)
        targets = np.concatenate([targets for _, _, targets in row.scored]).astype(np.int64)
        logprobs, greedy = self._head(hidden, torch.from_numpy(places), torch.from_numpy(targets))
        start = 0
        for number, _, tokens in row.scored:
            end = start + len(tokens)
            yield number, float(logprobs[start:end].sum()), bool(greedy[start:end].all())
            start = end

    def _hidden(self, row: _Row):
        """The last hidden states of a packed row, [tokens, hidden]."""
        mask = torch.from_numpy(ancestor_mask(row.parents)).to(self.device)
        ids = torch.tensor([row.tokens], device=self.device)
        positions = torch.tensor([row.depths], device=self.device)
        # With a cache, transformers 5.23 builds a mask of its own and lets packed sequences see one another.
        out = self.model.model(input_ids=ids, attention_mask=mask[None, None], position_ids=positions, use_cache=False)
        return out.last_hidden_state[0]

    def _head(self, hidden, places, targets):
        """Log-probability (float64) and greedy flag of each target at its place; each distinct place computed once."""
        distinct, inverse = torch.unique(places, return_inverse=True)
        logprobs = torch.empty(len(places), dtype=torch.float64)
        greedy = torch.empty(len(places), dtype=torch.bool)
        for start in range(0, len(distinct), _HEAD_ROWS):
            chunk = distinct[start : start + _HEAD_ROWS].to(self.device)
            table = self.model.lm_head(hidden[chunk]).float().log_softmax(dim=-1)
            mine = ((inverse >= start) & (inverse < start + _HEAD_ROWS)).nonzero().squeeze(1)
            rows = (inverse[mine] - start).to(self.device)
            wanted = targets[mine].to(self.device)
            logprobs[mine] = table[rows, wanted].double().cpu()
            greedy[mine] = (table.argmax(dim=-1)[rows] == wanted).cpu()
        return logprobs, greedy

    @torch.inference_mode()
    def check(self) -> float:
        """Compare the packed path with plain forward passes on a small input; returns the largest difference in nats.

        Raises RuntimeError where it is more than rounding: a library that ignores the mask must not score silently.
        """
        vocabulary = self.model.config.vocab_size
        random = np.random.default_rng(0)
        stem = random.integers(0, vocabulary, 12).tolist()
        tails = [random.integers(0, vocabulary, n).tolist() for n in (1, 3, 5, 2)]
        sequences = [Ids(stem + tail, len(stem)) for tail in tails] + [Ids(tails[2], 1)]
        packed = self.log_likelihoods(sequences)
        worst = 0.0
        for sequence, (logprob, _) in zip(sequences, packed, strict=True):
            ids = torch.tensor([sequence.ids], device=self.device)
            table = self.model(input_ids=ids, use_cache=False).logits[0, :-1].float().log_softmax(dim=-1)
            plain = table[range(sequence.start - 1, len(sequence.ids) - 1), sequence.ids[sequence.start :]].sum()
            worst = max(worst, abs(float(plain) - logprob) / (len(sequence.ids) - sequence.start))
        if worst > _TOLERANCE[next(self.model.parameters()).dtype]:
            raise RuntimeError(f"packed and plain forward passes differ by {worst:.2g} nats a token on this device")
        return worst

    # --- generation -----------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[list[int]],
        finished: Callable[[int, list[int]], bool],
        max_new_tokens: int,
        progress: Progress = lambda done: None,
    ) -> list[list[int]]:
        """Greedy continuation ids of each prompt, at most `max_new_tokens`.

        `finished(number, ids)` says after each token whether the continuation of that prompt is complete.
        """
        answers: list[list[int]] = [[] for _ in prompts]
        order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
        while order:
            batch = max(1, GENERATION_TOKENS // (len(prompts[order[0]]) + max_new_tokens))  # the first is the longest
            group, order = order[:batch], order[batch:]
            for number, ids in zip(
                group, self._generate([prompts[i] for i in group], group, finished, max_new_tokens), strict=True
            ):
                answers[number] = ids
            progress(len(group))
        return answers

    def _generate(self, prompts, numbers, finished, max_new_tokens) -> list[list[int]]:
        longest = max(map(len, prompts))
        ids = torch.zeros((len(prompts), longest), dtype=torch.long, device=self.device)
        mask = torch.zeros_like(ids)
        for place, tokens in enumerate(prompts):
            ids[place, longest - len(tokens) :] = torch.tensor(tokens, device=self.device)
            mask[place, longest - len(tokens) :] = 1
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        said: list[list[int]] = [[] for _ in prompts]
        open_ = set(range(len(prompts)))
        cache = None
        for _ in range(max_new_tokens):
            out = self.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = out.past_key_values
            chosen = out.logits[:, -1].argmax(dim=-1)
            for place in sorted(open_):
                said[place].append(int(chosen[place]))
                if finished(numbers[place], said[place]):
                    open_.discard(place)
            if not open_:
                break
            ids = chosen[:, None]
            mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
            positions = positions[:, -1:] + 1
        return said


def ancestor_mask(parents: Sequence[int]) -> np.ndarray:
    """Who sees whom in a packed row: bool [tokens, tokens], true where the column is the row's token or its ancestor.

    Runs of tokens that follow one another are filled at once, so the work is in the runs, not in the tokens.
    """
    size = len(parents)
    mask = np.zeros((size, size), dtype=bool)
    start = 0
    while start < size:
        end = start + 1
        while end < size and parents[end] == end - 1:
            end += 1
        if parents[start] >= 0:
            mask[start:end] = mask[parents[start]]
        mask[start:end, start:end] = np.tri(end - start, dtype=bool)
        start = end
    return mask


def _rows(sequences: Sequence[Ids], budget: int) -> Iterator[_Row]:
    """Lay sequences into rows of at most `budget` tokens; a sequence longer than that has a row of its own.

    In lexicographic order the longest prefix that a sequence shares with any earlier one, it shares with the one before.
    """
    order = sorted(range(len(sequences)), key=lambda i: sequences[i].ids)
    row, path, before = _Row(), [], []
    for number in order:
        sequence = sequences[number]
        fed = sequence.ids[:-1]  # the last token is scored, never fed
        shared = _shared(before, fed)
        if row.tokens and len(row.tokens) + len(fed) - shared > budget:
            yield row
            row, path, shared = _Row(), [], 0
        path = path[:shared]
        for token in fed[shared:]:
            row.parents.append(path[-1] if path else -1)
            row.depths.append(len(path))
            path.append(len(row.tokens))
            row.tokens.append(token)
        row.scored.append((number, path[sequence.start - 1 :], sequence.ids[sequence.start :]))
        before = fed
    if row.scored:
        yield row


def _shared(one: list[int], other: list[int]) -> int:
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count
