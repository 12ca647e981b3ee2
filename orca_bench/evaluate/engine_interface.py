"""The interface of what computes answers, which the harness calls and each engine implements.

In: requests as token ids. Out: log-probabilities and texts. Its own module because callers and engines do not
depend on one another: the model in this process (`engine.tree_engine`) and a server (`servers.server_engine`) have the same
interface.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from orca_bench.evaluate.request_encoding import Encoding, GenerationPrompt, ScoredSequence

#: Called with how many tokens (of log-likelihoods) or texts have been computed since the call before.
ReportComputedCount = Callable[[int], None]


def ignore_computed_count(count: int) -> None:
    """The `ReportComputedCount` of a caller that does not want to know."""


class LogLikelihood(NamedTuple):
    """The score of a continuation: its log-probability in nats, and whether greedy decoding would generate it."""

    log_probability: float
    is_greedy: bool


class GeneratedText(NamedTuple):
    """What was generated after a context.

    `full_text` is the text with its first tokens where the encoding discards some, else None. `hit_token_limit` is whether
    the text ended because it had all the tokens that it may have; None where a server does not tell.
    """

    text: str
    full_text: str | None
    hit_token_limit: bool | None


def generated_text(
    continuation_ids: Sequence[int], prompt: GenerationPrompt, stop_strings: Sequence[str], encoding: Encoding
) -> GeneratedText:
    """What the ids of a continuation, which `encoding` ended or the prompt's token limit, are as a text."""
    ids = list(continuation_ids)
    return GeneratedText(
        encoding.text(ids[prompt.discarded_token_count :], stop_strings),
        encoding.text(ids, stop_strings) if prompt.discarded_token_count else None,
        not encoding.is_complete(ids, stop_strings),
    )


class Engine(Protocol):
    """A model that answers requests, here or on a server."""

    def log_likelihoods(
        self, sequences: Sequence[ScoredSequence], report_computed: ReportComputedCount = ignore_computed_count
    ) -> list[LogLikelihood]:
        """The score of each sequence's continuation, in order.

        `report_computed` counts tokens of the prefix tree of all sequences. Raises NotFinite with the number of a sequence
        whose log-probability is NaN or infinite.
        """

    def generate(
        self,
        prompts: Sequence[GenerationPrompt],
        stops_by_prompt: Sequence[Sequence[str]],
        encoding: Encoding,
        report_computed: ReportComputedCount = ignore_computed_count,
    ) -> list[GeneratedText]:
        """The greedy text after each prompt, which ends where `encoding` finds one of the stop strings, in order.

        `report_computed` counts texts. Raises NotFinite with the number of a prompt after which a logit is NaN or infinite.
        """
