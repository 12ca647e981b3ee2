"""The commands and the recipe's keys in, their reference as Markdown out.

    python -m orca_bench.cli.reference

writes orca_bench/cli/README.md and the tables of keys in recipes/README.md and recipes/data/README.md; a test compares them
with the code. Its own module
because only this imports every command at once.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from orca_bench.cli.command_list import GROUPS, CommandEntry
from orca_bench.cli.main import cli
from orca_bench.data.build.data_recipe import DataRecipe
from orca_bench.recipe import EXTENDS_DESCRIPTION, EXTENDS_KEY, MAY_CHANGE_MARK, MAY_SPLIT_MARK, Recipe

ROOT = Path(__file__).resolve().parents[2]
COMMANDS_FILE = ROOT / "orca_bench" / "cli" / "README.md"
RECIPES_FILE = ROOT / "recipes" / "README.md"
DATA_RECIPES_FILE = ROOT / "recipes" / "data" / "README.md"

#: The lines of both pages between which the table of keys is written.
_BEGIN, _END = "<!-- The table of keys, written by `make docs`. -->", "<!-- The end of the table of keys. -->"

_INTRODUCTION = """# The commands

Every command of orca-bench with its options. This page is written by `make docs` from the code; `orca-bench COMMAND --help`
shows the same. Exit codes: 0 done, 1 the work or the gate failed, 2 wrong input, 130 interrupted. `--debug` with any command
shows the traceback of an error.

A shell completes commands, options, and the names of runs once it has run this line, which belongs into its profile
(`~/.bashrc`; for zsh and fish write `zsh_source` and `fish_source`):

```
eval "$(_ORCA_BENCH_COMPLETE=bash_source orca-bench)"
```
"""


def main() -> None:
    """Write all references."""
    COMMANDS_FILE.write_text(command_reference(), encoding="utf-8")
    for page, key_table in ((RECIPES_FILE, recipe_keys()), (DATA_RECIPES_FILE, data_recipe_keys())):
        page.write_text(with_keys(page.read_text(encoding="utf-8"), key_table), encoding="utf-8")


# --- commands -------------------------------------------------------------------------------------------------------


def command_reference() -> str:
    """The page of all commands: a table of them by group, then a section for each."""
    lines = [_INTRODUCTION, "| | command | what it does |", "|---|---|---|"]
    for title, entries in GROUPS.items():
        for index, entry in enumerate(entries):
            lines.append(f"| {title if index == 0 else ''} | [{entry.name}](#{entry.name}) | {entry.summary} |")
    for entries in GROUPS.values():
        for entry in entries:
            lines += ["", f"## {entry.name}", *_command_sections(entry)]
    return "\n".join(lines) + "\n"


def _command_sections(entry: CommandEntry) -> Iterator[str]:
    command = cli.get_command(click.Context(cli), entry.name)
    assert command is not None
    if not isinstance(command, click.Group):
        yield from _command_section((entry.name,), command)
        return
    yield from ("", _escape(inspect.cleandoc(command.help or "")))
    for name, subcommand in command.commands.items():
        yield from ("", f"### {entry.name} {name}", *_command_section((entry.name, name), subcommand))


def _command_section(command_words: tuple[str, ...], command: click.Command) -> Iterator[str]:
    """Usage, description with examples, and a table of the options."""
    context = click.Context(command, info_name=" ".join(("orca-bench", *command_words)))
    usage = " ".join(command.collect_usage_pieces(context))
    yield from ("", f"`orca-bench {' '.join(command_words)} {usage}`", "")
    yield from _description(inspect.cleandoc(command.help or ""))
    yield from ("", "| option | meaning |", "|---|---|")
    for parameter in command.get_params(context):
        help_record = parameter.get_help_record(context)
        if help_record is not None and isinstance(parameter, click.Option) and "--help" not in parameter.opts:
            option_names, option_help = help_record
            yield f"| `{_escape_cell(option_names)}` | {_escape_cell(_escape(option_help))} |"


def _description(help_text: str) -> Iterator[str]:
    """A help text as Markdown: paragraphs, and those that click does not wrap as blocks."""
    for index, paragraph in enumerate(help_text.split("\n\n")):
        if index:
            yield ""
        lines = paragraph.splitlines()
        if lines[0] != "\b":
            yield _escape(paragraph)
            continue
        heading = [line for line in lines[1:] if not line.startswith("  ")]
        if heading:
            yield from (_escape(" ".join(heading)), "")
        yield from ("```", *(line[2:] for line in lines[1:] if line.startswith("  ")), "```")


def _escape(text: str) -> str:
    """The text with the characters that Markdown would take for HTML or emphasis escaped, outside of code."""
    segments = text.split("`")
    return "`".join(
        segment if index % 2 else re.sub(r"([<>*])", r"\\\1", segment) for index, segment in enumerate(segments)
    )


def _escape_cell(text: str) -> str:
    """The text as a cell of a table."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


