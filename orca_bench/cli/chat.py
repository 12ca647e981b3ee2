"""`orca-bench chat`: lines of a terminal or of standard input in, the model's answers out, streamed.

Lines that begin with / are commands. What is no answer goes to standard error.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orca_bench.cli import options
from orca_bench.cli.generation import (
    check_unicode,
    load_generator,
    print_answer,
    printable_lines,
    sampling_options,
)
from orca_bench.counts import counted
from orca_bench.errors import UserError, spelling_hint
from orca_bench.serve.sampling import Sampling

if TYPE_CHECKING:
    from orca_bench.cli.interrupts import DeferredInterrupts
    from orca_bench.serve.conversation import Conversation

_INPUT_END = "/end"

_COMMANDS_HELP = f"""\
/system N|TEXT   Another system message: an id of the Orca paper (1-16) or a text. The turns so far stay. Alone: show it.
/input TEXT      The input of the next question, under a header of its own. Alone: the lines that follow, up to {_INPUT_END}.
/save FILE       Add the last question and its answer to FILE, as a record that `orca-bench train` reads.
/reset           Forget the turns so far, and an input.
/help            Show this.
/exit            End, as Ctrl-D does.
A question that begins with / is written with a space before it."""


@click.command("chat")
@click.argument("model", required=False, type=options.MODEL)
@options.system
@options.revision_of_argument
@sampling_options
@options.runs
def command(model: str | None, system: str, revision: str | None, sampling: Sampling, runs: Path) -> None:
    """Talk to MODEL: each line is a question, which is answered in the Orca prompt with the turns before it.

    MODEL is a run's name, a model folder, a GGUF file or a hub id; the default is the newest finished run's model. Ctrl-C stops
    an answer, and what was written of it stays in the conversation; Ctrl-D ends. Where standard input is no terminal, its lines
    are read one after another, and a wrong command ends the program.

    The training data has single turns. In a conversation, earlier turns stand between the system message and the question, each
    from ### User: to its response, so a model may answer later turns less well; /reset begins anew. Where the turns leave less
    than a quarter of the context window, or than --max-new-tokens if that is less, the oldest ones are forgotten.

    \b
    Lines that begin with / are commands:
      /system 14              another system message, an id or a text
      /input Good morning.    the input of the next question
      /save mine.jsonl        add the last question and answer as a record
      /reset  /help  /exit

    \b
      orca-bench chat mini
      orca-bench chat mini --system 16 --temperature 0.2 --seed 1
      orca-bench chat mini --greedy < questions.txt > answers.txt
    """
    check_unicode(system, "--system")

    from orca_bench.cli.console import progress_message
    from orca_bench.cli.interrupts import DeferredInterrupts
    from orca_bench.serve.conversation import Conversation
    from orca_bench.system_messages import system_message

    system_text = system_message(system)
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    folder, generator = load_generator(model, revision, runs)
    if is_terminal:
        progress_message(f"{folder.name}: /help shows the commands, Ctrl-C stops an answer, Ctrl-D ends")
    interrupts = DeferredInterrupts()
    lines = _terminal_lines(interrupts) if is_terminal else _piped_lines()
    chat = _Chat(Conversation(generator, system_text, sampling), folder.name, lines, is_terminal, interrupts)
    with interrupts.installed() if is_terminal else contextlib.nullcontext():
        chat.run()


def _terminal_lines(interrupts: DeferredInterrupts) -> Iterator[str]:
    """The lines that are typed, with the shell's keys for editing and for earlier lines, until Ctrl-D."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # input() uses it where it is there
    sys.stdin.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
    while True:
        try:
            with interrupts.allowed():
                line = input("> ")
        except EOFError:
            click.echo()
            return
        except KeyboardInterrupt:
            click.echo("\n(Ctrl-D ends)", err=True)
            continue
        yield line


def _piped_lines() -> Iterator[str]:
    for line in sys.stdin.buffer:
        yield line.decode("utf-8", "surrogateescape").rstrip("\r\n")


class _Chat:
    """A conversation and the lines that are said to it.

    On a terminal an error is shown and the next line is read; elsewhere it is raised, and names the line.
    """

    def __init__(
        self,
        conversation: Conversation,
        model_name: str,
        lines: Iterator[str],
        is_terminal: bool,
        interrupts: DeferredInterrupts,
    ):
        self._conversation, self._model_name, self._is_terminal = conversation, model_name, is_terminal
        self._numbered_lines, self._interrupts = enumerate(lines, 1), interrupts
        self._input: str | None = None
        self._run_by_command: dict[str, Callable[[str], None]] = {
            "/system": self._set_system,
            "/input": self._set_input,
            "/save": self._save,
            "/reset": self._reset,
            "/help": lambda argument: _show(_COMMANDS_HELP),
        }

    def run(self) -> None:
        """Take line after line, until they end or one is /exit."""
        for number, line in self._numbered_lines:
            try:
                if line.strip() == "/exit":
                    return
                with self._interrupts.allowed():
                    self._handle(line)
            except KeyboardInterrupt:
                if not self._is_terminal:
                    raise
                _show("\n(stopped)")
            except UserError as error:
                if not self._is_terminal:
                    raise UserError(str(error), where=f"standard input:{number}") from error
                _show(f"error: {error}")

    def _handle(self, line: str) -> None:
        check_unicode(line, "the line")
        if line.startswith("/"):
            self._run_command(line)
        elif line.strip():
            self._answer(line.strip())

    def _answer(self, instruction: str) -> None:
        conversation, has_text = self._conversation, False
        forgotten_count = conversation.forgotten_count
        with contextlib.closing(conversation.answer(instruction, self._input)) as pieces:
            for piece in pieces:
                self._input, has_text = None, has_text or bool(piece.strip())
                print_answer(piece)
        self._input = None
        click.echo()
        if not has_text:
            _show("(an empty answer, which is no turn)")
        if (new_count := conversation.forgotten_count - forgotten_count) > 0:
            _show(f"(the context window is full: forgot {counted(new_count, 'turn')})")

    def _run_command(self, line: str) -> None:
        name, _, argument = line.partition(" ")
        if name not in self._run_by_command:
            hint = spelling_hint(name, [*self._run_by_command, "/exit"]) or "/help shows the commands"
            raise UserError(f"no command {name}", hint=hint)
        self._run_by_command[name](argument.strip())

    def _set_system(self, argument: str) -> None:
        from orca_bench.system_messages import system_message

        if argument:
            self._conversation.system = system_message(argument, "/system")
        _show(f"system message: {self._conversation.system or '(empty)'}")

    def _set_input(self, argument: str) -> None:
        if not argument:
            input_lines: list[str] = []
            for _, line in self._numbered_lines:
                if line.strip() == _INPUT_END:
                    break
                input_lines.append(line)
            argument = "\n".join(input_lines)
        check_unicode(argument, "/input")
        self._input = argument

    def _save(self, argument: str) -> None:
        from orca_bench.serve.record_file import RecordFile

        if not argument:
            raise UserError("which file gets the record?", where="/save", hint="/save FILE")
        RecordFile(Path(argument)).append(self._conversation.last_record(self._model_name))
        earlier_count = len(self._conversation.turns) - 1
        _show(
            f"saved: {argument}"
            + (", without the turns before it, for which a record has no place" * (earlier_count > 0))
        )

    def _reset(self, argument: str) -> None:
        self._conversation.forget()
        self._input = None


def _show(text: str) -> None:
    """Print a text that is no answer, on standard error."""
    click.echo(printable_lines(text), err=True)
