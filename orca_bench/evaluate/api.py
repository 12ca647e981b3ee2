"""Token ids to a server and answers back: any OpenAI-compatible completions endpoint that gives log-probabilities.

The server gets token ids, never strings, so that it scores the very tokens that the protocol asks for. A log-likelihood is
asked as lm-eval's `local-completions` does: the prompt echoed, one token more, log-probabilities of all. vLLM's and
llama.cpp's servers among others answer that; OpenAI's own no longer do.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait

from orca_bench.errors import NotFinite, UserError
from orca_bench.evaluate import tree
from orca_bench.evaluate.encoding import Encoding, Ids, Start, cut

Progress = Callable[[int], None]
_PROBE = 16  # token ids
_RETRIES = 6  # of a request that met a full queue, a failure of the server or a broken connection; waits grow


class Api:
    """A completions server at `base_url` (…/v1), asked `concurrency` requests at a time.

    `model` is the name that it serves the model under; None takes the only one it lists. The key is OPENAI_API_KEY.
    """

    def __init__(self, base_url: str, model: str | None = None, concurrency: int = 16, timeout: float = 600):
        import openai

        self._openai, self.base_url, self.concurrency = openai, base_url, concurrency
        self._client = openai.OpenAI(
            base_url=base_url,
            api_key=os.environ.get("OPENAI_API_KEY") or "none",
            max_retries=_RETRIES,
            timeout=timeout,
        )
        self.model = self._served(model)

    def _served(self, wanted: str | None) -> str:
        # Once only: a server that is not there now will not come.
        listed = self._ask(self._client.with_options(max_retries=0).models.list)
        names = [model.id for model in listed]
        if wanted is not None:
            if names and wanted not in names:
                raise UserError(
                    f"the server has no model '{wanted}'", where=self.base_url, hint=f"it has {', '.join(names[:5])}"
                )
            return wanted
        if len(names) != 1:
            raise UserError(
                f"the server lists {len(names)} models ({', '.join(names[:5])})",
                where=self.base_url,
                hint="name one with --served-model",
            )
        return names[0]

    def check(self) -> float:
        """Ask for one token and for one log-likelihood, which is returned, in nats: of some ids, so that it tells models apart.

        Raises UserError where the server cannot answer.
        """
        self._complete([1, 2], max_tokens=1)
        ((value, _),) = self.log_likelihoods([Ids(list(range(1, _PROBE + 1)), 1)])
        return value

    def log_likelihoods(
        self, sequences: Sequence[Ids], progress: Progress = lambda n: None
    ) -> list[tuple[float, bool]]:
        """(log-probability in nats, whether greedy decoding would say it) of each sequence's scored part.

        In the order of their ids, so that a server that caches prefixes finds them.
        """
        order = sorted(range(len(sequences)), key=lambda n: sequences[n].ids)
        fresh = tree.fresh([sequences[number] for number in order])
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
        self, order: Sequence[int], ask: Callable[[int], object], sizes: Iterable[int], progress: Progress
    ) -> dict:
        pool = ThreadPoolExecutor(self.concurrency)
        asked: dict[Future, tuple[int, int]] = {}
        answers: dict[int, object] = {}
        try:
            for number, size in zip(order, sizes, strict=True):
                asked[pool.submit(ask, number)] = (number, size)
            open_ = set(asked)
            while open_:
                done, open_ = wait(open_, timeout=0.5, return_when=FIRST_EXCEPTION)
                for future in done:
                    number, size = asked[future]
                    answers[number] = future.result()
                    progress(size)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return answers

    def _log_likelihood(self, number: int, sequence: Ids) -> tuple[float, bool]:
        choice = self._complete(sequence.ids, max_tokens=1, echo=True, logprobs=1)
        given = choice.logprobs
        values = list(given.token_logprobs or []) if given else []
        if len(values) < len(sequence.ids) or any(value is None for value in values[1 : len(sequence.ids)]):
            raise UserError(
                f"{len(sequence.ids)} token ids were sent and {len(values)} log-probabilities came back",
                where=self.base_url,
                hint="the server must take token ids, and know `echo` with `logprobs`",
            )
        scored = range(sequence.start, len(sequence.ids))
        value = math.fsum(values[place] for place in scored)
        if not math.isfinite(value):
            raise NotFinite(number, value)
        tops = given.top_logprobs or []
        greedy = all(values[place] >= max((tops[place] or {"": math.inf}).values()) for place in scored if tops)
        return value, bool(tops) and greedy

    def _text(self, start: Start, stops: Sequence[str], encoding: Encoding) -> tuple[str, str | None, bool | None]:
        options = {"stop": list(stops)} if stops else {}
        if start.discard:
            options["logprobs"] = 1  # tells the tokens apart, of which the first are thrown away
        choice = self._complete(start.ids, max_tokens=start.room, **options)
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

    def _complete(self, ids: list[int], **options):
        completion = self._ask(
            lambda: self._client.completions.create(model=self.model, prompt=ids, temperature=0, **options)
        )
        if not completion.choices:
            raise UserError("the server's completion has no choice", where=self.base_url)
        return completion.choices[0]

    def _ask(self, request: Callable[[], object]):
        openai = self._openai
        try:
            return request()
        except openai.APIStatusError as error:
            said = " ".join(str(error.message).split())[:300]
            raise UserError(f"the server refused ({error.status_code}): {said}", where=self.base_url) from None
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            raise UserError(f"cannot reach the server ({cause})", where=self.base_url, hint="is it running?") from None
        except (openai.OpenAIError, ValueError, AttributeError, TypeError) as error:
            said = " ".join(str(error).split())[:200]
            raise UserError(f"not an answer of a completions server ({said})", where=self.base_url) from None
