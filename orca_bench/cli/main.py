"""`orca-bench`: the group of commands, and what becomes of errors.

Commands are imported when they are asked for, so that `--help` answers at once. Exit codes: 0 done, 1 the work failed (or a
gate says no), 2 the user's input is wrong, 130 interrupted.
"""

from __future__ import annotations

import importlib
import signal
import sys
import traceback

import click

from orca_bench import __version__
from orca_bench.errors import Interrupted, UserError

#: Command name: module below orca_bench.cli, and the line that the group's help shows.
_COMMANDS = {
    "demo": ("demo", "The whole job on the embedded default, without a network."),
    "data": ("data", "Make records from instruction files."),
    "train": ("train", "Records → model: train a recipe with DeepSpeed ZeRO-3."),
    "eval": ("eval", "Model → results: the seven tasks through lm-evaluation-harness."),
    "requests": ("requests", "The exact requests that eval would send, as JSON Lines; no model."),
    "score": ("score", "Answers made anywhere → results."),
    "table": ("table", "Results → table, beside the reported scores."),
    "compare": ("compare", "Is B better than A? Paired differences, with intervals and tests."),
    "check": ("check", "The gate for CI: exit 1 where a result is worse than its baseline."),
    "verify": ("verify", "Recompute a result's scores from its kept answers."),
    "plot": ("plot", "Results → pictures: scores, MMLU by subject, checkpoints."),
    "page": ("page", "Results → one HTML page with a viewer of every question."),
    "publish": ("publish", "Results → tables and a model card with the scores."),
    "generate": ("generate", "One answer in the Orca prompt, streamed."),
}

_HELP = """Train an explain-tuned LLaMA and hold it against the reported scores.

\b
The workflow:
  orca-bench demo                              see the whole job once
  orca-bench data convert FILE… --out R.jsonl  instruction files → records
  orca-bench train recipes/13b.yaml            records → runs/NAME/model
  orca-bench eval --tasks all                  model → runs/NAME/results/orca.json
  orca-bench eval --protocol leaderboard       the same, as the reported scores were measured
  orca-bench requests --out R.jsonl            what eval would send, for another engine
  orca-bench score ANSWERS --protocol orca     what that engine answered → results
  orca-bench table                             reported beside measured
  orca-bench compare A B                       is B better than A?
  orca-bench check RESULT --baseline B         the gate for CI
  orca-bench plot RESULT                       pictures of it
  orca-bench page A B                          one HTML page, with every question
  orca-bench publish RESULT                    tables, pictures and model card
  orca-bench verify RESULT                     do the kept answers give these scores?
  orca-bench generate "Why is the sky blue?"   ask the model

`orca-bench COMMAND --help` explains each. Recipes are YAML files; any key can be overridden: -o train.lr=1e-5.
Exit codes: 0 done, 1 failed, 2 wrong input, 130 interrupted."""


class _LazyGroup(click.Group):
    def list_commands(self, ctx):
        return list(_COMMANDS)

    def get_command(self, ctx, name):
        if name not in _COMMANDS:
            return None
        return importlib.import_module(f"orca_bench.cli.{_COMMANDS[name][0]}").command

    def format_commands(self, ctx, formatter):
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in _COMMANDS.items()])


@click.group(
    cls=_LazyGroup, help=_HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, prog_name="orca-bench")
@click.option("--debug", is_flag=True, help="Show an error's traceback, behind any command.")
@click.option("--local_rank", type=int, hidden=True)  # deepspeed's launcher puts it before the command
def cli(debug: bool, local_rank: int | None) -> None:
    """The group itself does nothing; `main` reads --debug."""


def main() -> None:
    """Run the command line; every error a user can cause becomes one line and exit code 2.

    With --debug, the traceback of whatever went wrong stands before that line.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs with SIGINT ignored
    for stream in (
        sys.stdout,
        sys.stderr,
    ):  # a file name or an encoding that cannot say a character is no reason to fail
        stream.reconfigure(errors="backslashreplace")
    words, debug = _without_debug(sys.argv[1:])
    try:
        code = cli.main(words, prog_name="orca-bench", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone: `orca-bench table | head`
        sys.exit(0)
    except (Exception, KeyboardInterrupt) as error:
        if debug and not isinstance(error, click.Abort):
            traceback.print_exc()
        sys.exit(_explain(error))


def _without_debug(words: list[str]) -> tuple[list[str], bool]:
    """The words of the command line without --debug, and whether it was among them; behind `--` stand arguments only."""
    end = words.index("--") if "--" in words else len(words)
    options = [word for word in words[:end] if word != "--debug"]
    return options + words[end:], len(options) < end


def _explain(error: BaseException) -> int:
    """Say an error in one line on standard error; returns the exit code."""
    if isinstance(error, click.ClickException):
        error.show()
        return 2
    if isinstance(error, (click.Abort, KeyboardInterrupt, Interrupted)):
        _say(f"interrupted: {error}" if isinstance(error, Interrupted) else "interrupted")
        return 130
    if isinstance(error, UserError):
        _say(f"error: {error}")
        return 2
    line = " ".join(str(error).split())
    if type(error) is not RuntimeError:  # ours are of that very type and say all that there is to say
        line = f"{type(error).__name__}: {line}" if line else type(error).__name__
        line = f"{line[:500]} (the same command with --debug shows where)"
    _say(f"failed: {line}")
    return 1


def _say(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    main()
