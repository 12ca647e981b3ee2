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
from orca_bench.evaluate.engine.token_choice import TokenChoice
from orca_bench.evaluate.engine_interface import Engine, ReportComputedCount, ignore_computed_count
from orca_bench.evaluate.harness import rolling_windows
from orca_bench.evaluate.harness.lm_eval_instances import (
    ScoreResponse,
    TextResponse,
    WholeTextResponse,
    request_of,
    token_choice_of,
)
from orca_bench.evaluate.harness.sample_log import SampleLog
from orca_bench.evaluate.protocols import Answer, Request
from orca_bench.evaluate.request_encoding import MAX_NEW_TOKENS, Encoding, GenerationPrompt, ScoredSequence

#: The seed of sampled texts where the user gives none: lm_eval 0.4.13's own for torch (lm_eval/defaults.py).
DEFAULT_SAMPLING_SEED = 1234


class HarnessModel(LM):
    """lm-eval's model interface over an `Engine` and an `Encoding`, with answers in an `AnswerCache` where there is one.

    `workers` share the work, `protocol_name` names the encoding to them, `answer_progress` is the display of the work.
    """

    def __init__(
        self,
        engine: Engine,
        encoding: Encoding,
        cache: AnswerCache | None = None,
        workers: WorkerPool | None = None,
        protocol_name: str = "",
        answer_progress: AnswerProgress | None = None,
    ):
        """See the class; without a cache nothing is cached, without workers this process computes everything."""
        super().__init__()
        self.engine, self.encoding, self.cache, self.workers = engine, encoding, cache, workers or WorkerPool()
        self.protocol_name = protocol_name
        self.answer_progress: AnswerProgress = answer_progress or SilentDisplay()
        #: How many answers came from the cache, since `begin`.
        self.cached_answer_count = 0
        #: Where lm-eval's own files of samples are written, if they are wanted.
        self.sample_log: SampleLog | None = None
        self._calls: list[Call] = []
        self._prepared_call: Call | None = None
        self._default_max_new_tokens = MAX_NEW_TOKENS
        #: The rule of sampled texts where a task does not say it, and its seed, of which each text's own follows.
        self.default_token_choice = TokenChoice(seed=DEFAULT_SAMPLING_SEED)

    def begin(self, prepared_call: Call | None = None, default_max_new_tokens: int = MAX_NEW_TOKENS) -> None:
        """A task begins: count, and hash the ids, anew.

        `prepared_call` is what `prepare` returned for the task's instances, which are then not encoded again. Instances
        that are not the prepared ones, in the same order, are encoded anew. `default_max_new_tokens` is the limit of a text where
        lm-eval's own task says none.
        """
        self.cached_answer_count = 0
        self._calls = []
        self._prepared_call, self._default_max_new_tokens = prepared_call, default_max_new_tokens

    def prepare(self, instances: Sequence[Instance]) -> Call:
        """The call that lm-eval will make with these instances, all of one type, encoded ahead.

        Raises UserError, with the request named, where one cannot be encoded.
        """
        requests_hash, instance_indices = self._requests_hash(instances), None
        earlier_shortened_count, earlier_server_shortened_count = (
            self.encoding.shortened_context_count,
            self.encoding.server_shortened_context_count,
        )
        if instances[0].request_type != "generate_until":
            if instances[0].request_type == "loglikelihood":
                sequences = [self._encode_pair(instance) for instance in instances]
            else:
                sequences, instance_indices = self._encode_whole_texts(instances)
            call = portions.scoring_call(
                sequences,
                self.encoding.shortened_context_count - earlier_shortened_count,
                self.encoding.server_shortened_context_count - earlier_server_shortened_count,
            )
            return dataclasses.replace(call, requests_hash=requests_hash, instance_indices=instance_indices)
        prompts = self._encode_prompts(instances)
        stop_strings_by_prompt = [
            list(request_of(instance, self._default_max_new_tokens).stop_strings) for instance in instances
        ]
        call = portions.generation_call(
            prompts, stop_strings_by_prompt, self.encoding.shortened_context_count - earlier_shortened_count
        )
        return dataclasses.replace(call, requests_hash=requests_hash)

    def cached_tokens(self, call: Call) -> int:
        """How many tokens of a call an earlier run has computed."""
        cache = self.cache
        return (
            0
            if cache is None
            else sum(portion.computed_token_count for portion in call.portions if cache.has(portion.key()))
        )

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
        call_hashes = [call.token_ids_sha256 for call in self._calls]
        return call_hashes[0] if len(call_hashes) == 1 else hashlib.sha256(" ".join(call_hashes).encode()).hexdigest()

    def receive_answers(self, instances: Sequence[Instance], answers: Sequence[Any]) -> None:
        """Called with the answers of a portion as soon as they are computed, and the instances that they are of."""

    # --- lm-eval's interface --------------------------------------------------------------------------------------

    def loglikelihood(self, requests: Sequence[Instance], disable_tqdm: bool = True) -> list[ScoreResponse]:
        """The log-probability of each instance's continuation, in order."""
        return [
            ScoreResponse(Answer(float(log_probability), bool(greedy)))
            for log_probability, greedy in self._answers_in_order(requests)
        ]

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = True) -> list[TextResponse]:
        """The text after each instance's context, in order: greedy, or sampled where the instance says so.

        An instance that is there several times (`repeats`) gets as many texts, which differ where they are sampled.
        """
        return [
            TextResponse(Answer(text, full_text=full_text, hit_token_limit=hit_token_limit))
            for text, full_text, hit_token_limit in self._answers_in_order(requests)
        ]

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = True) -> list[WholeTextResponse]:
        """The log-probability of each instance's whole text, in order: the sum over its windows (see `rolling_windows`)."""
        window_answers = self._answers_in_order(requests)
        log_probabilities, greedy_flags = [0.0] * len(requests), [True] * len(requests)
        for index, (log_probability, greedy) in zip(
            self._calls[-1].instance_indices or [], window_answers, strict=True
        ):
            log_probabilities[index] += log_probability
            greedy_flags[index] = greedy_flags[index] and bool(greedy)
        return [
            WholeTextResponse(Answer(log_probability, greedy))
            for log_probability, greedy in zip(log_probabilities, greedy_flags, strict=True)
        ]

    def _answers_in_order(self, instances: Sequence[Instance]) -> list[Any]:
        """What the engine or the cache has for each instance, in order; of whole texts for each window."""
        call, self._prepared_call = self._prepared_call, None
        # Answers are matched to instances by position, so a call of other instances would mix up the questions.
        if call is None or call.requests_hash != self._requests_hash(instances):
            call = self.prepare(instances)
        self._calls.append(call)
        self.answer_progress.plan(call)
        if call.instance_indices is not None:
            instances = [instances[index] for index in call.instance_indices]
        answers_by_portion = self.workers.share(_PortionsOfCall(self, call, instances))
        answers_in_order: list[Any] = [None] * len(instances)
        for portion, portion_answers in zip(call.portions, answers_by_portion, strict=True):
            for index, answer in zip(portion.request_indices, portion_answers, strict=True):
                answers_in_order[index] = answer
        return answers_in_order

    def _requests_hash(self, instances: Sequence[Instance]) -> int:
        return hash(tuple((instance.request_type, *self._request_and_choice(instance)) for instance in instances))

    def _request_and_choice(self, instance: Instance) -> tuple[Request, TokenChoice | None]:
        """The request of an instance, and the rule of its text's next token where that is not the likeliest."""
        request = self._request_of(instance)
        if instance.request_type != "generate_until":
            return request, None
        return request, token_choice_of(instance, self.default_token_choice)

    def _request_of(self, instance: Instance) -> Request:
        with _name_instance_in_errors(instance):
            return request_of(instance, self._default_max_new_tokens)

    def _encode_pair(self, instance: Instance) -> ScoredSequence:
        request = self._request_of(instance)
        with _name_instance_in_errors(instance):
            return self.encoding.encode_pair(
                request.context, request.continuation or "", request.fixed_prefix_characters
            )

    def _encode_whole_texts(self, instances: Sequence[Instance]) -> tuple[list[ScoredSequence], list[int]]:
        """The windows of all texts, and the index of the instance that each window is of."""
        windows_by_instance = [
            rolling_windows.windows_of_text(self.encoding, self._request_of(instance).continuation or "")
            for instance in instances
        ]
        instance_indices = [index for index, windows in enumerate(windows_by_instance) for _ in windows]
        return [window for windows in windows_by_instance for window in windows], instance_indices

    def _encode_prompts(self, instances: Sequence[Instance]) -> list[GenerationPrompt]:
        """The prompt of each instance; those of an instance that is there again have the rules of its further texts."""
        repeat_counts: dict[int, int] = {}
        prompts = []
        for instance in instances:
            repeat_index = repeat_counts.get(id(instance), 0)
            repeat_counts[id(instance)] = repeat_index + 1
            prompts.append(self._encode_prompt(instance, repeat_index))
        return prompts

    def _encode_prompt(self, instance: Instance, repeat_index: int) -> GenerationPrompt:
        request, token_choice = self._request_and_choice(instance)
        with _name_instance_in_errors(instance):
            prompt = self.encoding.encode_prompt(
                request.context, request.fixed_prefix_characters, request.max_new_tokens
            )
            if token_choice is None:
                return prompt
            if not getattr(self.engine, "serves_token_choice", False):
                raise UserError(
                    "its text is sampled, and this engine generates greedily only", hint="--engine hf samples"
                )
        return dataclasses.replace(prompt, token_choice=token_choice.for_request(prompt.token_ids, repeat_index))


