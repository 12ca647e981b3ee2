"""What lm-evaluation-harness asks: its strings become ids, portions of them are handed out, and the answers are kept.

`OrcaLM` hands the harness's strings to an encoding and the ids to an engine. It knows neither a model nor a server.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol as Interface

import numpy as np
from lm_eval.api.model import LM

from orca_bench.errors import NotFinite, UserError
from orca_bench.evaluate import tree
from orca_bench.evaluate.encoding import MAX_NEW_TOKENS, Encoding, Ids, Start
from orca_bench.evaluate.protocols import Answer, Request
from orca_bench.evaluate.store import Store
from orca_bench.evaluate.team import Alone, Team


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
#: The same for generation, where each prompt counts the tokens that its answer may have too. Towards the end of a portion
#: there is nothing left to fill the batch with, so portions are not small.
GENERATION_PORTION_TOKENS = 65_536


class Engine(Interface):
    """What computes answers: a model here (`engine.Engine`) or behind a server (`api.Api`)."""

    def log_likelihoods(self, sequences: Sequence[Ids], progress: Callable[[int], None]) -> list[tuple[float, bool]]:
        """(log-probability in nats, whether greedy decoding would say it) of each sequence's scored part.

        `progress(n)`: so many tokens of the prefix tree are done. Raises NotFinite with the number of a sequence.
        """

    def texts(
        self,
        starts: Sequence[Start],
        stops: Sequence[Sequence[str]],
        encoding: Encoding,
        progress: Callable[[int], None],
    ) -> list[tuple[str, str | None, bool | None]]:
        """(greedy text, the whole of it where the encoding throws its first tokens away, else None, whether it ran out of
        room, None where that is not known) behind each start.

        `progress(n)`: so many texts are done. Raises NotFinite with the number of a start.
        """


class OrcaLM(LM):
    """lm-eval's model interface over an `Engine` and an `Encoding`, with answers kept in a `Store` where there is one.

    In a helper of a team the answers are placeholders: only the first process has them all.
    """

    def __init__(
        self, engine: Engine, encoding: Encoding, store: Store | None = None, team: Alone | Team | None = None
    ):
        super().__init__()
        self.engine, self.encoding, self.store, self.team = engine, encoding, store, team or Alone()
        self.watcher: Watcher = _Nobody()
        #: How many answers were found in the store, since `begin`.
        self.found = 0
        self._fed = hashlib.sha256()
        #: What was generated after a context: lm-eval takes the text alone.
        self.texts: dict[str, Answer] = {}
        # How much of a context must stay is known to the protocol; the harness passes strings only.
        self._heads: dict[str, int] = {}

    def begin(self) -> None:
        """A task begins: count, and hash what is fed, anew."""
        self.encoding.shortened = self.found = 0
        self._fed = hashlib.sha256()

    @property
    def tokens_sha256(self) -> str:
        """A hash of all token ids that were fed since `begin`, and of where the scored ones start."""
        return self._fed.hexdigest()

    def expect(self, requests: Iterable[Request]) -> None:
        """Be told which requests are coming: forget those before, and note how much of each context must stay."""
        self.texts.clear()
        self._heads = {request.context: request.head for request in requests if request.head}

    # --- lm-eval's interface --------------------------------------------------------------------------------------

    def loglikelihood(self, requests, disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        sequences = []
        for request in requests:
            with _named(request):
                sequences.append(self.encoding.pair(*request.args, head=self._heads.get(request.args[0], 0)))
        self._feed((sequence.ids, sequence.start) for sequence in sequences)
        portions = tree.portions(sequences, PORTION_TOKENS)
        self.watcher.plan("tokens", sum(p.tokens for p in portions), sum(len(s.ids) - 1 for s in sequences))

        def compute(numbers: list[int]) -> list:
            return self.engine.log_likelihoods([sequences[n] for n in numbers], self.watcher.advance)

        asked = [[sequence.ids, sequence.start] for sequence in sequences]
        work = _Portions(self, requests, portions, asked, compute, [portion.tokens for portion in portions])
        return [tuple(answer) for answer in work.answers((0.0, False))]

    def generate_until(self, requests, disable_tqdm: bool = True) -> list[str]:
        stops = [_stop_list(request.args[1]) for request in requests]
        starts = []
        for request in requests:
            context, options = request.args
            with _named(request):
                room = options.get("max_gen_toks", MAX_NEW_TOKENS)
                starts.append(self.encoding.start(context, self._heads.get(context, 0), room))
        self._feed((start.ids, start.room) for start in starts)
        prompts = [Ids([*start.ids, 0], len(start.ids)) for start in starts]
        room = max((start.room for start in starts), default=0)
        portions = tree.portions(prompts, GENERATION_PORTION_TOKENS, each=room)
        self.watcher.plan("texts", len(starts), sum(len(start.ids) for start in starts))

        def compute(numbers: list[int]) -> list:
            asked = [starts[n] for n in numbers], [stops[n] for n in numbers]
            return self.engine.texts(*asked, self.encoding, self.watcher.advance)

        asked = [[start.ids, start.room, start.discard, stop] for start, stop in zip(starts, stops, strict=True)]
        work = _Portions(self, requests, portions, asked, compute, [len(portion.numbers) for portion in portions])
        answers = work.answers(("", None, None))
        for request, (text, whole, ran_out) in zip(requests, answers, strict=True):
            self.texts[request.args[0]] = Answer(text, whole=whole, ran_out=ran_out)
        return [text for text, *_ in answers]

    def _feed(self, told: Iterable[tuple[list[int], int]]) -> None:
        for ids, place in told:
            self._fed.update(np.asarray([len(ids), place, *ids], dtype="<i4").tobytes())

    def loglikelihood_rolling(self, requests, disable_tqdm: bool = True):
        raise NotImplementedError("no task of the suite asks for a rolling log-likelihood")


class _Portions:
    """The portions of one call as the work of a team: each looked up in the store, computed, kept.

    `asked` says what the answer to each request depends on, `sizes` how many units each portion has.
    """

    def __init__(
        self, lm: OrcaLM, requests, portions, asked: list, compute: Callable[[list[int]], list], sizes: list[int]
    ):
        self._lm, self._requests, self._portions = lm, requests, portions
        self._asked, self._compute, self._sizes = asked, compute, sizes

    def answers(self, placeholder) -> list:
        """The answer to each request, in order; in a helper of a team the placeholder."""
        shared = self._lm.team.share(self)
        if shared is None:
            return [placeholder] * len(self._requests)
        found = {
            number: answer
            for portion, answers in zip(self._portions, shared, strict=True)
            for number, answer in zip(portion.numbers, answers, strict=True)
        }
        return [found[number] for number in range(len(self._requests))]

    def __len__(self) -> int:
        return len(self._portions)

    def kept(self, place: int) -> list | None:
        store = self._lm.store
        found = None if store is None else store.get(self._key(place))
        if found is not None:
            self._lm.found += len(found)
            self._lm.watcher.advance(self._sizes[place])
        return found

    def compute(self, place: int) -> list:
        numbers = self._portions[place].numbers
        try:
            return self._compute(numbers)
        except NotFinite as error:
            with _named(self._requests[numbers[error.number]]):
                raise UserError("the model gave NaN or infinity", hint=error.hint) from None

    def keep(self, place: int, answers: list) -> None:
        if self._lm.store is not None:
            self._lm.store.put(self._key(place), answers)

    def receive(self, place: int, answers: list) -> None:
        self._lm.watcher.advance(self._sizes[place])
        self.keep(place, answers)

    def _key(self, place: int) -> list:
        return [self._asked[number] for number in self._portions[place].numbers]


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
