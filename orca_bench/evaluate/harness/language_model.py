"""lm-eval's model interface over our engine: requests become ids, portions of them are computed or taken from the cache.

Instances of lm-eval come in, responses that carry our answers go out. `HarnessModel` hands strings to an encoding and ids to
an engine; it depends on neither a model nor a server.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from orca_bench.errors import NotFinite, UserError
from orca_bench.evaluate.answers import portions
from orca_bench.evaluate.answers.answer_cache import AnswerCache
from orca_bench.evaluate.answers.portions import Call, Portion
from orca_bench.evaluate.answers.work_sharing import WorkerPool, WorkItem
from orca_bench.evaluate.display import AnswerProgress, SilentDisplay
from orca_bench.evaluate.engine_interface import Engine, Progress, no_progress
from orca_bench.evaluate.harness.lm_eval_instances import ScoreResponse, TextResponse, request_of
from orca_bench.evaluate.protocols import Answer
from orca_bench.evaluate.request_encoding import MAX_NEW_TOKENS, Encoding, GenerationPrompt, ScoredSequence


class HarnessModel(LM):
    """lm-eval's model interface over an `Engine` and an `Encoding`, with answers in an `AnswerCache` where there is one.

    `workers` share the work, `protocol` names the encoding to them, `progress` is the display of the work.
    """

    def __init__(
        self,
        engine: Engine,
        encoding: Encoding,
        cache: AnswerCache | None = None,
        workers: WorkerPool | None = None,
        protocol: str = "",
        progress: AnswerProgress | None = None,
    ):
        """See the class; without a cache nothing is kept, without workers this process computes everything."""
        super().__init__()
        self.engine, self.encoding, self.cache, self.workers = engine, encoding, cache, workers or WorkerPool()
        self.protocol = protocol
        self.progress: AnswerProgress = progress or SilentDisplay()
        #: How many answers came from the cache, since `begin`.
        self.cached_answer_count = 0
        self._calls: list[Call] = []
        self._prepared_call: Call | None = None
        self._max_new_tokens = MAX_NEW_TOKENS

    def begin(self, prepared_call: Call | None = None, max_new_tokens: int = MAX_NEW_TOKENS) -> None:
        """A task begins: count, and hash the ids, anew.

        `prepared_call` is what `prepare` returned for the task's instances, which are then not encoded again. Instances
        that are not the prepared ones, in the same order, are encoded anew. `max_new_tokens` is the limit of a text where
        lm-eval's own task says none.
        """
        self.cached_answer_count = 0
        self._calls = []
        self._prepared_call, self._max_new_tokens = prepared_call, max_new_tokens

    def prepare(self, instances: Sequence[Instance]) -> Call:
        """The call that lm-eval will make with these instances, all of one type, encoded ahead.

        Raises UserError, with the request named, where one cannot be encoded.
        """
        requests_hash = self._requests_hash(instances)
        earlier_shortened_count, earlier_server_shortened_count = (
            self.encoding.shortened_context_count,
            self.encoding.server_shortened_context_count,
        )
        if instances[0].request_type == "loglikelihood":
            sequences = [self._encode_pair(instance) for instance in instances]
            call = portions.scoring_call(
                sequences,
                self.encoding.shortened_context_count - earlier_shortened_count,
                self.encoding.server_shortened_context_count - earlier_server_shortened_count,
            )
            return dataclasses.replace(call, requests_hash=requests_hash)
        prompts = [self._encode_prompt(instance) for instance in instances]
        stops_by_prompt = [list(request_of(instance, self._max_new_tokens).stop_strings) for instance in instances]
        call = portions.generation_call(
            prompts, stops_by_prompt, self.encoding.shortened_context_count - earlier_shortened_count
        )
        return dataclasses.replace(call, requests_hash=requests_hash)

    def cached_tokens(self, call: Call) -> int:
        """How many tokens of a call an earlier run has computed."""
        cache = self.cache
        return 0 if cache is None else sum(portion.token_count for portion in call.portions if cache.has(portion.key()))

    @property
    def shortened_context_count(self) -> int:
        """How many contexts lost tokens to fit the window, since `begin`."""
        return sum(call.shortened_context_count for call in self._calls)

    @property
    def server_shortened_context_count(self) -> int:
        """How many of them lost some to a server's window alone."""
        return sum(call.server_shortened_context_count for call in self._calls)

    @property
    def tokens_sha256(self) -> str:
        """A hash of all token ids that were fed since `begin`, and of where the scored ones start."""
        hashes = [call.sha256 for call in self._calls]
        return hashes[0] if len(hashes) == 1 else hashlib.sha256(" ".join(hashes).encode()).hexdigest()

    # --- lm-eval's interface --------------------------------------------------------------------------------------

    def loglikelihood(self, requests: Sequence[Instance], disable_tqdm: bool = True) -> list[ScoreResponse]:
        """The log-probability of each instance's continuation, in order."""
        return [
            ScoreResponse(Answer(float(log_probability), bool(greedy)))
            for log_probability, greedy in self._answer_values(requests)
        ]

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = True) -> list[TextResponse]:
        """The greedy text after each instance's context, in order."""
        return [
            TextResponse(Answer(text, full_text=full_text, hit_token_limit=hit_token_limit))
            for text, full_text, hit_token_limit in self._answer_values(requests)
        ]

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = True) -> list[float]:
        """Not implemented: no task of the suite scores a whole text."""
        raise NotImplementedError("no task of the suite asks for a rolling log-likelihood")

    def _answer_values(self, instances: Sequence[Instance]) -> list[Any]:
        """What the engine or the cache has for each instance, in order."""
        call, self._prepared_call = self._prepared_call, None
        # Answers are matched to instances by position, so a call of other instances would mix up the questions.
        if call is None or call.requests_hash != self._requests_hash(instances):
            call = self.prepare(instances)
        self._calls.append(call)
        self.progress.plan(call)
        answers_by_portion = self.workers.share(_PortionWork(self, call, instances))
        answer_values: list[Any] = [None] * len(instances)
        for portion, portion_answers in zip(call.portions, answers_by_portion, strict=True):
            for index, answer in zip(portion.request_indices, portion_answers, strict=True):
                answer_values[index] = answer
        return answer_values

    def _requests_hash(self, instances: Sequence[Instance]) -> int:
        return hash(tuple(request_of(instance, self._max_new_tokens) for instance in instances))

    def _encode_pair(self, instance: Instance) -> ScoredSequence:
        request = request_of(instance, self._max_new_tokens)
        with _name_errors(instance):
            return self.encoding.encode_pair(
                request.context, request.continuation or "", request.fixed_prefix_characters
            )

    def _encode_prompt(self, instance: Instance) -> GenerationPrompt:
        request = request_of(instance, self._max_new_tokens)
        with _name_errors(instance):
            return self.encoding.encode_prompt(request.context, request.fixed_prefix_characters, request.max_new_tokens)