# --- the keys of recipes --------------------------------------------------------------------------------------------


def with_keys(text: str, key_table: str) -> str:
    """The text of a page of recipes with a new table of keys; it is appended where the text has none yet."""
    marked_table = f"{_BEGIN}\n\n{key_table}\n{_END}\n"
    if _BEGIN not in text:
        return f"{text.rstrip()}\n\n## Keys\n\n{marked_table}"
    text_before, text_after = text.split(_BEGIN)
    return text_before + marked_table + text_after.split(_END)[1].removeprefix("\n")


def recipe_keys() -> str:
    """The table of a training recipe's keys: name, values, default and meaning; stars mark keys that may change in between."""
    note = (
        "A run may be continued with another value of a key that has a star. Keys with two stars split the same batch over\n"
        "processes and passes: they may change too, and the numbers stay the same to rounding. All other keys must keep their\n"
        "values."
    )
    return _key_table(Recipe, note)


def data_recipe_keys() -> str:
    """The table of a data recipe's keys, likewise."""
    note = (
        "A build may be continued with another value of a key that has a star: a request that stays the same keeps its answer.\n"
        "All other keys must keep their values. SOURCE is the name of a source."
    )
    return _key_table(DataRecipe, note)


def _key_table(recipe_model: type[BaseModel], note: str) -> str:
    rows = ["| key | values | default | meaning |", "|---|---|---|---|"]
    rows.append(f"| `{EXTENDS_KEY}` | text |  | {_escape_cell(EXTENDS_DESCRIPTION)} |")
    rows += [f"| {' | '.join(map(_escape_cell, row))} |" for row in _key_rows(recipe_model)]
    return "\n".join([*rows, "", note]) + "\n"


def _key_rows(
    section: type[BaseModel], prefix: str = "", section_stars: str = ""
) -> Iterator[tuple[str, str, str, str]]:
    """A row for each key; the keys of a section that has stars have them too."""
    for name, field in section.model_fields.items():
        subsection = _subsection_type(field)
        if subsection is not None and field.description is None:
            yield from _key_rows(subsection, f"{prefix}{name}.")
            continue
        star_suffix = (
            " *" if MAY_CHANGE_MARK in field.metadata else " **" if MAY_SPLIT_MARK in field.metadata else section_stars
        )
        is_mapping = get_origin(field.annotation) is dict
        values_text = _values_text(field.annotation) if subsection is None or is_mapping else "section"
        yield f"`{prefix}{name}`{star_suffix}", values_text, _default_text(field), field.description or ""
        if subsection is not None:
            yield from _key_rows(subsection, f"{prefix}{name}.{'SOURCE.' if is_mapping else ''}", star_suffix)


def _subsection_type(field: FieldInfo) -> type[BaseModel] | None:
    """The class of a field whose value is a section of keys; None for any other field."""
    candidates = [field.annotation, *get_args(field.annotation)]
    return next(
        (candidate for candidate in candidates if isinstance(candidate, type) and issubclass(candidate, BaseModel)),
        None,
    )


def _values_text(annotation: Any) -> str:
    """What a value of this type is, in a word, or its choices."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _values_text(arguments[0])
    if origin is Literal:
        return ", ".join(str(choice) for choice in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_values_text(argument) for argument in arguments if argument is not types.NoneType)
    if origin is list:
        values_text = _values_text(arguments[0])
        return f"list of: {values_text}" if get_origin(arguments[0]) is Literal else f"list of {values_text}s"
    if origin is dict:
        is_of_sections = isinstance(arguments[1], type) and issubclass(arguments[1], BaseModel)
        return "sections by name" if is_of_sections else "mapping"
    return {bool: "true, false", int: "integer", float: "number", str: "text"}[annotation]


def _default_text(field: FieldInfo) -> str:
    """The default of a key; nothing for a key that must be given or has none."""
    if field.default is PydanticUndefined:
        return "required"
    if field.default is None or isinstance(field.default, BaseModel):
        return ""
    return str(field.default).lower() if isinstance(field.default, bool) else f"{field.default}"


if __name__ == "__main__":
    main()
