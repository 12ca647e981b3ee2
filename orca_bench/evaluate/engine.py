"""Token ids in, log-probabilities and generated ids out: the model behind an evaluation.

Log-likelihoods: the sequences of all requests form a prefix tree. A token that several sequences
share (a question before its four choices, five examples before a hundred questions) is computed once; each token attends
to its ancestors only, at the position that is its depth, and the output head runs only where a continuation is scored.
This is exact, not an approximation: `check` compares it with a plain forward pass before anything is scored.

Generation: greedy, in batches padded on the left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from orca_bench.errors import UserError
from orca_bench.evaluate import tree
from orca_bench.evaluate.attention import Path, Tree, tree_attention
from orca_bench.evaluate.encoding import Ids
from orca_bench.evaluate.tree import Row

#: New tokens in one row of the prefix tree.
ROW_TOKENS = {"cpu": 1024, "gpu": 4096}
#: Tokens of prompts and answers that a batch of generation may keep: bounds its keys and values, 13 GB for a 13B in 16 bits.
GENERATION_TOKENS = 16_384
_LEAST_TOKENS = 32  # a row that is smaller than this is given up
_HEAD_ROWS = 256  # positions that go through the output head at once: bounds [positions, vocabulary] in memory
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.25, torch.float16: 0.05}  # nats, for `check`

Progress = Callable[[int], None]


class NotFinite(UserError):
    """The model gave NaN or infinity to the sequence of this number."""

    def __init__(self, number: int, value: float):
        self.number = number
        super().__init__(f"the model gave log-probability {value} to request {number}", hint="its weights are broken")


class Engine:
    """A causal language model on one device."""

    def __init__(self, model, row_tokens: int | None = None, attention: str | None = None):
        self.model = model.eval()
        self.device = next(model.parameters()).device
        on_cpu = self.device.type == "cpu"
        self.row_tokens = row_tokens or ROW_TOKENS["cpu" if on_cpu else "gpu"]
        self.attention = attention or ("runs" if on_cpu else "mask")

    # --- log-likelihoods ------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def log_likelihoods(
        self, sequences: Sequence[Ids], progress: Progress = lambda done: None
    ) -> list[tuple[float, bool]]:
        """(log-probability in nats, whether greedy decoding would say it) of each sequence's scored part.

        `progress(n)` is called with the number of tokens just computed. Out of memory, the engine goes on with rows of half
        the size. Raises NotFinite, with the number of the request, where a log-probability is not a finite number.
        """
        self._check_window(sequences)
        answers: dict[int, tuple[float, bool]] = {}
        while len(answers) < len(sequences):
            open_ = [number for number in range(len(sequences)) if number not in answers]
            try:
                for found, tokens in self._answers(sequences, open_):
                    answers |= found
                    progress(tokens)
            except torch.OutOfMemoryError:
                if self.row_tokens <= _LEAST_TOKENS:
                    raise UserError(
                        f"out of memory with {self.row_tokens} tokens at once", hint="the model needs a larger device"
                    ) from None
                self.row_tokens //= 2
                torch.cuda.empty_cache()
        return [answers[number] for number in range(len(sequences))]

    def _answers(self, sequences: Sequence[Ids], asked: list[int]) -> Iterator[tuple[dict, int]]:
        """(the answers that a row completes, by the number of the sequence, its tokens) of each row; those of `asked` only."""
        started: dict[int, tuple[float, bool]] = {}
        path = Path()
        for row, keep in _with_next(tree.rows([sequences[number] for number in asked], self.row_tokens)):
            hidden, path = self._hidden(row, path, keep)
            found = {}
            for place, logprob, greedy, complete in self._scores(row, hidden):
                number = asked[place]
                so_far, so_greedy = started.pop(number, (0.0, True))
                answer = (so_far + logprob, so_greedy and greedy)
                if not math.isfinite(answer[0]):
                    raise NotFinite(number, answer[0])
                (found if complete else started)[number] = answer
            yield found, len(row.tokens)

    def _check_window(self, sequences: Sequence[Ids]) -> None:
        """Raise RuntimeError where a model attends in a sliding window that is narrower than what it is to be fed."""
        window = getattr(self.model.config, "sliding_window", None)
        longest = max((len(sequence.ids) - 1 for sequence in sequences), default=0)
        if window and longest > window:
            raise RuntimeError(f"this model's attention slides over {window} tokens and {longest} are to be fed")

    def _scores(self, row: Row, hidden) -> Iterator[tuple[int, float, bool, bool]]:
        if not row.scored:
            return
        places = np.concatenate([places for _, places, _, _ in row.scored]).astype(np.int64)
        targets = np.concatenate([targets for _, _, targets, _ in row.scored]).astype(np.int64)
        logprobs, greedy = self._head(hidden, torch.from_numpy(places), torch.from_numpy(targets))
        start = 0
        for number, _, tokens, complete in row.scored:
            end = start + len(tokens)
            yield number, float(logprobs[start:end].sum()), bool(greedy[start:end].all()), complete
            start = end

    def _hidden(self, row: Row, path: Path, keep: list[int]) -> tuple[torch.Tensor, Path]:
        """The last hidden states of the kept path and a row, [kept + tokens, hidden], and the path for the next row."""
        shape = Tree(row, path, keep, self.attention, self.device, self.model.dtype)
        with tree_attention(self.model.config):
            out = self.model.model(
                input_ids=torch.tensor([row.tokens], device=self.device),
                position_ids=torch.tensor([row.depths], device=self.device),
                # Four dimensions, so that transformers 5.23 takes it for a mask of our own and builds none.
                attention_mask=torch.ones((1, 1, 1, 1), dtype=torch.bool, device=self.device),
                use_cache=False,
                tree=shape,
            )
        hidden = out.last_hidden_state[0]
        if path.hidden is not None:
            hidden = torch.cat([path.hidden, hidden])
        if keep:
            shape.after.hidden = hidden.index_select(0, shape.keep)
        return hidden, shape.after

    def _head(self, hidden, places, targets):
        """Log-probability (float64) and greedy flag of each target at its place; each distinct place computed once."""
        distinct, inverse = torch.unique(places, return_inverse=True)
        logprobs = torch.empty(len(places), dtype=torch.float64)
        greedy = torch.empty(len(places), dtype=torch.bool)
        for start in range(0, len(distinct), _HEAD_ROWS):
            chunk = distinct[start : start + _HEAD_ROWS].to(self.device)
            logits = self.model.lm_head(hidden[chunk]).float()
            mine = ((inverse >= start) & (inverse < start + _HEAD_ROWS)).nonzero().squeeze(1)
            rows = (inverse[mine] - start).to(self.device)
            wanted = targets[mine].to(self.device)
            chosen = logits[rows, wanted] - logits.logsumexp(dim=-1)[rows]
            logprobs[mine] = chosen.double().cpu()
            greedy[mine] = (logits.argmax(dim=-1)[rows] == wanted).cpu()
        return logprobs, greedy

    @torch.inference_mode()
    def check(self) -> float:
        """Compare the tree with plain forward passes on a small input; returns the largest difference in nats.

        Raises RuntimeError where it is more than rounding: a library that ignores the tree must not score silently.
        """
        vocabulary = self.model.config.vocab_size
        random = np.random.default_rng(0)
        stem = random.integers(0, vocabulary, 12).tolist()
        tails = [random.integers(0, vocabulary, n).tolist() for n in (1, 3, 5, 2)]
        sequences = [Ids(stem + tail, len(stem)) for tail in tails] + [Ids(tails[2], 1)]
        whole, self.row_tokens = self.row_tokens, 7  # several rows, so that the kept path is checked too
        try:
            packed = self.log_likelihoods(sequences)
        finally:
            self.row_tokens = whole
        worst = 0.0
        for sequence, (logprob, _) in zip(sequences, packed, strict=True):
            ids = torch.tensor([sequence.ids], device=self.device)
            table = self.model(input_ids=ids, use_cache=False).logits[0, :-1].float().log_softmax(dim=-1)
            plain = table[range(sequence.start - 1, len(sequence.ids) - 1), sequence.ids[sequence.start :]].sum()
            worst = max(worst, abs(float(plain) - logprob) / (len(sequence.ids) - sequence.start))
        if worst > _TOLERANCE[next(self.model.parameters()).dtype]:
            raise RuntimeError(f"tree and plain forward passes differ by {worst:.2g} nats a token on this device")
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

        `finished(number, ids)` says after each token whether the continuation of that prompt is complete; `progress(n)` is
        called with the number of prompts just answered.
        """
        answers: list[list[int]] = [[] for _ in prompts]
        for group in batches(prompts, max_new_tokens):
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


def batches(prompts: Sequence[list[int]], max_new_tokens: int) -> list[list[int]]:
    """The numbers of all prompts in batches of like length, the longest first, as many as `GENERATION_TOKENS` allows."""
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    made = []
    while order:
        size = max(1, GENERATION_TOKENS // (len(prompts[order[0]]) + max_new_tokens))  # the first is the longest
        made.append(order[:size])
        order = order[size:]
    return made


def _with_next(rows: Iterator[Row]) -> Iterator[tuple[Row, list[int]]]:
    """Each row with the places that the row after it keeps."""
    row = next(rows, None)
    while row is not None:
        after = next(rows, None)
        yield row, after.kept if after else []
        row = after
