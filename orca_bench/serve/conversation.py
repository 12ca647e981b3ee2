"""Questions in, one after another, answers out, streamed: a conversation in the Orca prompt, whose turns become records.

The turns so far stand in the prompt, as `prompt.render` writes them. Where they leave too little of the model's context window,
the oldest go. Its own module because text_generation.py answers one prompt and keeps nothing.
"""

from __future__ import annotations

from collections import abc
from typing import Any

from orca_bench.errors import UserError
from orca_bench.prompt import Turn
from orca_bench.serve.record_file import turn_record
from orca_bench.serve.sampling import Sampling
from orca_bench.serve.text_generation import Generator

#: The share of the window that the turns so far leave to an answer, where that is fewer tokens than `max_new_tokens`.
_ANSWER_SHARE = 4


class Conversation:
    """The turns of one conversation with one model under one system message.

    `turns` are those that the next prompt has, the oldest first, and `forgotten_count` says for how many the window had no room
    any more. `system` may be changed: the turns so far then stand under the new message.
    """

    def __init__(self, generator: Generator, system: str, sampling: Sampling):
        self._generator, self._sampling, self.system = generator, sampling, system
        self.turns: list[Turn] = []
        self.forgotten_count = 0
        self._was_last_cut = False
        self._system_of_last_turn = system

    def answer(self, instruction: str, input: str | None = None) -> abc.Generator[str, None, None]:
        """Yield the answer in pieces of text; then it is the last of `turns`, without white space at its end.

        Where the iterator is closed or interrupted before, what it yielded is the answer. An empty answer is no turn. Raises
        UserError where the question alone fills the model's context window.
        """
        self._forget_oldest_turns(instruction, input)
        pieces: list[str] = []
        was_cut, system = True, self.system
        try:
            for piece in self._generator.answer(system, instruction, input, self._sampling, self.turns):
                pieces.append(piece)
                yield piece
            was_cut = self._generator.has_run_out
        finally:
            if response := "".join(pieces).rstrip():
                self.turns.append(Turn(instruction, input, response))
                self._was_last_cut, self._system_of_last_turn = was_cut, system

    def _forget_oldest_turns(self, instruction: str, input: str | None) -> None:
        """Remove the oldest turns until the prompt leaves room for an answer, or none is left.

        A question that alone has no place in the window, and is refused, removes none.
        """
        window = self._generator.window
        room = min(self._sampling.max_new_tokens, window // _ANSWER_SHARE)

        def prompt_length(turns: list[Turn]) -> int:
            return len(self._generator.prompt_ids(self.system, instruction, input, turns))

        if prompt_length([]) >= window:
            return
        while self.turns and prompt_length(self.turns) + room > window:
            del self.turns[0]
            self.forgotten_count += 1

    def forget(self) -> None:
        """Begin a new conversation, under the same system message."""
        self.turns.clear()

    def last_record(self, model_name: str) -> dict[str, Any]:
        """The last turn as a record (`turn_record`); raises UserError where there is no turn."""
        if not self.turns:
            raise UserError("there is no answer yet")
        return turn_record(self._system_of_last_turn, self.turns[-1], model_name, self._was_last_cut)