class _PortionsOfCall:
    """The portions of one call as the work of a pool: each is looked up in the cache, else computed and saved."""

    def __init__(self, model: HarnessModel, call: Call, instances: Sequence[Instance]):
        self._model, self._call, self._instances = model, call, instances
        self._encodings_by_protocol = {model.protocol_name: model.encoding}

    def __len__(self) -> int:
        return len(self._call.portions)

    def cached(self, portion_index: int) -> list[Any] | None:
        """The answers to a portion that an earlier run computed, or None."""
        portion, cache = self._call.portions[portion_index], self._model.cache
        answers = None if cache is None else cache.get(portion.key())
        if answers is not None:
            self._model.cached_answer_count += len(answers)
            self._model.answer_progress.skip(self._progress_size(portion))
        return answers

    def work_item(self, portion_index: int) -> WorkItem:
        """What `compute` needs of a portion, JSON values."""
        return [self._call.answer_kind, self._model.protocol_name, self._call.portions[portion_index].requests()]

    def compute(self, portion_index: int) -> list[Any]:
        """The answers to a portion, computed here."""
        try:
            return compute(
                self._model.engine,
                self._encodings_by_protocol,
                self.work_item(portion_index),
                self._model.answer_progress.advance,
            )
        except UserError as error:
            raise self.name_error(portion_index, error) from None

    def save(self, portion_index: int, answers: list[Any]) -> None:
        """Put the answers to a portion into the cache."""
        portion = self._call.portions[portion_index]
        if self._model.cache is not None:
            self._model.cache.put(portion.key(), answers)
        self._model.receive_answers([self._instances[index] for index in portion.request_indices], answers)

    def receive(self, portion_index: int, answers: list[Any]) -> None:
        """Save answers that another process computed."""
        self._model.answer_progress.advance(self._progress_size(self._call.portions[portion_index]))
        self.save(portion_index, answers)

    def name_error(self, portion_index: int, error: UserError) -> UserError:
        """An error of a portion, with the request named that it is about."""
        if not isinstance(error, NotFinite):
            return error
        instance = self._instances[self._call.portions[portion_index].request_indices[error.request_number]]
        return UserError("the model gave NaN or infinity", where=_instance_key_text(instance), hint=error.hint)

    def _progress_size(self, portion: Portion) -> int:
        return (
            portion.computed_token_count if self._call.answer_kind == portions.SCORES else len(portion.request_indices)
        )


