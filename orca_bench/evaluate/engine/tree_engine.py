"""Token ids in, log-probabilities and generated ids out: the model behind an evaluation.

Log-likelihoods: the sequences of all requests form a prefix tree. A token that several sequences
share (a question before its four choices, five examples before a hundred questions) is computed once; each token attends
to its ancestors only, at the position that is its depth, and the output head runs only where a continuation is scored.
This is exact, not an approximation: `choose_path` compares it with plain forward passes before anything is scored. What no
tree fits, a whole model or its longest sequences, goes the way of `plain`.

Generation: see `generation`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from orca_bench.errors import NotFinite, UserError
from orca_bench.evaluate.engine import attention_layers, memory_budget, prefix_tree, self_check
from orca_bench.evaluate.engine.batched_generation import Finished, Generation, NotANumber
from orca_bench.evaluate.engine.forward_passes import Plain
from orca_bench.evaluate.engine.prefix_tree import TreeBatch
from orca_bench.evaluate.engine.tree_attention import Path, Seen, Slots, Tree, Unfit, attending
from orca_bench.evaluate.engine_interface import GeneratedText, LogLikelihood, Progress, no_progress
from orca_bench.evaluate.request_encoding import Encoding, Ids, Start
from orca_bench.models import model_folder

_LEAST_TOKENS = 32  # a row that is smaller than this is given up
_HEAD_ROWS = 256  # positions that go through the output head at once: bounds [positions, vocabulary] in memory
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.25, torch.float16: 0.05}  # nats, for `check`


class TreeEngine:
    """A causal language model on one device, or spread over several.

    At most `batch_tokens` new tokens are computed at once, and `kept_tokens` kept for generation; by default both are derived
    from the memory that is free. `path` is "tree" or "plain", `reason` why not the tree, and `limit` the number of tokens up to
    which sequences are computed in it (None: all).
    """

    def __init__(
        self, model, batch_tokens: int | None = None, attention: str | None = None, kept_tokens: int | None = None
    ):
        self.model = model.eval()
        self.device = _device(model)
        self.attention = attention or ("runs" if self.device.type == "cpu" else "mask")
        self.plain = Plain(model, self.device)
        self.path, self.reason, self.limit = "tree", None, None
        self.batch_tokens, self.kept_tokens = batch_tokens, kept_tokens
        try:
            self.decoder, self.layout = attention_layers.decoder_of(model), attention_layers.of(model)
            self.limit = self.layout.limit
            bytes_ = self.layout.kept_bytes
            self.batch_tokens = batch_tokens or memory_budget.batch_tokens(model, self.layout.width, bytes_)
            self.kept_tokens = kept_tokens or memory_budget.kept_tokens(model, bytes_)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a model raises that was not made for this
            self._leave_tree(error)
        self._output: type | None = None

    def _leave_tree(self, error: Exception) -> None:
        reason = str(error) if isinstance(error, Unfit) else f"its code raises {type(error).__name__} in a tree"
        self.path, self.reason, self.limit = "plain", reason, 0

    @property
    def description(self) -> dict:
        """What a result says of the path: `path`, and where they apply `reason` and `tree_limit` in tokens."""
        described = {"path": self.path, "reason": self.reason, "tree_limit": self.limit or None}
        return {key: value for key, value in described.items() if value is not None}

    @property
    def note(self) -> str | None:
        """A line for the person where not everything is computed in the tree."""
        if self.path == "plain":
            cache = "" if self.plain.cache else "; texts are generated without a cache"
            return f"answers are computed by plain forward passes, which is slower, because {self.reason}{cache}"
        if self.limit is not None:
            return f"requests of more than {self.limit} tokens are computed by plain forward passes, which is slower"
        return None

    def _fits(self, tokens: int) -> bool:
        """Whether a sequence of which so many tokens are fed is computed in the tree."""
        return self.limit is None or tokens <= self.limit

    # --- log-likelihoods ------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def log_likelihoods(self, sequences: Sequence[Ids], progress: Progress = no_progress) -> list[LogLikelihood]:
        """The score of each sequence's continuation, in order; see `Engine`.

        `progress(n)` is called with the number of tokens just computed. Out of memory, the engine goes on with rows of half
        the size. Raises NotFinite, with the number of the request, where a log-probability is not a finite number.
        """
        answers: dict[int, tuple[float, bool]] = {}
        in_tree = [number for number, sequence in enumerate(sequences) if self._fits(len(sequence.ids) - 1)]
        while open_ := [number for number in in_tree if number not in answers]:
            try:
                for row_answers, tokens in self._answers(sequences, open_):
                    answers |= row_answers
                    progress(tokens)
            except torch.OutOfMemoryError:
                self._halve()
        alone = [number for number in range(len(sequences)) if number not in answers]
        answers |= self._plain_answers(sequences, alone, progress)
        return [LogLikelihood(*answers[number]) for number in range(len(sequences))]

    def _plain_answers(self, sequences: Sequence[Ids], numbers: list[int], progress: Progress) -> dict:
        """The answers to the sequences of these numbers; progress in tokens of a tree, as it was announced."""
        answers: dict[int, tuple[float, bool]] = {}
        within = prefix_tree.distinct(sequences) - prefix_tree.distinct(
            [s for n, s in enumerate(sequences) if n not in set(numbers)]
        )
        counted = 0
        try:
            for group in self.plain.log_likelihoods([sequences[number] for number in numbers]):
                answers |= {numbers[place]: answer for place, answer in group.items()}
                now = within * len(answers) // len(numbers)
                progress(now - counted)
                counted = now
        except NotFinite as error:
            raise NotFinite(numbers[error.number], error.value) from None
        return answers

    def _answers(self, sequences: Sequence[Ids], asked: list[int]) -> Iterator[tuple[dict, int]]:
        """(the answers that a row completes, by the number of the sequence, its tokens) of each row; those of `asked` only."""
        started: dict[int, tuple[float, bool]] = {}
        path = Path()
        for row, keep in prefix_tree.with_next(
            prefix_tree.batches([sequences[number] for number in asked], self.batch_tokens)
        ):
            hidden, path = self.compute_batch(row, path, keep)
            found = {}
            for place, logprob, greedy, complete in self._scores(row, hidden):
                number = asked[place]
                so_far, so_greedy = started.pop(number, (0.0, True))
                answer = (so_far + logprob, so_greedy and greedy)
                if not math.isfinite(answer[0]):
                    raise NotFinite(number, answer[0])
                (found if complete else started)[number] = answer
            yield found, len(row.tokens)

    def _halve(self) -> None:
        """Go on with half the memory; raises UserError where little is left to halve."""
        if self.batch_tokens <= _LEAST_TOKENS:
            raise UserError(
                f"out of memory with {self.batch_tokens} tokens at once",
                hint="the model needs a larger device, or --device-map auto to be spread over several",
            ) from None
        self.batch_tokens //= 2
        self.kept_tokens //= 2
        torch.cuda.empty_cache()

    def _scores(self, row: TreeBatch, hidden) -> Iterator[tuple[int, float, bool, bool]]:
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

    def compute_batch(
        self, row: TreeBatch, path: Path, keep: list[int], slots: Slots | None = None, taken: Sequence = ()
    ) -> tuple[torch.Tensor, Path]:
        """The last hidden states of the kept path and a row, [kept + tokens, hidden], and the path for the next row.

        The sequences of `taken`, (slot, places of its path), get their keys and values into `slots`.
        """
        seen = Tree(row, path, keep, self.attention, self.device, self.model.dtype, self.layout.windows)
        if taken:
            seen.take(slots, taken)
        ids = torch.tensor([row.tokens], device=self.device)
        hidden = self.forward(ids, torch.tensor([row.depths], device=self.device), seen)[0]
        if path.hidden is not None:
            hidden = torch.cat([path.hidden, hidden])
        if keep:
            seen.after.hidden = hidden.index_select(0, seen.keep.to(hidden.device))
        return hidden, seen.after

    def forward(self, ids: torch.Tensor, positions: torch.Tensor, seen: Seen) -> torch.Tensor:
        """The last hidden states, [batch, tokens, hidden], of ids and positions, [batch, tokens], that see what `seen` says."""
        with attending(self.decoder.config, seen):
            out = self.decoder(input_ids=ids, position_ids=positions, use_cache=False)
        if seen.layers != self.layout.layers:
            raise RuntimeError(f"this model attended {seen.layers} times, and {self.layout.layers} times before")
        self._output = type(out)
        return out.last_hidden_state

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """The logits, [positions, vocabulary], of last hidden states, [positions, hidden].

        The model's own forward pass with its decoder's part given, so that whatever it does to its logits happens.
        """
        own = self.decoder.__dict__.get("forward")
        self.decoder.forward = lambda *_, **__: self._output(last_hidden_state=hidden[None])
        try:
            ids = torch.zeros((1, len(hidden)), dtype=torch.long, device=self.device)
            return self.model(input_ids=ids, use_cache=False).logits[0]
        finally:
            if own is None:
                del self.decoder.forward
            else:
                self.decoder.forward = own

    def _head(self, hidden, places, targets):
        """Log-probability (float64) and greedy flag of each target at its place; each distinct place computed once."""
        distinct, inverse = torch.unique(places, return_inverse=True)
        logprobs = torch.empty(len(places), dtype=torch.float64)
        greedy = torch.empty(len(places), dtype=torch.bool)
        for start in range(0, len(distinct), _HEAD_ROWS):
            chunk = distinct[start : start + _HEAD_ROWS].to(hidden.device)
            logits = self.logits(hidden[chunk]).float()
            mine = ((inverse >= start) & (inverse < start + _HEAD_ROWS)).nonzero().squeeze(1)
            rows = (inverse[mine] - start).to(logits.device)
            wanted = targets[mine].to(logits.device)
            chosen = logits[rows, wanted] - logits.logsumexp(dim=-1)[rows]
            logprobs[mine] = chosen.double().cpu()
            greedy[mine] = (logits.argmax(dim=-1)[rows] == wanted).cpu()
        return logprobs, greedy

    # --- generation -----------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def generate_ids(
        self,
        prompts: Sequence[Sequence[int]],
        finished: Finished,
        room: int,
        progress: Progress = no_progress,
    ) -> list[list[int]]:
        """Greedy continuation ids of each prompt, at most `room`.

        `finished(number, ids)` says after each token whether the continuation of that prompt is complete; `progress(n)` is
        called with the number of prompts just answered. Out of memory, the engine goes on with half as many at once. Raises
        NotFinite, with the number of the prompt, where its logits are not finite.
        """
        answers: dict[int, list[int]] = {}

        def over(number: int, ids: list[int]) -> bool:
            return len(ids) >= room or finished(number, ids)

        in_tree = [number for number, prompt in enumerate(prompts) if self._fits(len(prompt) + room - 1)]
        while open_ := [number for number in in_tree if number not in answers]:
            run = Generation(
                self,
                [prompts[number] for number in open_],
                lambda place, ids, open_=open_: over(open_[place], ids),
                room,
                self.kept_tokens,
            )
            full = False
            try:
                for ended in run.run():
                    progress(ended)
            except NotANumber as error:
                raise NotFinite(open_[error.number], error.value) from None
            except torch.OutOfMemoryError:
                full = True
            answers |= {open_[place]: ids for place, ids in run.said.items()}
            del run  # and with it the memory of its slots
            if full:
                self._halve()
        for number, prompt in enumerate(prompts):
            if number not in answers:
                answers[number] = self.plain.generate_ids(prompt, number, over, room)
                progress(1)
        return [answers[number] for number in range(len(prompts))]

    def generate(
        self,
        starts: Sequence[Start],
        stops: Sequence[Sequence[str]],
        encoding: Encoding,
        progress: Progress = no_progress,
    ) -> list[GeneratedText]:
        """(text, the whole of it where its first tokens are thrown away, else None, whether it ran out of room) behind each
        start; see `generate`."""

        def finished(number: int, ids: list[int]) -> bool:
            return len(ids) >= starts[number].max_new_tokens or encoding.finished(ids, stops[number])

        room = max((start.max_new_tokens for start in starts), default=0)
        said = self.generate_ids([start.ids for start in starts], finished, room, progress)
        return [
            GeneratedText(
                encoding.text(ids[start.discard :], stop),
                encoding.text(ids, stop) if start.discard else None,
                not encoding.complete(ids, stop),
            )
            for ids, start, stop in zip(said, starts, stops, strict=True)
        ]

    # --- the check ------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def choose_path(self) -> None:
        """Decide between the tree and plain passes, by trying both on small inputs.

        Raises UserError where the model cannot be evaluated at all, and NotFinite where it gives NaN or infinity.
        """
        if self.path == "tree":
            try:
                self.check()
            except (UserError, torch.OutOfMemoryError):
                raise
            except Exception as error:  # whatever a model raises that was not made for this
                self._leave_tree(error)
        if self.limit is not None:
            self.plain.check(self._tolerance)

    @property
    def _tolerance(self) -> float:
        return _TOLERANCE[self.model.dtype]

    @torch.inference_mode()
    def check(self) -> float:
        """Compare the tree with plain forward passes on small inputs; returns the largest difference in nats.

        Raises Unfit where a tree does not fit the model; see `trial`.
        """
        return self_check.check(self, self._tolerance)


def load(folder: str, dtype: str = "auto", device_map: str | None = None) -> tuple[TreeEngine, object]:
    """The engine and tokenizer of a model folder; dtype `auto` is float32 on a CPU, the checkpoint's on a GPU.

    A device map is transformers': `auto` spreads the model over all devices, and over CPU memory and disk where those are full.
    """
    model, tokenizer = model_folder.load(folder, dtype, gpu_dtype="auto", device_map=device_map)
    return TreeEngine(model), tokenizer


def _device(model) -> torch.device:
    """Where a model takes its ids: where its embeddings are, or where accelerate brings them for the moment."""
    embeddings = model.get_input_embeddings()
    device = embeddings.weight.device
    return torch.device(embeddings._hf_hook.execution_device) if device.type == "meta" else device
