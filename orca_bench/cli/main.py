"""`orca-bench`: the words of a command line in, an exit code out.

`cli` is the group of all commands. It imports a command when it is used, so that `--help` answers at once, and turns every
error into one line on standard error. `main` is the program: it prepares the process and runs the group. Exit codes: 0 done,
1 the work or the gate failed, 2 the user's input is wrong, 130 interrupted.
"""

from __future__ import annotations

import errno
import importlib
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from orca_bench import __version__
from orca_bench.cli.command_list import COMMANDS, GROUPS
from orca_bench.cli.usage_errors import usage_error_line
from orca_bench.errors import Interrupted, UserError

_HELP = """Train an explain-tuned LLaMA and compare it with its reported scores.

\b
Start with the whole job on a small built-in example:
  orca-bench demo

\b
You have a model:
  orca-bench eval --model MODEL --protocol leaderboard
  orca-bench table

\b
You have instructions:
  orca-bench data convert FILE… --out records/mine.jsonl
  orca-bench train recipes/13b.yaml -o data.records='[records/mine.jsonl]'
  orca-bench eval

`orca-bench COMMAND --help` explains a command and shows examples. Exit codes: 0 done, 1 failed, 2 wrong input,
130 interrupted."""


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs with SIGINT ignored
    for stream in (sys.stdout, sys.stderr):
        # The stream's encoding may lack a character of a file name: that is no reason to fail.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    cli.main()


class OrcaBenchGroup(click.Group):
    """The group of all commands: each is imported when it is used, and every error becomes one line and an exit code."""

    def main(self, args: Sequence[str] | None = None, *_: Any, **__: Any) -> NoReturn:
        """Run the words of a command line (those of this process by default) and exit with the code of what happened.

        Every error that a user can cause becomes one line and exit code 2. With --debug, the traceback of any error is
        printed before that line.
        """
        arguments, debug = _remove_debug_option(list(sys.argv[1:] if args is None else args))
        try:
            exit_code = super().main(arguments, prog_name="orca-bench", standalone_mode=False)
        except BrokenPipeError:
            sys.stderr.close()  # the reader of our output has gone: `orca-bench table | head`
            sys.exit(0)
        except (Exception, KeyboardInterrupt) as error:
            if debug and not isinstance(error, click.Abort):
                traceback.print_exc()
            sys.exit(_report_error(error))
        sys.exit(exit_code if isinstance(exit_code, int) else 0)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands, in the order of the work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None for a name that is no command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"orca_bench.cli.{COMMANDS[cmd_name].module}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, whose error does not know the commands that are imported when they are used."""
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            raise click.exceptions.NoSuchCommand(error.command_name, possibilities=COMMANDS, ctx=ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section for each group, with one line for each command."""
        width = max(map(len, COMMANDS))
        for title, entries in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(entry.name.ljust(width), entry.summary) for entry in entries])


@click.group(
    cls=OrcaBenchGroup,
    help=_HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="orca-bench")
@click.option("--debug", is_flag=True, help="Show an error's traceback; works with every command.")
@click.option("--local_rank", type=int, hidden=True)  # deepspeed's launcher puts it before the command
def cli(debug: bool, local_rank: int | None) -> None:
    """Nothing: each command does its own work, and `OrcaBenchGroup.main` reads --debug."""


def _remove_debug_option(arguments: list[str]) -> tuple[list[str], bool]:
    """The arguments without --debug, and whether it was among them; what follows `--` is no option."""
    end_index = arguments.index("--") if "--" in arguments else len(arguments)
    other_options = [argument for argument in arguments[:end_index] if argument != "--debug"]
    return other_options + arguments[end_index:], len(other_options) < end_index


def _report_error(error: BaseException) -> int:
    """Print an error in one line on standard error; returns the exit code."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):  # a group of commands without a command shows its help
        error.show()
        return 2
    if isinstance(error, click.ClickException):
        _print_error(f"error: {usage_error_line(error)}")
        return 2
    if isinstance(error, (click.Abort, KeyboardInterrupt, Interrupted)):
        _print_error(f"interrupted: {error}" if isinstance(error, Interrupted) else "interrupted")
        return 130
    if isinstance(error, UserError):
        _print_error(f"error: {error}")
        return 2
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG and error.filename is not None:
        _print_error(f"error: {error.filename}: {error.strerror}")  # a name that the user gave, wherever it was touched
        return 2
    line = " ".join(str(error).split())
    if type(error) is not RuntimeError:  # ours are of that very type and say all that there is to say
        line = f"{type(error).__name__}: {line}" if line else type(error).__name__
        line = f"{line[:500]} (the same command with --debug shows where)"
    _print_error(f"failed: {line}")
    return 1


def _print_error(line: str) -> None:
    from orca_bench.report.grid import printable_text

    click.echo(printable_text(line), err=True)


if __name__ == "__main__":
    main()