class _PortionWork:
    """The portions of one call as the work of a pool: each is looked up in the cache, else computed and saved."""

    def __init__(self, model: HarnessModel, call: Call, instances: Sequence[Instance]):
        self._model, self._call, self._instances = model, call, instances
        self._encodings = {model.protocol: model.encoding}

    def __len__(self) -> int:
        return len(self._call.portions)

    def cached(self, index: int) -> list[Any] | None:
        """The answers to a portion that an earlier run computed, or None."""
        portion, cache = self._call.portions[index], self._model.cache
        answers = None if cache is None else cache.get(portion.key())
        if answers is not None:
            self._model.cached_answer_count += len(answers)
            self._model.progress.skip(self._progress_size(portion))
        return answers

    def work_item(self, index: int) -> WorkItem:
        """What `compute` needs of a portion, JSON values."""
        return [self._call.kind, self._model.protocol, self._call.portions[index].requests()]

    def compute(self, index: int) -> list[Any]:
        """The answers to a portion, computed here."""
        try:
            return compute(self._model.engine, self._encodings, self.work_item(index), self._model.progress.advance)
        except UserError as error:
            raise self.name_error(index, error) from None

    def save(self, index: int, answers: list[Any]) -> None:
        """Put the answers to a portion into the cache."""
        if self._model.cache is not None:
            self._model.cache.put(self._call.portions[index].key(), answers)

    def receive(self, index: int, answers: list[Any]) -> None:
        """Save answers that another process computed."""
        self._model.progress.advance(self._progress_size(self._call.portions[index]))
        self.save(index, answers)

    def name_error(self, index: int, error: UserError) -> UserError:
        """An error of a portion, with the request named that it is about."""
        if not isinstance(error, NotFinite):
            return error
        instance = self._instances[self._call.portions[index].request_indices[error.number]]
        return UserError("the model gave NaN or infinity", where=_request_name(instance), hint=error.hint)

    def _progress_size(self, portion: Portion) -> int:
        return portion.token_count if self._call.kind == portions.SCORES else len(portion.request_indices)


def compute(
    engine: Engine, encodings: Mapping[str, Encoding], work_item: WorkItem, progress: Progress = no_progress
) -> list[Any]:
    """An engine's answers, of `LogLikelihood` or `GeneratedText`, to an item: kind, protocol, requests of a portion."""
    answer_kind, protocol, requests = work_item
    if answer_kind == portions.SCORES:
        return engine.log_likelihoods([ScoredSequence(ids, start) for ids, start in requests], progress)
    prompts = [GenerationPrompt(ids, max_new_tokens, discard) for ids, max_new_tokens, discard, _ in requests]
    return engine.generate(prompts, [stops for *_, stops in requests], encodings[protocol], progress)


@contextmanager
def _name_errors(instance: Instance) -> Iterator[None]:
    """Name the request in whatever is wrong with it."""
    try:
        yield
    except UserError as error:
        raise UserError(error.what, where=_request_name(instance), hint=error.hint) from None


def _request_name(instance: Instance) -> str:
    return f"{instance.task_name} document {instance.doc_id} request {instance.idx}"
