"""A file of stages in, checked `StageList` out: what `run_stages.py` runs, in its order.

The file is YAML, made to be read: results/smollm2-orca/stages.yaml. All paths in it are relative to the work folder, in which the
commands run. Its own module because what a file may say is a matter apart from running it.
"""

from __future__ import annotations

import fnmatch
import itertools
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orca_bench import yaml_files
from orca_bench.errors import UserError, spelling_hint

_PROGRAMS = ("orca-bench", "python")


class _FileModel(BaseModel):
    """A part of the file: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid")


class Link(_FileModel):
    """A link in the work folder to files of the user: what it leads to, and who says where that is.

    `variable` is the environment variable that names the file or folder; `default` a path, relative to the checkout where it is
    not absolute, that is taken where the variable is not set. `~` is the user's home.
    """

    holds: str
    variable: str
    default: str

    def target(self, checkout: Path) -> Path:
        """The file or folder that the link should lead to."""
        return checkout / Path(os.environ.get(self.variable) or self.default).expanduser()


class Stage(_FileModel):
    """One step of the job: its commands, the paths that they read and write, and how long they take on the machine of the list.

    A command may end in `> FILE`, which gets its standard output. Of `gives`, a folder of a run counts as its model and metrics.
    What a stage with `is_committed` gives is committed to the repository and outlives the machine on which it was made: where it
    is there, and the stage has never run in this work folder or what it needs is not here, the stage is done.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    does: str
    commands: Annotated[list[str], Field(min_length=1)]
    needs: list[str] = []
    gives: Annotated[list[str], Field(min_length=1)]
    minutes: Annotated[float, Field(ge=0)]
    is_committed: bool = False


class _StageTemplate(Stage):
    """A stage as the file has it: with `for_each`, one stage for each combination of the values, which replace `{key}`."""

    name: str
    for_each: dict[str, Annotated[list[str], Field(min_length=1)]] = {}

    def stages(self, texts: dict[str, str], path: Path) -> list[Stage]:
        """The stages of all combinations, in order, each with the file's texts; one stage where there is no `for_each`."""
        where = f"{path}: stage {self.name}"
        for key in self.for_each.keys() & texts.keys():
            raise UserError(f"for_each: {key} is a text too", where=where, hint="give it another name")
        content = self.model_dump(exclude={"for_each"})
        return [
            _with_texts(content, texts | dict(zip(self.for_each, values, strict=True)), where)
            for values in itertools.product(*self.for_each.values())
        ]


class _StageFile(_FileModel):
    machine: str = ""
    texts: dict[str, str] = {}
    links: dict[str, Link] = {}
    stages: Annotated[list[_StageTemplate], Field(min_length=1)]


@dataclass(frozen=True)
class CommandLine:
    """A command of a stage: its words, and the file that gets its standard output, if any."""

    words: tuple[str, ...]
    output_file: str | None = None

    def __str__(self) -> str:
        return shlex.join(self.words) + ("" if self.output_file is None else f" > {shlex.quote(self.output_file)}")


def parse_command(text: str, where: str) -> CommandLine:
    """The words of a command; raises UserError for another program, and for what only a shell understands."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UserError(f"{error}", where=where) from None
    output_file = None
    if len(words) > 2 and words[-2] == ">":
        words, output_file = words[:-2], words[-1]
    for word in words:
        if word in ("|", "&&", ";", ">", ">>", "<", "&"):
            raise UserError(
                f"'{word}' needs a shell", where=where, hint="write several commands, or `> FILE` at the end"
            )
    if not words or words[0] not in _PROGRAMS:
        raise UserError("not a command of this job", where=where, hint=f"it begins with {' or '.join(_PROGRAMS)}")
    return CommandLine(tuple(words), output_file)


@dataclass(frozen=True)
class StageList:
    """All stages in order, the links that the work folder must have, and the machine of the stages' minutes, in words."""

    stages: tuple[Stage, ...]
    links: dict[str, Link]
    machine: str = ""

    def select(self, names: list[str]) -> list[Stage]:
        """The stages of these names, in the order of the list; all where none is named.

        In a name `*` stands for any characters. Raises UserError for a name that is no stage's.
        """
        known_names = [stage.name for stage in self.stages]
        for name in names:
            if not fnmatch.filter(known_names, name):
                hint = spelling_hint(name, known_names) or f"stages are {', '.join(known_names)}"
                raise UserError(f"no stage is called '{name}'", where="--stages", hint=hint)
        return [stage for stage in self.stages if not names or any(fnmatch.fnmatch(stage.name, name) for name in names)]

    def giver_of(self, path: str) -> Stage | None:
        """The stage that writes a path, or the innermost folder that it is in; None where the path is nobody's output."""
        givers = [(len(output), stage) for stage in self.stages for output in stage.gives if is_within(path, output)]
        return max(givers, key=lambda entry: entry[0])[1] if givers else None

    def giver_names(self, stage: Stage) -> set[str]:
        """The names of the stages that give what a stage needs."""
        givers = (self.giver_of(needed) for needed in stage.needs)
        return {giver.name for giver in givers if giver is not None}