def compute(
    engine: Engine,
    encodings_by_protocol: Mapping[str, Encoding],
    work_item: WorkItem,
    report_computed: ReportComputedCount = ignore_computed_count,
) -> list[Any]:
    """An engine's answers, of `LogLikelihood` or `GeneratedText`, to an item: kind, protocol, requests of a portion."""
    answer_kind, protocol_name, requests = work_item
    if answer_kind == portions.SCORES:
        return engine.log_likelihoods(
            [ScoredSequence(token_ids, scored_start) for token_ids, scored_start in requests], report_computed
        )
    prompts = [
        GenerationPrompt(
            token_ids,
            max_new_tokens,
            discarded_token_count,
            TokenChoice.from_json(token_choice[0]) if token_choice else None,
        )
        for token_ids, max_new_tokens, discarded_token_count, _, *token_choice in requests
    ]
    stops_by_prompt = [stop_strings for _, _, _, stop_strings, *_ in requests]
    return engine.generate(prompts, stops_by_prompt, encodings_by_protocol[protocol_name], report_computed)


@contextmanager
def _name_instance_in_errors(instance: Instance) -> Iterator[None]:
    """Name the request in whatever is wrong with it."""
    try:
        yield
    except UserError as error:
        raise UserError(error.problem, where=_instance_key_text(instance), hint=error.hint) from None


def _instance_key_text(instance: Instance) -> str:
    return f"{instance.task_name} document {instance.doc_id} request {instance.idx}"
