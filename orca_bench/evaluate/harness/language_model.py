"""What lm-evaluation-harness asks: its strings become ids, portions of them are handed out, and the answers are kept.

`HarnessModel` hands the harness's strings to an encoding and the ids to an engine. It knows neither a model nor a server.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol as Interface

from lm_eval.api.model import LM

from orca_bench.errors import NotFinite, UserError
from orca_bench.evaluate.answers import portions
from orca_bench.evaluate.answers.answer_cache import AnswerCache
from orca_bench.evaluate.answers.portions import Call, Portion
from orca_bench.evaluate.answers.work_sharing import WorkerPool, WorkItem
from orca_bench.evaluate.engine_interface import Engine, Progress, no_progress
from orca_bench.evaluate.protocols import Answer, Request
from orca_bench.evaluate.request_encoding import MAX_NEW_TOKENS, Encoding, Ids, Start

_METHODS = {"loglikelihood": portions.SCORES, "generate_until": portions.TEXTS}


class Watcher(Interface):
    """What is told of the work while answers are computed."""

    def plan(self, call: Call) -> None:
        """These requests are computed now."""

    def advance(self, count: int) -> None:
        """So many tokens (of log-likelihoods) or texts were just computed."""

    def skip(self, count: int) -> None:
        """So many are kept by an earlier run."""


class _Nobody:
    plan = advance = skip = lambda self, *_: None


def compute(
    engine: Engine, encodings: Mapping[str, Encoding], item: WorkItem, progress: Progress = no_progress
) -> list:
    """An engine's answers, of `LogLikelihood` or `GeneratedText`, to an item: kind, protocol, requests of a portion."""
    kind, protocol, requests = item
    if kind == portions.SCORES:
        return engine.log_likelihoods([Ids(ids, start) for ids, start in requests], progress)
    starts = [Start(ids, max_new_tokens, discard) for ids, max_new_tokens, discard, _ in requests]
    return engine.generate(starts, [stops for *_, stops in requests], encodings[protocol], progress)


