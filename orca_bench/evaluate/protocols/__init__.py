"""The protocols: how a question becomes requests, and answers become its score; one file each."""

from collections.abc import Mapping
from types import MappingProxyType

from orca_bench.evaluate.protocols.chat import FEW_SHOT_NAMES, TEMPLATE_KEYS, Chat, ChatSettings
from orca_bench.evaluate.protocols.leaderboard import Leaderboard
from orca_bench.evaluate.protocols.orca import Orca
from orca_bench.evaluate.protocols.protocol import Answer, Document, Protocol, Request, RequestProtocol
from orca_bench.evaluate.request_encoding import MAX_NEW_TOKENS
from orca_bench.results.protocol_description import ProtocolDescription
from orca_bench.system_messages import DEFAULT_SYSTEM_ID, SYSTEM_MESSAGES

#: The protocols whose requests are made here. (`plain`, lm-eval's own prompts, is in harness/plain_protocol.py.)
REQUEST_PROTOCOLS = ("leaderboard", "orca", "chat")

__all__ = [
    "FEW_SHOT_NAMES",
    "REQUEST_PROTOCOLS",
    "Answer",
    "Chat",
    "ChatSettings",
    "Document",
    "Leaderboard",
    "Orca",
    "Protocol",
    "Request",
    "RequestProtocol",
    "default_system_text",
    "default_token_limits",
    "protocol_of_result",
    "protocol_by_name",
]


def protocol_by_name(
    protocol_name: str,
    system_text: str | None,
    other_max_new_tokens_by_task: Mapping[str, int] = MappingProxyType({}),
    chat_settings: ChatSettings = ChatSettings(),
) -> RequestProtocol:
    """The protocol of a name in `REQUEST_PROTOCOLS`; `system_text` is the text of the system message where there is one.

    `other_max_new_tokens_by_task` gives tasks another limit for their answers than the protocol's own, tokens. `chat_settings`
    are those of protocol `chat`.
    """
    if protocol_name == "chat":
        return Chat(system_text, other_max_new_tokens_by_task, chat_settings)
    if protocol_name == "orca":
        return Orca(system_text or "", other_max_new_tokens_by_task)
    return Leaderboard(other_max_new_tokens_by_task)


def default_system_text(protocol_name: str) -> str | None:
    """The system message of a protocol where the user gives none; None where there is none: `chat` leaves it to the template."""
    return None if protocol_name == "chat" else SYSTEM_MESSAGES[DEFAULT_SYSTEM_ID]


def default_token_limits(protocol_name: str) -> Mapping[str, int]:
    """The most tokens of a text, by task, under the protocol of a name: `plain` has the leaderboard's."""
    return (
        Orca.DEFAULT_MAX_NEW_TOKENS_BY_TASK
        if protocol_name in (Orca.name, Chat.name)
        else Leaderboard.DEFAULT_MAX_NEW_TOKENS_BY_TASK
    )


def protocol_of_result(description: ProtocolDescription) -> RequestProtocol:
    """The protocol, one of `REQUEST_PROTOCOLS`, that a result describes.

    Its version is today's, which may be another than the result's.
    """
    token_limits = MAX_NEW_TOKENS if description.max_new_tokens is None else description.max_new_tokens
    if not isinstance(token_limits, Mapping):
        token_limits = dict.fromkeys(Leaderboard.DEFAULT_MAX_NEW_TOKENS_BY_TASK, token_limits)
    template_fields = {key: getattr(description, key) for key in TEMPLATE_KEYS}
    chat_settings = ChatSettings(
        description.few_shot or FEW_SHOT_NAMES[0],
        {key: value for key, value in template_fields.items() if value is not None},
    )
    return protocol_by_name(description.name, description.system, token_limits, chat_settings)
