"""SGLang's own API: `/generate` with ids, which scores a prompt from any place on and so uses its prefix cache for the rest.

After SGLang's `GenerateReqInput` (managers/io_struct.py): `input_ids`, `return_logprob`, `logprob_start_len`, `top_logprobs_num`;
the answer's `meta_info` has `input_token_logprobs` as [log-probability, id, text] from `logprob_start_len` on, the first without
a value, and `cached_tokens`. Its completions API can echo too, but scores from the first token on, which reads no cache. Its own
module because no other server speaks it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orca_bench.errors import UserError
from orca_bench.evaluate.servers.completions_client import Endpoint
from orca_bench.evaluate.servers.server_api import Completion, PrefixCacheUse, PromptScores, hit_token_limit

#: Greedy decoding with nothing in its way; SGLang takes what is not sent from the model's generation_config.json.
_GREEDY_OPTIONS = {
    "temperature": 0,
    "top_p": 1,
    "top_k": -1,
    "min_p": 0,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "repetition_penalty": 1,
}


class SglangApi:
    """A `ServerApi` by SGLang's `/generate`."""

    #: A prompt's cached prefix is not computed again up to where the log-probabilities begin.
    caches_scored_prompts = True

    def __init__(self, endpoint: Endpoint):
        self._endpoint, self.kind = endpoint, endpoint.kind
        self.sampling_options: dict[str, Any] = {}
        self.cache_use = PrefixCacheUse()
        #: One more than the tokenizer's largest id; None where it is not known.
        self.vocabulary_size: int | None = None

    async def agree_on_options(self, stop_ids: Sequence[int]) -> None:
        """See `ServerApi`."""
        self.sampling_options = _GREEDY_OPTIONS | ({"stop_token_ids": list(stop_ids)} if stop_ids else {})
        await self._generate([1, 2], 1, is_first_request=True)

    async def score(
        self, prompt: list[int] | str, scored_start: int = 1, is_first_request: bool = False
    ) -> PromptScores:
        """See `ServerApi`."""
        first_position = scored_start - 1
        answer = await self._generate(
            prompt,
            1,
            is_first_request=is_first_request,
            return_logprob=True,
            logprob_start_len=first_position,
            top_logprobs_num=1,
        )
        meta_info = answer["meta_info"]
        try:
            entries = [(entry[0], int(entry[1])) for entry in meta_info["input_token_logprobs"]]
            tops = [_top_value(position_entries) for position_entries in meta_info.get("input_top_logprobs") or []]
            next_values = [
                _top_value(position_entries) for position_entries in meta_info.get("output_top_logprobs") or []
            ]
        except (KeyError, TypeError, IndexError, ValueError):
            raise self._format_error("log-probabilities of a prompt's tokens") from None
        expected_count = (len(prompt) if isinstance(prompt, list) else int(meta_info["prompt_tokens"])) - first_position
        if len(entries) != expected_count or any(value is None for value, _ in entries[1:]):
            raise UserError(
                f"{expected_count + first_position} token ids were sent, and {len(entries)} log-probabilities came back from "
                f"position {first_position} on, {expected_count} expected",
                where=self._endpoint.redacted_url,
                hint="the server, or what stands before it, adds tokens (a BOS?), cuts the prompt, or counts otherwise",
            )
        echoed_ids = [token_id for _, token_id in entries]
        if isinstance(prompt, list):
            self._check_echo(prompt, first_position, echoed_ids)
            echoed_ids = prompt[first_position:]
        unscored: list[float | None] = [None] * first_position
        return PromptScores(
            [*unscored, None, *(value for value, _ in entries[1:])],
            [*unscored, None, *(tops[1:] or [None] * (len(entries) - 1))],
            next_values[0] if next_values else None,
            echoed_ids if first_position == 0 else None,
        )

    async def generate(
        self,
        prompt: list[int] | str,
        max_new_tokens: int,
        stop_strings: Sequence[str] = (),
        tells_tokens: bool = False,
        is_first_request: bool = False,
    ) -> Completion:
        """See `ServerApi`."""
        logprob_options: dict[str, Any] = (
            {"return_logprob": True, "logprob_start_len": -1, "return_text_in_logprobs": True} if tells_tokens else {}
        )
        answer = await self._generate(
            prompt, max_new_tokens, stop_strings, is_first_request=is_first_request, **logprob_options
        )
        meta_info = answer["meta_info"]
        entries = meta_info.get("output_token_logprobs") or []
        finish = meta_info.get("finish_reason")
        finish = finish if isinstance(finish, dict) else {"type": finish}
        if not isinstance(answer.get("text"), str):  # --skip-tokenizer-init
            raise self._format_error("of a text")
        token_texts = [entry[2] for entry in entries if len(entry) > 2 and isinstance(entry[2], str)]
        return Completion(
            answer["text"],
            token_texts if entries and len(token_texts) == len(entries) else None,
            [int(entry[1]) for entry in entries] if entries else answer.get("output_ids"),
            [float(entry[0]) for entry in entries] or None,
            hit_token_limit(finish["type"], str(finish.get("message") or ""), self._endpoint.redacted_url),
            None,
            meta_info.get("prompt_tokens"),
        )

    def _check_echo(self, prompt_ids: list[int], first_position: int, echoed_ids: list[int]) -> None:
        """Raise UserError where other ids were scored than were sent.

        SGLang echoes the last id of its vocabulary, and those beyond, as 0 (`_process_input_token_logprobs`); what it scores is
        the id that was sent.
        """
        for position, echoed_id in enumerate(echoed_ids, first_position):
            sent_id = prompt_ids[position]
            is_last_id = self.vocabulary_size is not None and sent_id >= self.vocabulary_size - 1
            if echoed_id != sent_id and not (echoed_id == 0 and is_last_id):
                raise UserError(
                    f"token id {sent_id} was sent at position {position}, and the server scored {echoed_id} there",
                    where=self._endpoint.redacted_url,
                    hint="the server, or what stands before it, makes other ids of a prompt",
                )

    async def _generate(
        self,
        prompt: list[int] | str,
        max_new_tokens: int,
        stop_strings: Sequence[str] = (),
        is_first_request: bool = False,
        **options: Any,
    ) -> dict[str, Any]:
        """The answer of `/generate`, whose `meta_info` is a JSON object that counts the prompt's tokens."""
        sampling_params = self.sampling_options | {"max_new_tokens": max_new_tokens}
        if stop_strings:
            sampling_params["stop"] = list(stop_strings)
        prompt_options = {"input_ids": prompt} if isinstance(prompt, list) else {"text": prompt}
        request = prompt_options | {"sampling_params": sampling_params} | options
        answer = await self._endpoint.post("/generate", request, is_first_request)
        meta_info = answer.get("meta_info")
        if not isinstance(meta_info, dict):
            raise self._format_error("of what it generated")
        prompt_tokens = meta_info.get("prompt_tokens")
        if isinstance(prompt, list) and prompt_tokens != len(prompt):
            raise UserError(
                f"{len(prompt)} token ids were sent and the server counts a prompt of {prompt_tokens}",
                where=self._endpoint.redacted_url,
                hint="the server, or what stands before it, adds tokens (a BOS?) or cuts the prompt",
            )
        cached_tokens = meta_info.get("cached_tokens")
        self.cache_use.add(int(prompt_tokens or 0), cached_tokens if isinstance(cached_tokens, int) else None)
        return answer

    def _format_error(self, missing_text: str) -> UserError:
        return UserError(
            f"the server's /generate tells nothing {missing_text}",
            where=self._endpoint.redacted_url,
            hint="is it SGLang, no older than 0.4, with its tokenizer?",
        )


def _top_value(position_entries: Any) -> float | None:
    """The log-probability of the likeliest token of one position, None where there is none."""
    return max(float(entry[0]) for entry in position_entries) if position_entries else None
