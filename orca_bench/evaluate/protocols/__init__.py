"""The protocols: how a question becomes requests, and answers become its score; one file each."""

from orca_bench.evaluate.protocols.base import Answer, Document, Protocol, Request
from orca_bench.evaluate.protocols.leaderboard import Leaderboard
from orca_bench.evaluate.protocols.orca import Orca

#: The protocols whose requests are made here. (`plain`, lm-eval's own prompts, is lm-eval's; see harness.py.)
OURS = ("leaderboard", "orca")

__all__ = ["OURS", "Answer", "Document", "Leaderboard", "Orca", "Protocol", "Request", "named"]


def named(name: str, system: str) -> Protocol:
    """The protocol of a name in `OURS`; `system` is the text of the system message where there is one."""
    return {"leaderboard": Leaderboard, "orca": lambda: Orca(system)}[name]()
