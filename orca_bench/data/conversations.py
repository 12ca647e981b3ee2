"""A conversation in, its one exchange out: `messages` (role, content) and ShareGPT's `conversations` (from, value).

A module of its own because conversations have problems of their own: several turns, other roles, content that is no text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orca_bench.errors import UserError
from orca_bench.files import parse_json
from orca_bench.row_texts import ANSWER_REASONS

_NAMES_BY_ROLE = {
    "system": ("system", "developer"),
    "user": ("user", "human", "prompter", "instruction"),
    "assistant": ("assistant", "gpt", "chatgpt", "model", "bot", "bing", "bard", "output"),
}
_WITHOUT_ANSWER = ANSWER_REASONS[0]
_ROLE_BY_NAME = {name: role for role, names in _NAMES_BY_ROLE.items() for name in names}


@dataclass(frozen=True)
class Exchange:
    """One question and its answer. Where a conversation is not of that form, `problem` completes the words "rows …"."""

    system_text: str | None
    user_text: str
    assistant_text: str
    problem: str = ""


def exchange_of_messages(messages: Any, location: str) -> Exchange:
    """The exchange of a conversation of an optional system message, one question and one answer.

    Raises UserError where `messages` is not a list of messages.
    """
    if isinstance(messages, str):  # a table holds them as JSON
        messages = parse_json(messages, location)
    if not isinstance(messages, list):
        raise UserError(f"a {type(messages).__name__}, not a list of messages", where=location)
    role_text_problem_of_turns = [_parse_turn(message, location) for message in messages]
    problem = next((problem for _, _, problem in role_text_problem_of_turns if problem), "")
    system_texts = [text for role, text, _ in role_text_problem_of_turns if role == "system"]
    roles = [role for role, _, _ in role_text_problem_of_turns if role != "system"]
    if not problem and roles != ["user", "assistant"]:
        problem = _role_order_problem(roles)
    if not problem and (len(system_texts) > 1 or (system_texts and role_text_problem_of_turns[0][0] != "system")):
        problem = "with a system message between the turns"
    system_text = system_texts[0] if system_texts else None
    if problem == _WITHOUT_ANSWER:  # its question can be asked
        return Exchange(
            system_text, next(text for role, text, _ in role_text_problem_of_turns if role == "user"), "", problem
        )
    if problem:
        return Exchange(None, "", "", problem)
    user_text, assistant_text = (text for role, text, _ in role_text_problem_of_turns if role != "system")
    return Exchange(system_text, user_text, assistant_text)


def _role_order_problem(roles: list[str]) -> str:
    if not roles:
        return "without messages"
    if roles == ["user"]:
        return _WITHOUT_ANSWER
    if roles[0] != "user":
        return "that begin with the answer"
    return "of several turns"


def _parse_turn(message: Any, location: str) -> tuple[str, str, str]:
    """(role, text, problem) of one message."""
    if not isinstance(message, dict):
        raise UserError(f"a {type(message).__name__}, not a message", where=location)
    role_name = message.get("role", message.get("from"))
    message_content = message.get("content", message.get("value"))
    if not isinstance(role_name, str):
        raise UserError("a message without a role", where=location, hint='expected {"role": "user", "content": "…"}')
    role = _ROLE_BY_NAME.get(role_name.strip().lower())
    if role is None:
        return "", "", f"with a message of '{role_name[:20]}'"
    if isinstance(message_content, list) and all(isinstance(content_part, dict) for content_part in message_content):
        if not all(
            content_part.get("type") == "text" and isinstance(content_part.get("text"), str)
            for content_part in message_content
        ):
            return role, "", "with content that is no text"
        message_content = "".join(content_part["text"] for content_part in message_content)
    if message_content is None:
        return role, "", "" if not message.get("tool_calls") else "that call a tool"
    if not isinstance(message_content, str):
        raise UserError(f"a message's content is a {type(message_content).__name__}, not a text", where=location)
    return role, message_content, ""
