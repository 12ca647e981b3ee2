"""What `generate` and `chat` have in common: the options of the sampling, a model that answers, and texts that go in and out.

A text that goes in must be UTF-8; a model's text that goes to a terminal must not control it.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orca_bench.errors import UserError
from orca_bench.serve.sampling import Sampling

if TYPE_CHECKING:
    from orca_bench.models.model_folder import ModelFolder
    from orca_bench.serve.text_generation import Generator

_OPTIONS = (
    click.option("--greedy", is_flag=True, help="Always take the likeliest token."),
    click.option(
        "--temperature",
        type=click.FloatRange(0, 1000),
        default=0.7,
        show_default=True,
        help="Divides the logits before sampling; 0 is greedy.",
    ),
    click.option(
        "--top-p",
        type=click.FloatRange(0, 1, min_open=True),
        default=1.0,
        show_default=True,
        help="Sample from the likeliest tokens that reach this probability together; 1 keeps all.",
    ),
    click.option(
        "--top-k",
        type=click.IntRange(min=0),
        default=50,
        show_default=True,
        help="Sample from this many of the likeliest tokens; 0 keeps all.",
    ),
    click.option(
        "--max-new-tokens",
        type=click.IntRange(min=1),
        default=1024,
        show_default=True,
        help="Maximum number of new tokens of the answer.",
    ),
    click.option(
        "--seed", type=click.IntRange(0, 2**63 - 1), help="Seed of the sampling: the same seed, the same answer."
    ),
)


def sampling_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator: the options of the sampling, which the command gets as one argument, `sampling`.

    Raises UserError, before the command is called, for a number that is none and for a setting that --greedy does not use.
    """

    @functools.wraps(command)
    def command_with_sampling(
        *,
        greedy: bool,
        temperature: float,
        top_p: float,
        top_k: int,
        max_new_tokens: int,
        seed: int | None,
        **others: Any,
    ) -> Any:
        if greedy:
            _check_greedy_settings(temperature)
        for option, option_value in (("--temperature", temperature), ("--top-p", top_p)):
            if math.isnan(option_value):  # click 8 lets NaN pass every range
                raise UserError("nan is no number", where=option)
        return command(sampling=Sampling(temperature, top_p, top_k, max_new_tokens, greedy, seed), **others)

    decorated: Callable[..., Any] = command_with_sampling
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def _check_greedy_settings(temperature: float) -> None:
    """Raise UserError where a setting of sampling stands beside --greedy, which does not sample."""
    context = click.get_current_context()
    for parameter in ("temperature", "top_p", "top_k"):
        is_on_command_line = context.get_parameter_source(parameter) is click.core.ParameterSource.COMMANDLINE
        if is_on_command_line and not (parameter == "temperature" and temperature == 0):
            option = "--" + parameter.replace("_", "-")
            raise UserError("--greedy always takes the likeliest token", where=option, hint="give one of the two")


def check_unicode(text: str, where: str) -> None:
    """Raise UserError for a text with bytes that are no UTF-8, which Python decodes to lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        position = len(text[: error.start].encode())
        raise UserError(f"no UTF-8 text: byte {position + 1} is no character", where=where) from error


def load_generator(model: str | None, revision: str | None, runs: Path) -> tuple[ModelFolder, Generator]:
    """The model that is named, or the newest, loaded; a line on standard error says if it has a prompt of its own."""
    from orca_bench import api
    from orca_bench.cli.console import progress_message
    from orca_bench.models.model_folder import locate_model
    from orca_bench.models.model_warnings import OWN_PROMPT_WARNING
    from orca_bench.serve.text_generation import Generator

    folder = locate_model(api.select_model(model, runs, progress_message), revision, progress_message)
    if folder.has_own_prompt:
        progress_message(f"{folder.name}: {OWN_PROMPT_WARNING}")
    return folder, Generator(folder)


def print_answer(text: str) -> None:
    """Print a text of a model, or a piece of one, on standard output, without adding a line end.

    On a terminal it is `printable_lines` of the text; a pipe or a file gets the text as it is.
    """
    click.echo(printable_lines(text) if sys.stdout.isatty() else text, nl=False)


def printable_lines(text: str) -> str:
    """A text whose characters do not move the cursor of a terminal, but for the ends of its lines."""
    from orca_bench.report.grid import printable_text

    return "\n".join(map(printable_text, text.split("\n")))
