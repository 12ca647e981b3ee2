"""Chats in, token ids out, by a model's own chat template: the rule of protocol `chat` for what the model is fed.

A prompt's ids are those of transformers' `apply_chat_template`. A response is scored as the template's assistant turn has it:
the ids of prompt and response together are the beginning of those of the whole chat. A chat that is too long loses its oldest
examples, each question with its answer; its own module because the other protocols' rules know strings only.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass

from orca_bench.errors import UserError
from orca_bench.evaluate.engine.prefix_tree import shared_prefix_length
from orca_bench.evaluate.protocols.chat import Chat, messages_of_context
from orca_bench.evaluate.request_encoding import Encoding, ScoredSequence, cut_at_stop_strings, encoding_of_protocol
from orca_bench.models.model_folder import ModelFolder
from orca_bench.tokenizers import Tokenizer
from orca_bench.tokenizers.chat_template import PINNED_DATE, ChatTemplate

#: Stands for a question while what is written around it is looked at.
_QUESTION_MARK = "\ufdd1question\ufdd1"


@dataclass(frozen=True)
class _ResponsePlace:
    """What stands before a response: text and ids, and the white space with which the response itself begins."""

    text: str
    leading_space: str
    ids: list[int]


class ChatEncoding(Encoding):
    """A chat template's ids. A prompt that is too long loses its oldest examples, then what its question begins with.

    `merged_response_count` counts the pairs whose response begins with a token that has some of the prompt in it. Such a token
    is scored with the response.
    """

    def __init__(self, template: ChatTemplate, tokenizer: Tokenizer, window_tokens: int):
        super().__init__(tokenizer, window_tokens)
        self.template = template
        self.merged_response_count = 0
        self._stop_ids = {*tokenizer.stop_ids, *template.end_ids}
        # A token that ends a turn is no part of a decoded text, but of what a server may send.
        self.end_strings = (*template.end_strings, *(template.spelling(id_) for id_ in template.end_ids))
        self._last_context_and_place: tuple[str, _ResponsePlace] | None = None
        # The choices of a question are cut alike, one after the other.
        self._ids_of_chat = functools.lru_cache(maxsize=64)(self._compute_ids_of_chat)

    def rendered_prompt(self, context: str) -> str:
        """The text of a prompt, as the template writes it, uncut."""
        return self.template.render(messages_of_context(context), add_generation_prompt=True)

    def _context_ids(self, context: str) -> list[int]:
        return self.template.encode(self.rendered_prompt(context))

    def encode_pair(self, context: str, continuation: str, fixed_prefix_characters: int = 0) -> ScoredSequence:
        """See `Encoding.encode_pair`; `fixed_prefix_characters` is how many of the first question's characters must stay."""
        kept_ids, response_ids = self._pair_ids(context, continuation)
        max_context_tokens = self._room_for_context(response_ids, continuation)
        if len(kept_ids) > max_context_tokens:
            self.shortened_context_count += 1
            self.server_shortened_context_count += self._max_pair_tokens <= self.window_tokens
            # Where the prompt's last token is scored with the response, it does not stand before it.
            merged_token_count = len(self._place_of(context).ids) - len(kept_ids)
            kept_ids = self._shorten_chat(
                context, max_context_tokens + merged_token_count, fixed_prefix_characters, is_scored=True
            )
            kept_ids = kept_ids[: len(kept_ids) - merged_token_count]
        return ScoredSequence(kept_ids + response_ids, len(kept_ids))

    def _pair_ids(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        return self._response_ids(self._place_of(context), self.template.response_text(continuation))

    def _place_of(self, context: str) -> _ResponsePlace:
        """`_response_place`, computed once for neighbouring requests with the same context: the choices of a question."""
        if self._last_context_and_place is None or self._last_context_and_place[0] != context:
            self._last_context_and_place = (context, self._response_place(messages_of_context(context)))
        return self._last_context_and_place[1]

    def _response_place(self, messages: Sequence[dict[str, str]]) -> _ResponsePlace:
        """What stands before a response to a chat.

        That is the generation prompt, and what an assistant's turn has before its content besides: white space belongs to the
        response (LLaMA 2), other text is part of the context (the empty thought of Qwen 3). Where the generation prompt is not
        how an assistant's turn begins (DeepSeek R1 begins a thought), the assistant's turn counts.
        """
        prompt_text = self.template.render(messages, add_generation_prompt=True)
        turn_text = self.template.text_before_response(messages)
        added_text = turn_text.removeprefix(prompt_text) if turn_text.startswith(prompt_text) else None
        if added_text is not None and not added_text.strip():
            return _ResponsePlace(prompt_text, added_text, self.template.encode(prompt_text))
        return _ResponsePlace(turn_text, "", self.template.encode(turn_text))

    def _response_ids(self, place: _ResponsePlace, response_text: str) -> tuple[list[int], list[int]]:
        """The ids of the context that stay, and those that are scored.

        Only what follows the last special token is encoded again with the response, for no token reaches over a special one.
        """
        if not response_text:
            return place.ids, []
        tail_start = self.template.last_special_start(place.text)
        tail_ids = self.template.encode(place.text[tail_start:])
        if tail_ids != place.ids[len(place.ids) - len(tail_ids) :]:
            tail_start, tail_ids = 0, place.ids
        whole_ids = self.template.encode(place.text[tail_start:] + place.leading_space + response_text)
        shared_count = shared_prefix_length(tail_ids, whole_ids)
        self.merged_response_count += shared_count < len(tail_ids)
        kept_count = len(place.ids) - len(tail_ids) + shared_count
        return place.ids[:kept_count], whole_ids[shared_count:]

    def _shorten(
        self, context: str, context_ids: list[int], max_context_tokens: int, fixed_prefix_characters: int
    ) -> list[int]:
        return self._shorten_chat(context, max_context_tokens, fixed_prefix_characters, is_scored=False)

    def _shorten_chat(
        self, context: str, max_context_tokens: int, fixed_prefix_characters: int, is_scored: bool
    ) -> list[int]:
        """The ids of a chat without as many of its oldest examples as need be, at most `max_context_tokens` of them."""
        messages = messages_of_context(context)
        system_messages = [message for message in messages if message["role"] == "system"]
        turns = messages[len(system_messages) :]
        description = turns[0]["content"][:fixed_prefix_characters]
        while len(turns) > 2:
            turns = [{"role": "user", "content": description + turns[2]["content"]}, *turns[3:]]
            context_ids = self._ids_of_chat(json.dumps([*system_messages, *turns]), is_scored)
            if len(context_ids) <= max_context_tokens:
                return context_ids
        return self._shorten_question([*system_messages, *turns], max_context_tokens, description, is_scored)

    def _text_of_chat(self, messages: Sequence[dict[str, str]], is_scored: bool) -> str:
        """The text before a response that is scored, or before one that is generated."""
        if is_scored:
            return self._response_place(messages).text
        return self.template.render(messages, add_generation_prompt=True)

    def _compute_ids_of_chat(self, context: str, is_scored: bool) -> list[int]:
        return self.template.encode(self._text_of_chat(messages_of_context(context), is_scored))

    def _shorten_question(
        self, messages: Sequence[dict[str, str]], max_context_tokens: int, description: str, is_scored: bool
    ) -> list[int]:
        """The ids of a chat of one question without the tokens with which the question begins, as many as need be.

        The system message, the description of the task and what the template writes after the question stay. Raises UserError
        where nothing of the question would be left.
        """
        context_ids = self._ids_of_chat(json.dumps(messages), is_scored)
        if len(context_ids) <= max_context_tokens:
            return context_ids
        marked_messages = [*messages[:-1], {**messages[-1], "content": description + _QUESTION_MARK}]
        text_before, _, text_after = self._text_of_chat(marked_messages, is_scored).rpartition(_QUESTION_MARK)
        count_before, count_after = len(self.template.encode(text_before)), len(self.template.encode(text_after))
        if count_before + count_after >= max_context_tokens:
            raise UserError(
                f"a context window of {self.window_tokens} tokens has no place for the question: {count_before} tokens "
                f"stand before it and {count_after} after it",
                where=self.template.source,
                hint="a shorter system message, or fewer new tokens (--max-new-tokens), leaves more",
            )
        return context_ids[:count_before] + context_ids[len(context_ids) - (max_context_tokens - count_before) :]

    def is_complete(self, generated_ids: Sequence[int], stop_strings: Sequence[str]) -> bool:
        """Whether generated ids hold a whole answer: they end as a turn of the template does, or have a stop string."""
        if generated_ids[-1] in self._stop_ids:
            return True
        text = self.tokenizer.decode(generated_ids)
        return any(stop_string in text for stop_string in (*stop_strings, *self.end_strings))

    def text(self, generated_ids: Sequence[int], stop_strings: Sequence[str]) -> str:
        """The answer: the text of generated ids up to the end of the turn, or to a stop string."""
        text_ids = list(itertools.takewhile(lambda token_id: token_id not in self._stop_ids, generated_ids))
        return cut_at_stop_strings(self.tokenizer.decode(text_ids), [*stop_strings, *self.end_strings])


def encoding_of_model(
    protocol_name: str, model_folder: ModelFolder, tokenizer: Tokenizer, window_tokens: int
) -> Encoding:
    """The encoding of a protocol for a model; of `chat` by the chat template of its folder.

    Raises UserError where the protocol is `chat` and the folder has no chat template that can be used.
    """
    if protocol_name == Chat.name:
        return ChatEncoding(model_folder.chat_template, tokenizer, window_tokens)
    return encoding_of_protocol(protocol_name, tokenizer, window_tokens)


def describe_template(template: ChatTemplate, system_text: str | None) -> dict[str, str]:
    """What a protocol's description says of a model's template: all that two results must have in common of it.

    `template_sha256` is the hash of its text, `template_system` the system message that it writes by itself, where it does, and
    `template_date` the date that it is given, where it asks for today's.
    """
    description = {"template_sha256": template.sha256}
    if system_text is None and template.default_system_text is not None:
        description["template_system"] = template.default_system_text
    if template.writes_date:
        description["template_date"] = PINNED_DATE
    return description


def template_notes(template: ChatTemplate, system_text: str | None) -> list[str]:
    """What is said of a template before the first request, in sentences."""
    notes = []
    if template.other_names:
        notes.append(f"of the chat templates, 'default' is used, not {', '.join(template.other_names)}")
    if system_text is None and template.default_system_text is not None:
        notes.append(f"its chat template writes a system message by itself: {template.default_system_text[:200]!r}")
    if template.writes_date:
        notes.append(
            f"its chat template asks for today's date, and is given {PINNED_DATE}, so that the same chat stays the same"
        )
    question = [{"role": "user", "content": "?"}]
    prompt_text, turn_text = (
        template.render(question, add_generation_prompt=True),
        template.text_before_response(question),
    )
    if not turn_text.startswith(prompt_text):
        notes.append(
            f"its chat template begins an answer that is generated with {_ending(prompt_text)}, and one that was given with "
            f"{_ending(turn_text)}: choices are scored after the second"
        )
    elif turn_text[len(prompt_text) :].strip():
        added_text = turn_text[len(prompt_text) :]
        notes.append(
            f"its chat template writes {added_text!r} before an answer that was given: choices are scored after it"
        )
    if "<think>" in template.text:
        notes.append(
            "its chat template knows a thought before an answer: where the model writes one, it counts as text"
        )
    if not template.writes_content_unchanged:
        notes.append(
            "its chat template writes an answer otherwise than it is given: choices are scored as given, examples as written"
        )
    return notes


def merge_warning(merged_response_count: int) -> str:
    """What a reader should know of responses whose first token has some of the prompt in it."""
    return f"{merged_response_count:,} responses begin with a token that has some of the prompt in it, which is scored with them"


def _ending(text: str) -> str:
    """The last line of a text, quoted, with the line break that it ends with."""
    return repr(text[text.rstrip("\n").rfind("\n") + 1 :])