def is_within(path: str, folder: str) -> bool:
    """Whether a path is another one, or is in that folder; both relative to the work folder."""
    return Path(path) == Path(folder) or Path(folder) in Path(path).parents


def read_stage_list(path: Path, replaced_texts: Mapping[str, str] = MappingProxyType({})) -> StageList:
    """The stages of a file; `replaced_texts` stand for the file's texts of these names.

    Raises UserError, with the file and the stage, for what cannot be run in its order, and for a name that is no text's.
    """
    content, _ = yaml_files.read_yaml_file(path, "list of stages")
    try:
        file = _StageFile.model_validate(content)
    except ValidationError as error:
        raise _content_error(error, path) from None
    for name in replaced_texts.keys() - file.texts.keys():
        hint = spelling_hint(name, file.texts) or f"texts are {', '.join(file.texts)}"
        raise UserError(f"no text is called '{name}'", where=path, hint=hint)
    texts: dict[str, str] = {}
    for name, text in (file.texts | dict(replaced_texts)).items():  # each may use those before it
        texts[name] = _replaced(text, texts, f"{path}: texts.{name}")
    stages = tuple(stage for template in file.stages for stage in template.stages(texts, path))
    stage_list = StageList(stages, file.links, file.machine)
    _check_order(stage_list, path)
    return stage_list


def _content_error(error: ValidationError, where: Path | str) -> UserError:
    first = error.errors(include_url=False)[0]
    return UserError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", where=where)


def _with_texts(content: dict[str, Any], texts: dict[str, str], where: str) -> Stage:
    """The stage with each `{name}` of its name, commands and paths replaced by the text of that name."""
    content = content | {key: _replaced(content[key], texts, where) for key in ("name", "does")}
    content |= {key: [_replaced(text, texts, where) for text in content[key]] for key in ("commands", "needs", "gives")}
    try:
        stage = Stage.model_validate(content)
    except ValidationError as error:
        raise _content_error(error, where) from None
    for command in stage.commands:
        parse_command(command, where)
    return stage


def _replaced(text: str, texts: dict[str, str], where: str) -> str:
    """A text with each `{name}` replaced by the text of that name; raises UserError for other names."""
    try:
        return " ".join(text.format_map(texts).split())
    except (KeyError, ValueError, IndexError) as error:
        raise UserError(
            f"no text is called {error}", where=where, hint="write it under `texts`, before its use"
        ) from None


def _check_order(stage_list: StageList, path: Path) -> None:
    """Raise UserError for names and outputs that stand twice, and for a stage that needs what a later one gives."""
    earlier: list[Stage] = []
    for stage in stage_list.stages:
        where = f"{path}: stage {stage.name}"
        if stage.name in (other.name for other in earlier):
            raise UserError("two stages have this name", where=where)
        for output in stage.gives:
            writer = next((other for other in earlier if output in other.gives), None)
            if writer is not None:
                raise UserError(f"{output} is given by stage {writer.name} too", where=where)
        for needed in stage.needs:
            giver = stage_list.giver_of(needed)
            if giver is not None and giver not in earlier:
                raise UserError(f"needs {needed}, which stage {giver.name} gives", where=where, hint="put it before")
        earlier.append(stage)
