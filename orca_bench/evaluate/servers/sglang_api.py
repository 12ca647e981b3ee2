"""SGLang's own API: `/generate` with ids, which scores a prompt from any place on and so uses its prefix cache for the rest.

After SGLang's `GenerateReqInput` (managers/io_struct.py): `input_ids`, `return_logprob`, `logprob_start_len`, `top_logprobs_num`;
the answer's `meta_info` has `input_token_logprobs` as [log-probability, id, text] from `logprob_start_len` on, the first without
a value, and `cached_tokens`. Its completions API can echo too, but scores from the first token on, which reads no cache. Its own
module because no other server speaks it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from orca_bench.errors import UserError
from orca_bench.evaluate.servers.server_api import (
    Completion,
    Prompt,
    PromptScores,
    ServerApi,
    ids_or_none,
    top_values_of,
)

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


class SglangApi(ServerApi):
    """A server by SGLang's `/generate`."""

    #: A prompt's cached prefix is not computed again up to where the log-probabilities begin.
    caches_scored_prompts = True
    _format_hint = "is it SGLang, no older than 0.4, with its tokenizer?"

    async def agree_on_options(self, stop_ids: Sequence[int]) -> None:
        """See `ServerApi`."""
        self.sampling_options = _GREEDY_OPTIONS | ({"stop_token_ids": list(stop_ids)} if stop_ids else {})
        await self._generate([1, 2], 1)

    async def score(self, prompt: Prompt, scored_start: int = 1) -> PromptScores:
        """See `ServerApi`."""
        first_position = scored_start - 1
        logprob_options: dict[str, Any] = {
            "return_logprob": True,
            "logprob_start_len": first_position,
            "top_logprobs_num": 1,
        }
        answer = await self._generate(prompt, 1, **logprob_options)
        meta_info = answer["meta_info"]
        with self._parsing("log-probabilities of a prompt's tokens"):
            entries = meta_info["input_token_logprobs"]
            values, echoed_ids = _token_values(entries), [int(entry[1]) for entry in entries]
            top_values = [
                _top_value(position_entries) for position_entries in meta_info.get("input_top_logprobs") or []
            ]
            next_values = [
                _top_value(position_entries) for position_entries in meta_info.get("output_top_logprobs") or []
            ]
            top_values = top_values_of(top_values, len(values))
        expected_count = (len(prompt) if isinstance(prompt, list) else meta_info["prompt_tokens"]) - first_position
        if len(values) != expected_count:
            raise UserError(
                f"{expected_count + first_position} token ids were sent, and {len(values)} log-probabilities came back from "
                f"position {first_position} on, {expected_count} expected",
                where=self._endpoint.redacted_url,
                hint="the server, or what stands before it, adds tokens (a BOS?), cuts the prompt, or counts otherwise",
            )
        if isinstance(prompt, list):
            self._check_echo(prompt, first_position, echoed_ids)
            echoed_ids = prompt[first_position:]
        # The first token that was requested has no value.
        unscored: list[float | None] = [None] * scored_start
        return PromptScores(
            [*unscored, *values[1:]],
            [*unscored, *top_values[1:]],
            next_values[0] if next_values else None,
            echoed_ids if first_position == 0 else None,
        )

    async def generate(
        self, prompt: Prompt, max_new_tokens: int, stop_strings: Sequence[str] = (), with_tokens: bool = False
    ) -> Completion:
        """See `ServerApi`."""
        logprob_options: dict[str, Any] = (
            {"return_logprob": True, "logprob_start_len": -1, "return_text_in_logprobs": True} if with_tokens else {}
        )
        answer = await self._generate(prompt, max_new_tokens, stop_strings, **logprob_options)
        meta_info = answer["meta_info"]
        if not isinstance(answer.get("text"), str):  # --skip-tokenizer-init
            raise self._format_error("text")
        with self._parsing("text with its tokens"):
            entries = meta_info.get("output_token_logprobs") or []
            finish = meta_info.get("finish_reason")
            finish = finish if isinstance(finish, dict) else {"type": finish}
            token_texts = [entry[2] for entry in entries if len(entry) > 2 and isinstance(entry[2], str)]
            return Completion(
                answer["text"],
                token_texts if entries and len(token_texts) == len(entries) else None,
                [int(entry[1]) for entry in entries] if entries else ids_or_none(answer.get("output_ids")),
                _token_values(entries) or None,
                self._hit_token_limit(finish["type"], str(finish.get("message") or "")),
                None,
                meta_info["prompt_tokens"],
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
        self, prompt: Prompt, max_new_tokens: int, stop_strings: Sequence[str] = (), **options: Any
    ) -> dict[str, Any]:
        """The answer of `/generate`, whose `meta_info` is a JSON object that counts the prompt's tokens."""
        sampling_params = self.sampling_options | {"max_new_tokens": max_new_tokens}
        if stop_strings:
            sampling_params["stop"] = list(stop_strings)
        prompt_options = {"input_ids": prompt} if isinstance(prompt, list) else {"text": prompt}
        request = prompt_options | {"sampling_params": sampling_params} | options
        answer = await self._endpoint.post("/generate", request)
        meta_info = answer.get("meta_info")
        if not isinstance(meta_info, dict) or not isinstance(meta_info.get("prompt_tokens"), int):
            raise self._format_error("meta_info with the number of prompt_tokens")
        self._count_prompt(prompt, meta_info["prompt_tokens"], meta_info.get("cached_tokens"))
        return answer


def _token_values(entries: Sequence[Any]) -> list[float]:
    """The log-probabilities of [log-probability, id, text] entries, in nats; SGLang's JSON has null for NaN."""
    return [math.nan if entry[0] is None else float(entry[0]) for entry in entries]


def _top_value(position_entries: Any) -> float | None:
    """The log-probability of the likeliest token of one position, None where there is none."""
    return max(_token_values(position_entries)) if position_entries else None
