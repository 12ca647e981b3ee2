"""The Orca prompt: (system, instruction, input) in, the exact text for training, evaluation and generation out.

The only file with the headers ("### System:"). Data, training, evaluation and generation call `render`; an exported model carries
`CHAT_TEMPLATE`, which gives the same text, after BOS; `GO_TEMPLATE` is for Ollama. Source of the text: the example in the
orca_mini_13b model card. Conversations of several turns are not in it, nor in the training data: here earlier turns repeat the
blocks from User to Response after one system message, each response as it is, without EOS.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

_SYSTEM_HEADER = "### System:\n"
_USER_HEADER = "\n\n### User:\n"
_INPUT_HEADER = "\n\n### Input:\n"
_RESPONSE_HEADER = "\n\n### Response:\n"

#: A response that begins another turn is over: these headers end a generation in the Orca prompt.
TURN_HEADERS = ("### System:", "### User:", "### Input:", "### Response:")

#: The same text as `render`, for transformers' `apply_chat_template(messages, add_generation_prompt=True)`.
#: Messages: an optional `system`, then `user` (the instruction), then, where there is one, `input`: a role of its own,
#: because the prompt has a header of its own for it. `{{- … -}}` keeps the template's own line breaks out. Without a
#: system message the header stays and its text is empty, as in training (message id 1 of the Orca paper is empty). Turns that
#: follow an `assistant` message have no header of a system message again.
CHAT_TEMPLATE = (
    "{%- set ns = namespace(turn='') -%}"
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'system' -%}"
    "{{- (ns.turn and '\\n\\n') + '### System:\\n' + message['content'] -}}"
    "{%- elif message['role'] == 'user' -%}"
    "{%- if ns.turn == '' -%}{{- '### System:\\n' -}}{%- endif -%}"
    "{{- '\\n\\n### User:\\n' + message['content'] -}}"
    "{%- elif message['role'] == 'input' -%}"
    "{{- '\\n\\n### Input:\\n' + message['content'] -}}"
    "{%- elif message['role'] == 'assistant' -%}"
    "{{- '\\n\\n### Response:\\n' + message['content'] -}}"
    "{%- else -%}"
    "{{- raise_exception(\"role '\" + message['role'] + \"' is not one of system, user, input, assistant\") -}}"
    "{%- endif -%}"
    "{%- set ns.turn = message['role'] -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '\\n\\n### Response:\\n' -}}{%- endif -%}"
)

#: The same text in Go's template language, as Ollama fills it: `.System` is the text of all system messages, `.Messages` are all
#: messages, of which successive ones of a role are one. A last message of the assistant is continued.
GO_TEMPLATE = (
    '{{ $role := "system" }}' + _SYSTEM_HEADER + "{{ .System }}"
    "{{ range .Messages }}{{ $role = .Role }}"
    '{{ if eq .Role "user" }}' + _USER_HEADER + "{{ .Content }}"
    '{{ else if eq .Role "input" }}' + _INPUT_HEADER + "{{ .Content }}"
    '{{ else if eq .Role "assistant" }}' + _RESPONSE_HEADER + "{{ .Content }}"
    "{{ end }}{{ end }}"
    '{{ if ne $role "assistant" }}' + _RESPONSE_HEADER + "{{ end }}"
)


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation: the instruction, its input (None or empty where it has none), and the response."""

    instruction: str
    input: str | None
    response: str


def chat_template(begins_with_bos: bool, special_tokens: Sequence[str] = (), escape_character: str = "") -> str:
    """The chat template of an exported model: `CHAT_TEMPLATE`, after BOS where the model has one.

    transformers, vLLM and others encode what a template renders without adding special tokens, so that BOS must be in it.
    Of `special_tokens` that a message spells out, `escape_character` parts the first character from the rest.
    """
    template_text = ("{{- bos_token -}}" if begins_with_bos else "") + CHAT_TEMPLATE
    if not special_tokens:
        return template_text
    escape_macro = (
        "{%- macro plain(text) -%}{%- set ns = namespace(text=text) -%}"
        f"{{%- for token in {json.dumps(list(special_tokens), ensure_ascii=False)} -%}}"
        f"{{%- set ns.text = ns.text.replace(token, token[0] + '{escape_character}' + token[1:]) -%}}{{%- endfor -%}}"
        "{{- ns.text -}}{%- endmacro -%}"
    )
    return escape_macro + template_text.replace("message['content']", "plain(message['content'])")


def render(system: str, instruction: str, input: str | None = None, earlier_turns: Sequence[Turn] = ()) -> str:
    """The prompt up to and including the Response header, after which the response's own tokens follow.

    An empty or absent `input` leaves the Input block out, as the card's example does. `earlier_turns` of a conversation, the
    oldest first, stand between the system message and the instruction.
    """
    earlier_text = "".join(_question_text(turn.instruction, turn.input) + turn.response for turn in earlier_turns)
    return _SYSTEM_HEADER + system + earlier_text + _question_text(instruction, input)


def _question_text(instruction: str, input: str | None) -> str:
    """The blocks of one turn, up to and including the Response header."""
    return _USER_HEADER + instruction + (_INPUT_HEADER + input if input else "") + _RESPONSE_HEADER


def fixed_prefix(system: str) -> str:
    """The prompt up to where the instruction begins: what must stay when a prompt is too long for the model."""
    return _SYSTEM_HEADER + system + _USER_HEADER


def chat_messages(
    system: str, instruction: str, input: str | None = None, earlier_turns: Sequence[Turn] = ()
) -> list[dict[str, str]]:
    """The chat messages that `CHAT_TEMPLATE` renders to `render(system, instruction, input, earlier_turns)`."""
    messages = [{"role": "system", "content": system}]
    for turn in earlier_turns:
        messages += [
            *_question_messages(turn.instruction, turn.input),
            {"role": "assistant", "content": turn.response},
        ]
    return messages + _question_messages(instruction, input)


def _question_messages(instruction: str, input: str | None) -> list[dict[str, str]]:
    messages = [{"role": "user", "content": instruction}]
    if input:
        messages.append({"role": "input", "content": input})
    return messages
