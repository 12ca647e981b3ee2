"""The Orca prompt: (system, instruction, input) in, the exact text for training, evaluation and generation out.

The only file with the headers ("### System:"). Data, training, evaluation and generation call `render`; an exported model carries
`CHAT_TEMPLATE`, which gives the same text, after BOS. Source of the text: the example in the orca_mini_13b model card.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

_SYSTEM_HEADER = "### System:\n"
_USER_HEADER = "\n\n### User:\n"
_INPUT_HEADER = "\n\n### Input:\n"
_RESPONSE_HEADER = "\n\n### Response:\n"

#: A response that begins another turn is over: these headers end a generation in the Orca prompt.
TURN_HEADERS = ("### System:", "### User:", "### Input:", "### Response:")

#: The same text as `render`, for transformers' `apply_chat_template(messages, add_generation_prompt=True)`.
#: Messages: an optional `system`, then `user` (the instruction), then, where there is one, `input`: a role of its own,
#: because the prompt has a header of its own for it. `{{- … -}}` keeps the template's own line breaks out. Without a
#: system message the header stays and its text is empty, as in training (message id 1 of the Orca paper is empty).
CHAT_TEMPLATE = (
    "{%- set ns = namespace(turn='') -%}"
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'system' -%}"
    "{{- (ns.turn and '\\n\\n') + '### System:\\n' + message['content'] -}}"
    "{%- elif message['role'] == 'user' -%}"
    "{{- (ns.turn != 'system' and (ns.turn and '\\n\\n') + '### System:\\n') or '' -}}"
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


def render(system: str, instruction: str, input: str | None = None) -> str:
    """The prompt up to and including the Response header, after which the response's own tokens follow.

    An empty or absent `input` leaves the Input block out, as the card's example does.
    """
    return fixed_prefix(system) + instruction + (_INPUT_HEADER + input if input else "") + _RESPONSE_HEADER


def fixed_prefix(system: str) -> str:
    """The prompt up to where the instruction begins: what must stay when a prompt is too long for the model."""
    return _SYSTEM_HEADER + system + _USER_HEADER


def chat_messages(system: str, instruction: str, input: str | None = None) -> list[dict[str, str]]:
    """The chat messages that `CHAT_TEMPLATE` renders to `render(system, instruction, input)`."""
    turns = [{"role": "system", "content": system}, {"role": "user", "content": instruction}]
    if input:
        turns.append({"role": "input", "content": input})
    return turns
