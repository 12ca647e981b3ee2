"""Token ids to a server and answers back: any OpenAI-compatible completions endpoint that gives log-probabilities.

The server gets token ids, never strings, so that it scores the very tokens that the protocol asks for. A log-likelihood is
asked as lm-eval's `local-completions` does: the prompt echoed, one token more, log-probabilities of all. vLLM's, SGLang's and
llama-cpp-python's servers answer that; OpenAI's own no longer do, llama.cpp's never did. What a server cannot do is found by
`check`, before anything is asked; what it does otherwise than the engine here stands in `differences`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from orca_bench.errors import NotFinite, UserError
from orca_bench.evaluate.engine import prefix_tree
from orca_bench.evaluate.request_encoding import Encoding, Ids, Start, cut
from orca_bench.evaluate.servers.completions_client import Endpoint, Refused

Progress = Callable[[int], None]
_PROBE = 16  # token ids, and as many of an answer; half a server's window each where that is less
#: Greedy decoding with nothing in its way. vLLM takes what is not sent from the model's generation_config.json
#: (`--generation-config auto`), so everything is sent that can be: OpenAI's own parameters, …
_GREEDY = {"top_p": 1, "presence_penalty": 0, "frequency_penalty": 0}
#: … and, as far as a server takes them, those of vLLM and SGLang (repetition_penalty) and llama.cpp (repeat_penalty). An older
#: vLLM takes only -1 for "all tokens", llama-cpp-python only 0.
_MORE = {"min_p": 0, "repetition_penalty": 1, "repeat_penalty": 1}
_EXTRAS = ({"top_k": -1} | _MORE, {"top_k": 0} | _MORE, {})


@dataclass(frozen=True)
class Probe:
    """A server's answer to a fixed question, which tells models apart: in nats, and as a text where nothing is scored."""

    value: float | None
    text: str | None


