"""The protocols: how a question becomes requests, and answers become its score; one file each."""

from collections.abc import Mapping
from types import MappingProxyType

from orca_bench.evaluate.protocols.leaderboard import Leaderboard
from orca_bench.evaluate.protocols.orca import Orca
from orca_bench.evaluate.protocols.protocol import Answer, Document, Protocol, Request, RequestProtocol
from orca_bench.evaluate.request_encoding import MAX_NEW_TOKENS
from orca_bench.results.models import ProtocolDescription

#: The protocols whose requests are made here. (`plain`, lm-eval's own prompts, is in harness/plain_protocol.py.)
REQUEST_PROTOCOLS = ("leaderboard", "orca")

__all__ = [
    "REQUEST_PROTOCOLS",
    "Answer",
    "Document",
    "Leaderboard",
    "Orca",
    "Protocol",
    "Request",
    "RequestProtocol",
    "default_limits",
    "of_result",
    "protocol_by_name",
]


def protocol_by_name(
    name: str, system: str, max_new_tokens: Mapping[str, int] = MappingProxyType({})
) -> RequestProtocol:
    """The protocol of a name in `REQUEST_PROTOCOLS`; `system` is the text of the system message where there is one.

    `max_new_tokens` gives tasks another limit for their answers than the protocol's own, tokens.
    """
    return Leaderboard(max_new_tokens) if name == "leaderboard" else Orca(system, max_new_tokens)


def default_limits(name: str) -> Mapping[str, int]:
    """The most tokens of a text, by task, under the protocol of a name: `plain` has the leaderboard's."""
    return Orca.DEFAULT_MAX_NEW_TOKENS if name == "orca" else Leaderboard.DEFAULT_MAX_NEW_TOKENS


def of_result(description: ProtocolDescription) -> RequestProtocol:
    """The protocol, one of `REQUEST_PROTOCOLS`, that a result describes.

    Its version is today's, which may be another than the result's.
    """
    limits = MAX_NEW_TOKENS if description.max_new_tokens is None else description.max_new_tokens
    if not isinstance(limits, Mapping):
        limits = dict.fromkeys(Leaderboard.DEFAULT_MAX_NEW_TOKENS, limits)
    return protocol_by_name(description.name, description.system or "", limits)
