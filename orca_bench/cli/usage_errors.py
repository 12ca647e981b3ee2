"""An error of click in, one line for the user out: what is wrong, what would be right, and where that is explained.

Its own module because click prints four lines, with the usage first; every other error of this program is one line.
"""

from __future__ import annotations

import re

import click

from orca_bench.cli.command_list import RENAMED_OPTIONS


def usage_error_line(error: click.ClickException) -> str:
    """The line of an error in the words of a command line, without `error: ` before it."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if isinstance(error, click.NoSuchOption) and (new_name := _new_option_name(error)):
        return f"{error.option_name} is now {new_name}"
    possibilities = getattr(error, "possibilities", None) or []  # of a wrong option or command, the nearest first
    message = " ".join((error.message if possibilities else error.format_message()).split())
    if match := re.fullmatch(r"Invalid value for '?(.+?)'?: (.+)", message):
        message = f"{match[1]}: {match[2]}"
    else:
        message = message[:1].lower() + message[1:]
    message = message.removesuffix(".")
    if possibilities:
        hints: list[str | None] = [f"did you mean '{possibilities[0]}'?"]
    else:
        hints = [_model_hint(error, context), _format_hint(error, context)]
    if context is not None:
        hints.append(f"{context.command_path} --help shows {'examples' if context.parent else 'the commands'}")
    return "; ".join([message, *filter(None, hints)])


def _new_option_name(error: click.NoSuchOption) -> str | None:
    """The new name of an option that has been renamed; None for one that never was."""
    command_name = error.ctx.command.name if error.ctx is not None else None
    return RENAMED_OPTIONS.get(command_name or "", {}).get(error.option_name)


def _model_hint(error: click.ClickException, context: click.Context | None) -> str | None:
    """What to type where a word is too many and may be meant as the model."""
    match = re.search(r"unexpected extra argument \((\S+)\)", error.format_message())
    if match is None or context is None:
        return None
    has_model_option = any("--model" in parameter.opts for parameter in context.command.params)
    return f"--model {match[1]} names a model" if has_model_option else None


def _format_hint(error: click.ClickException, context: click.Context | None) -> str | None:
    """What to type for --json, --markdown and the like, where the command has that format."""
    if not isinstance(error, click.NoSuchOption) or context is None:
        return None
    form = error.option_name.lstrip("-")
    format_types = [parameter.type for parameter in context.command.params if "--format" in parameter.opts]
    has_format = any(
        form in format_type.choices for format_type in format_types if isinstance(format_type, click.Choice)
    )
    return f"did you mean --format {form}?" if has_format else None