class HarnessModel(LM):
    """lm-eval's model interface over an `Engine` and an `Encoding`, with answers in an `AnswerCache` where there is one.

    `workers` share the work, `protocol` names the encoding to its helpers.
    """

    def __init__(
        self,
        engine: Engine,
        encoding: Encoding,
        store: AnswerCache | None = None,
        workers: WorkerPool | None = None,
        protocol: str = "",
    ):
        super().__init__()
        self.engine, self.encoding, self.store, self.workers = engine, encoding, store, workers or WorkerPool()
        self.protocol = protocol
        self.watcher: Watcher = _Nobody()
        #: How many answers came from the cache, since `begin`.
        self.cached_answers = 0
        self._calls: list[Call] = []
        self._prepared: dict[bytes, Call] = {}
        #: What was generated after a context: lm-eval takes the text alone.
        self.texts: dict[str, Answer] = {}
        # How much of a context must stay is known to the protocol; the harness passes strings only.
        self._heads: dict[str, int] = {}
        self._room = MAX_NEW_TOKENS

    def begin(self) -> None:
        """A task begins: count, and hash what is fed, anew."""
        self.cached_answers = 0
        self._calls = []

    @property
    def shortened(self) -> int:
        """How many contexts lost tokens to fit the window, since `begin`."""
        return sum(call.shortened for call in self._calls)

    @property
    def narrowed(self) -> int:
        """How many of them lost some to a server's window alone."""
        return sum(call.narrowed for call in self._calls)

    @property
    def tokens_sha256(self) -> str:
        """A hash of all token ids that were fed since `begin`, and of where the scored ones start."""
        hashes = [call.sha256 for call in self._calls]
        return hashes[0] if len(hashes) == 1 else hashlib.sha256(" ".join(hashes).encode()).hexdigest()

    def expect(self, requests: Iterable[Request], max_new_tokens: int = MAX_NEW_TOKENS) -> None:
        """Be told which requests are coming: forget those before, and note how much of each context must stay.

        `max_new_tokens` is how many tokens a text may have where lm-eval does not say it.
        """
        self.texts.clear()
        self._room = max_new_tokens
        self._heads = {request.context: request.fixed_prefix for request in requests if request.fixed_prefix}

    def prepare(self, method: str, requests: Sequence) -> Call:
        """The call that the harness will make of a method with these requests, encoded ahead; `expect` was told of them.

        Raises UserError, with the request named, where one cannot be encoded.
        """
        call = self._encoded(_METHODS[method], requests)
        self._prepared[_digest(requests)] = call
        return call

    def kept_tokens(self, call: Call) -> int:
        """How many tokens of a call an earlier run has computed and kept."""
        store = self.store
        return 0 if store is None else sum(portion.tokens for portion in call.portions if store.has(portion.key()))

    # --- lm-eval's interface --------------------------------------------------------------------------------------

    def loglikelihood(self, requests, disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        return [tuple(answer) for answer in self._answers("loglikelihood", requests)]

    def generate_until(self, requests, disable_tqdm: bool = True) -> list[str]:
        answers = self._answers("generate_until", requests)
        for request, (text, whole, hit_token_limit) in zip(requests, answers, strict=True):
            self.texts[request.args[0]] = Answer(text, full_text=whole, hit_token_limit=hit_token_limit)
        return [text for text, *_ in answers]

    def loglikelihood_rolling(self, requests, disable_tqdm: bool = True):
        raise NotImplementedError("no task of the suite asks for a rolling log-likelihood")

    def _answers(self, method: str, requests: Sequence) -> list:
        """The answer to each request, in order."""
        call = self._prepared.pop(_digest(requests), None) or self._encoded(_METHODS[method], requests)
        self._calls.append(call)
        self.watcher.plan(call)
        shared = self.workers.share(_Portions(self, call, requests))
        answers = [None] * len(requests)
        for portion, values in zip(call.portions, shared, strict=True):
            for number, answer in zip(portion.numbers, values, strict=True):
                answers[number] = answer
        return answers

    def _encoded(self, kind: str, requests: Sequence) -> Call:
        shortened, narrowed = self.encoding.shortened, self.encoding.narrowed
        encoded, stops = [], []
        for request in requests:
            context, options = request.args
            fixed_prefix = self._heads.get(context, 0)
            with _named(request):
                if kind == portions.SCORES:
                    encoded.append(self.encoding.pair(context, options, fixed_prefix=fixed_prefix))
                else:
                    encoded.append(self.encoding.start(context, fixed_prefix, options.get("max_gen_toks", self._room)))
                    stops.append(_stop_list(options))
        shortened, narrowed = self.encoding.shortened - shortened, self.encoding.narrowed - narrowed
        if kind == portions.SCORES:
            return portions.scores(encoded, shortened, narrowed)
        return portions.texts(encoded, stops, shortened)


class _Portions:
    """The portions of one call as work to share: each looked up in the cache, computed, saved."""

    def __init__(self, lm: HarnessModel, call: Call, requests: Sequence):
        self._lm, self._call, self._requests = lm, call, requests
        self._encodings = {lm.protocol: lm.encoding}

    def __len__(self) -> int:
        return len(self._call.portions)

    def cached(self, number: int) -> list | None:
        portion, store = self._call.portions[number], self._lm.store
        answers = None if store is None else store.get(portion.key())
        if answers is not None:
            self._lm.cached_answers += len(answers)
            self._lm.watcher.skip(self._size(portion))
        return answers

    def work_item(self, number: int) -> WorkItem:
        return [self._call.kind, self._lm.protocol, self._call.portions[number].requests()]

    def compute(self, number: int) -> list:
        try:
            return compute(self._lm.engine, self._encodings, self.work_item(number), self._lm.watcher.advance)
        except UserError as error:
            raise self.name_error(number, error) from None

    def save(self, number: int, answers: list) -> None:
        if self._lm.store is not None:
            self._lm.store.put(self._call.portions[number].key(), answers)

    def receive(self, number: int, answers: list) -> None:
        self._lm.watcher.advance(self._size(self._call.portions[number]))
        self.save(number, answers)

    def name_error(self, number: int, error: UserError) -> UserError:
        if not isinstance(error, NotFinite):
            return error
        request = self._requests[self._call.portions[number].numbers[error.number]]
        return UserError("the model gave NaN or infinity", where=_name(request), hint=error.hint)

    def _size(self, portion: Portion) -> int:
        return portion.tokens if self._call.kind == portions.SCORES else len(portion.numbers)


@contextmanager
def _named(request) -> Iterator[None]:
    """Name the request in whatever is wrong with it."""
    try:
        yield
    except UserError as error:
        raise UserError(error.what, where=_name(request), hint=error.hint) from None


def _name(request) -> str:
    task, document, _ = request.metadata
    return f"{task} document {document} request {request.idx}"


def _digest(requests: Sequence) -> bytes:
    """A hash of what some requests of the harness ask."""
    digest = hashlib.sha256()
    for request in requests:
        digest.update(repr(request.args).encode("utf-8", "surrogatepass"))
    return digest.digest()


def _stop_list(options: dict) -> list[str]:
    until = options.get("until") or []
    return [until] if isinstance(until, str) else list(until)