class Api:
    """A completions server, asked `concurrency` requests at a time; see `Endpoint` for its address and model."""

    def __init__(self, base_url: str, model: str | None = None, concurrency: int = 16, timeout: float = 600):
        self._endpoint = Endpoint(base_url, model, timeout)
        self.concurrency = concurrency
        self.model, self.base_url, self.window = self._endpoint.model, self._endpoint.display_url, self._endpoint.window
        #: What is sent with each request besides temperature 0.
        self.sampling: dict = {}
        #: Whether the server tells the tokens of a text, which is needed where the first are thrown away.
        self.tells_tokens = False

    def close(self) -> None:
        """Give up what is under way."""
        self._endpoint.close()

    def check(self, scores: bool = True, stop_ids: Sequence[int] = ()) -> Probe:
        """Find out how the server wants to be asked, and whether it can score (`scores`) token ids.

        A text is to end at any of `stop_ids`, as far as the server lets itself be told.

        Raises UserError where it cannot answer.
        """
        for extras in _EXTRAS:
            stops = {"stop_token_ids": list(stop_ids)} if stop_ids else {}
            self.sampling = _GREEDY | ({"extra_body": extras | stops} if extras else {})
            try:
                choice = self._endpoint.run(self._complete([1, 2], max_tokens=1))
                break
            except Refused as error:  # an option that it does not know, perhaps
                if error.status not in (400, 422) or not extras:
                    raise
        size = min(_PROBE, max(2, self.window // 2)) if self.window else _PROBE
        ids = list(range(1, size + 1))
        try:
            choice = self._endpoint.run(self._complete(ids, max_tokens=size, logprobs=1))
            self.tells_tokens = choice.logprobs is not None and bool(choice.logprobs.tokens)
        except Refused:
            choice = self._endpoint.run(self._complete(ids, max_tokens=size))
        if not scores:
            return Probe(None, choice.text)
        # Several, because what a server adds in front hides behind an end of text that it leaves out.
        sequences = [Ids(part, 1) for part in (ids, ids[1:4], ids[4:]) if len(part) > 1]
        return Probe(self.log_likelihoods(sequences)[0][0], None)

    @property
    def differences(self) -> list[str]:
        """What a result from here must say, because the engine in process does otherwise."""
        lines = [
            "a text ends where a stop string first appears; in process the leaderboard protocol looks for it in the last "
            "tokens only",
            "which further tokens end a text, and in which precision it computes, is the server's own setting",
        ]
        if "extra_body" not in self.sampling:
            lines.append(
                "the server takes neither top_k nor a repetition penalty with a request: where its own defaults (vLLM takes "
                "them from generation_config.json) are others than none, texts are not plainly greedy"
            )
        if self.window is None:
            lines.append("the server does not tell its context window: that of the model folder is taken")
        return lines

    def log_likelihoods(
        self, sequences: Sequence[Ids], progress: Progress = lambda n: None
    ) -> list[tuple[float, bool]]:
        """(log-probability in nats, whether greedy decoding would say it) of each sequence's scored part.

        In the order of their ids, so that a server that caches prefixes finds them.
        """
        order = sorted(range(len(sequences)), key=lambda n: sequences[n].ids)
        fresh = prefix_tree.fresh([sequences[number] for number in order])
        answers = self._all(order, lambda number: self._log_likelihood(number, sequences[number]), fresh, progress)
        return [answers[number] for number in range(len(sequences))]

    def texts(
        self,
        starts: Sequence[Start],
        stops: Sequence[Sequence[str]],
        encoding: Encoding,
        progress: Progress = lambda n: None,
    ) -> list[tuple[str, str | None, bool | None]]:
        """(greedy text, the whole of it where its first tokens are thrown away, else None, whether it ran out of room, None
        where the server does not say why it ended) behind each start.

        The server ends a text at a stop string; the encoding's own rule may look for it in the last tokens only, but cuts
        the text at its first occurrence all the same.
        """
        order = sorted(range(len(starts)), key=lambda n: starts[n].ids)
        answers = self._all(
            order, lambda number: self._text(starts[number], stops[number], encoding), [1] * len(order), progress
        )
        return [answers[number] for number in range(len(starts))]

    def _all(
        self, order: Sequence[int], ask: Callable[[int], Awaitable], sizes: Iterable[int], progress: Progress
    ) -> dict:
        """The answer to each number, asked in order; the first that fails ends all."""
        answers: dict[int, object] = {}

        async def one(number: int, size: int, places: asyncio.Semaphore) -> None:
            async with places:
                answers[number] = await ask(number)
            progress(size)

        async def together() -> None:
            places = asyncio.Semaphore(self.concurrency)
            tasks = [asyncio.ensure_future(one(n, size, places)) for n, size in zip(order, sizes, strict=True)]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()

        self._endpoint.run(together())
        return answers

    async def _log_likelihood(self, number: int, sequence: Ids) -> tuple[float, bool]:
        ids = sequence.ids
        choice = await self._complete(ids, max_tokens=1, echo=True, logprobs=1)
        logprobs = choice.logprobs
        values = list(logprobs.token_logprobs or []) if logprobs else []
        # A server may leave out the token that it generated where that ends the text.
        ended = len(values) == len(ids) and choice.finish_reason == "stop"
        if not (len(values) == len(ids) + 1 or ended) or any(value is None for value in values[1 : len(ids)]):
            raise self._not_echoed(len(ids), len(values))
        scored = range(sequence.start, len(ids))
        value = math.fsum(values[place] for place in scored)
        if not math.isfinite(value):
            raise NotFinite(number, value)
        tops = logprobs.top_logprobs or []
        greedy = all(values[place] >= max((tops[place] or {"": math.inf}).values()) for place in scored if tops)
        return value, bool(tops) and greedy

    def _not_echoed(self, sent: int, echoed: int) -> UserError:
        hint = "the server must take token ids, and know `echo` with `logprobs`"
        if echoed == sent + 2:
            hint = "the server, or what stands before it, adds a token in front (a BOS?) to ids that are complete"
        return UserError(
            f"{sent} token ids were sent and {echoed} log-probabilities came back, {sent + 1} expected",
            where=self.base_url,
            hint=hint,
        )

    async def _text(
        self, start: Start, stops: Sequence[str], encoding: Encoding
    ) -> tuple[str, str | None, bool | None]:
        options = {"stop": list(stops)} if stops else {}
        if start.discard:
            options["logprobs"] = 1  # tells the tokens apart, of which the first are thrown away
        choice = await self._complete(start.ids, max_tokens=start.max_new_tokens, **options)
        stops = [*stops, encoding.tokenizer.eos_text]
        ran_out = None if choice.finish_reason is None else choice.finish_reason == "length"
        # A server that decodes behind the prompt has the space that SentencePiece takes from a text's first word.
        whole = choice.text.removeprefix(" ")
        if not start.discard:
            return cut(whole, stops), None, ran_out
        if choice.logprobs is None or choice.logprobs.tokens is None:
            raise UserError(
                "the server does not tell the tokens of a text", where=self.base_url, hint="`logprobs` is needed"
            )
        thrown = "".join(choice.logprobs.tokens[: start.discard])
        return cut(choice.text[len(thrown) :].removeprefix(" "), stops), cut(whole, stops), ran_out

    async def _complete(self, ids: list[int], **options):
        """The one choice of a completion."""
        completion = await self._endpoint.complete(ids, **self.sampling, **options)
        counted = getattr(completion.usage, "prompt_tokens", None)
        if counted not in (None, 0, len(ids)):
            raise UserError(
                f"{len(ids)} token ids were sent and the server counts a prompt of {counted}",
                where=self.base_url,
                hint="the server, or what stands before it, adds tokens (a BOS?) or makes others of them",
            )
        return completion.choices[0]
