"""A model folder in, a language model that lm-evaluation-harness can ask out.

`OrcaLM` hands the harness's strings to an encoding, the ids to the engine, and the engine's ids back through the encoding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol as Interface

from lm_eval.api.model import LM

from orca_bench import model_folder
from orca_bench.errors import UserError
from orca_bench.evaluate import tree
from orca_bench.evaluate.encoding import MAX_NEW_TOKENS, Encoding
from orca_bench.evaluate.engine import Engine, NotFinite, batches
from orca_bench.evaluate.protocols import Request
from orca_bench.evaluate.store import Store


class Watcher(Interface):
    """What is told of the work while answers are computed."""

    def plan(self, unit: str, total: int, sent: int) -> None:
        """So many units (tokens, or texts) are to be computed, for requests that have `sent` tokens in all."""

    def advance(self, count: int) -> None:
        """So many units were just computed, or found."""


class _Nobody:
    def plan(self, unit: str, total: int, sent: int) -> None:
        pass

    def advance(self, count: int) -> None:
        pass


#: Tokens of the prefix tree that are computed, and kept, together. What two portions share is computed in both: with a
#: prefix of 2,000 tokens 6 % of it all at the worst.
PORTION_TOKENS = 32_768


class OrcaLM(LM):
    """lm-eval's model interface over an `Engine` and an `Encoding`, with answers kept in a `Store` where there is one."""

    def __init__(self, engine: Engine, encoding: Encoding, store: Store | None = None):
        super().__init__()
        self.engine, self.encoding, self.store = engine, encoding, store
        self.watcher: Watcher = _Nobody()
        #: How many answers were found in the store.
        self.found = 0
        #: The whole text generated after a context, where the encoding threw the first tokens of it away.
        self.whole: dict[str, str] = {}
        # How much of a context must stay is known to the protocol; the harness passes strings only.
        self._heads: dict[str, int] = {}

    def expect(self, requests: Iterable[Request]) -> None:
        """Be told which requests are coming: forget those before, and note how much of each context must stay."""
        self.whole.clear()
        self._heads = {request.context: request.head for request in requests if request.head}

    # --- lm-eval's interface --------------------------------------------------------------------------------------

    def loglikelihood(self, requests, disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        sequences = []
        for request in requests:
            with _named(request):
                sequences.append(self.encoding.pair(*request.args, head=self._heads.get(request.args[0], 0)))
        answers: dict[int, tuple[float, bool]] = {}
        portions = tree.portions(sequences, PORTION_TOKENS)
        sent = sum(len(sequence.ids) - 1 for sequence in sequences)
        self.watcher.plan("tokens", sum(portion.tokens for portion in portions), sent)
        for portion in portions:
            part = [sequences[number] for number in portion.numbers]
            asked = [[sequence.ids, sequence.start] for sequence in part]
            found = self._kept(asked, portion.tokens)
            if found is None:
                try:
                    found = self.engine.log_likelihoods(part, self.watcher.advance)
                except NotFinite as error:
                    with _named(requests[portion.numbers[error.number]]):
                        raise UserError("the model gave no finite log-probability", hint=error.hint) from None
                self._keep(asked, found)
            answers |= {number: tuple(answer) for number, answer in zip(portion.numbers, found, strict=True)}
        return [answers[number] for number in range(len(requests))]

    def generate_until(self, requests, disable_tqdm: bool = True) -> list[str]:
        encoding = self.encoding
        stops = [_stop_list(request.args[1]) for request in requests]
        starts = []
        for request in requests:
            context, options = request.args
            with _named(request):
                room = options.get("max_gen_toks", MAX_NEW_TOKENS)
                starts.append(encoding.start(context, self._heads.get(context, 0), room))
        room = max((start.room for start in starts), default=0)
        said: dict[int, list[int]] = {}
        self.watcher.plan("texts", len(starts), sum(len(start.ids) for start in starts))
        for batch in batches([start.ids for start in starts], room):
            prompts = [starts[number].ids for number in batch]
            asked = [[starts[number].ids, starts[number].room, stops[number]] for number in batch]
            found = self._kept(asked, len(asked))
            if found is None:

                def finished(place: int, ids: list[int], batch=batch) -> bool:
                    number = batch[place]
                    return len(ids) >= starts[number].room or encoding.finished(ids, stops[number])

                found = self.engine.generate(prompts, finished, room, self.watcher.advance)
                self._keep(asked, found)
            said |= dict(zip(batch, found, strict=True))
        for number, start in enumerate(starts):
            if start.discard:
                self.whole[requests[number].args[0]] = encoding.text(said[number], stops[number])
        return [encoding.text(said[n][start.discard :], stops[n]) for n, start in enumerate(starts)]

    def _kept(self, asked: list, work: int) -> list | None:
        found = None if self.store is None else self.store.get(asked)
        if found is not None:
            self.found += len(found)
            self.watcher.advance(work)
        return found

    def _keep(self, asked: list, answers: list) -> None:
        if self.store is not None:
            self.store.put(asked, answers)

    def loglikelihood_rolling(self, requests, disable_tqdm: bool = True):
        raise NotImplementedError("no task of the suite asks for a rolling log-likelihood")


@contextmanager
def _named(request) -> Iterator[None]:
    """Name the request in whatever is wrong with it."""
    try:
        yield
    except UserError as error:
        task, document, _ = request.metadata
        raise UserError(
            error.what, where=f"{task} document {document} request {request.idx}", hint=error.hint
        ) from None


def _stop_list(options: dict) -> list[str]:
    until = options.get("until") or []
    return [until] if isinstance(until, str) else list(until)


def load_engine(folder: str, dtype: str = "auto") -> tuple[Engine, object]:
    """The engine and tokenizer of a model folder or hub id; dtype `auto` is float32 on a CPU, the checkpoint's on a GPU."""
    model, tokenizer = model_folder.load(folder, dtype, gpu_dtype="auto")
    return Engine(model), tokenizer


def fingerprint(model) -> str:
    """A SHA-256 over the weights' names, shapes and bytes, and the architecture: the same for the same model, anywhere."""
    import torch

    digest = hashlib.sha256(repr(sorted(_architecture(model.config).items())).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def _architecture(config) -> dict:
    keys = (
        "model_type",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "rms_norm_eps",
    )
    return {key: getattr(config, key, None) for key in keys}
