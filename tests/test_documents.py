"""The documents beside the code: their commands parse, their links and file names exist, and the README stays short."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from orca_bench.cli.command_list import RENAMED_OPTIONS
from orca_bench.cli.main import cli

ROOT = Path(__file__).resolve().parents[1]
CHANGES = "orca_bench/CHANGELOG.md"
GENERATED = "orca_bench/cli/README.md"
DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for folder in ("", "orca_bench", "recipes", "results", "tests")
    for path in ((ROOT / folder).rglob("*.md") if folder else ROOT.glob("*.md"))
    if path.name in ("README.md", "CHANGELOG.md")
)
_PROGRAMS = re.compile(r"(?:^|[\s`/])(?:orca-bench|-m orca_bench|--module orca_bench)(?= )")
_LINK = re.compile(r"\[(?:[^][]|\[[^]]*\])*\]\(([^)\s]+)\)")
#: Options of other programs that the documents name.
_FOREIGN_OPTIONS = {
    "--help",
    "--index-url",
    "--torch-backend",
    "--nproc-per-node",
    "--num_gpus",
    "--module",
    "--model_args",
    "--use_cache",
}


def _text(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def _blocks(text: str) -> Iterator[str]:
    """The contents of the fenced blocks, continued lines joined."""
    for block in re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield re.sub(r"\\\n\s*", "", block)


def _prose(text: str) -> str:
    """The text without its fenced blocks."""
    return re.sub(r"^```[a-z]*\n.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def _command_lines(document: str) -> Iterator[str]:
    """What follows `orca-bench` in each line of the fenced blocks that runs it, comments left out."""
    for block in _blocks(_text(document)):
        for line in block.splitlines():
            program = _PROGRAMS.search(line)
            if program:
                yield line[program.end() :].strip()


def _command(words: list[str], line: str) -> tuple[click.Command, list[str]]:
    """The command that the first words name, and the words after its name."""
    command: click.Command = cli
    while isinstance(command, click.Group):
        inner = command.get_command(click.Context(command), words[0]) if words else None
        assert inner is not None, f"no such command: orca-bench {line}"
        command, words = inner, words[1:]
    return command, words


def _check(line: str, whole: bool = True) -> None:
    """Fail where a command line does not parse: its command, its options, their choices and, if `whole`, what is required."""
    line = re.sub(r"\$\(printf -- '(--[a-z-]+) %s ' ([^)]+)\)", r"\1 \2", line)  # an option for each of some files
    command, words = _command(shlex.split(line.replace("$'", "'"), comments=True), line)
    context = click.Context(command)
    try:
        values, _, _ = command.make_parser(context).parse_args(words)
        for parameter in command.params:
            value = values.get(parameter.name)
            if isinstance(parameter.type, (click.Choice, click.IntRange, click.FloatRange)) and isinstance(value, str):
                parameter.type.convert(value, parameter, context)
            if whole and parameter.required:
                assert value, f"{parameter.name} is missing: orca-bench {line}"
    except click.ClickException as error:
        pytest.fail(f"{error.format_message()}: orca-bench {line}")


def test_the_documents_stand_beside_what_they_describe():
    assert set(DOCUMENTS) >= {
        "README.md",
        "orca_bench/README.md",
        "orca_bench/CHANGELOG.md",
        "orca_bench/data/README.md",
        "orca_bench/train/README.md",
        "orca_bench/evaluate/README.md",
        "orca_bench/report/README.md",
        "recipes/README.md",
        "results/README.md",
        "tests/README.md",
    }


def test_the_readme_is_short_and_shows_the_main_commands():
    text = _text("README.md")
    assert len(text.splitlines()) <= 150
    assert len(text.split()) <= 1500
    names = {line.split()[0] for line in _command_lines("README.md")}
    assert names >= {"data", "train", "eval", "table", "page", "check"}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_line_parses(document):
    for line in _command_lines(document):
        _check(line)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_and_options_in_the_text_exist(document):
    for code in re.findall(r"`([^`\n]+)`", _prose(_text(document))):
        if code.startswith("orca-bench ") and "COMMAND" not in code and "--help" not in code:
            _check(code.removeprefix("orca-bench ").replace("…", ""), whole=False)
        elif code.startswith("--") and document != CHANGES:
            option = re.match(r"--[\w-]+", code)[0]
            assert option in _all_options(), code


def test_the_change_log_names_every_renamed_option():
    rows = re.findall(r"^\| `(\w+)` \| `(--[\w-]+)` \| `(--[\w -]+)` \|$", _text(CHANGES), re.MULTILINE)
    assert set(rows) == {(name, old, new) for name, renamed in RENAMED_OPTIONS.items() for old, new in renamed.items()}


def _all_options() -> set[str]:
    """The options of all commands, and those of other programs."""
    options, groups = set(_FOREIGN_OPTIONS), [cli]
    for group in groups:
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            groups += [command] if isinstance(command, click.Group) else []
            options |= {
                option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
            }
        options |= {option for parameter in group.params for option in parameter.opts}
    return options


def test_the_python_of_the_readme_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    (code,) = re.findall(r"^```python\n(.*?)^```", _text("README.md"), re.MULTILINE | re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    assert "ARC-Challenge" in capsys.readouterr().out


@pytest.mark.parametrize("room", ["data", "train", "evaluate", "report"])
def test_every_module_of_a_room_stands_in_its_document(room):
    text, folder = _text(f"orca_bench/{room}/README.md"), ROOT / "orca_bench" / room
    names = [f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir()]
    modules = {name for name in names if name.endswith((".py", "/")) and not name.startswith("_")}
    assert not {module for module in modules if f"`{module}`" not in text}


def test_every_room_stands_in_the_map():
    text, package = _text("orca_bench/README.md"), ROOT / "orca_bench"
    names = {f"{path.name}/" if path.is_dir() else path.name for path in package.iterdir()}
    rooms = {name for name in names if name.endswith((".py", "/")) and not name.startswith("_")}
    assert not {room for room in rooms if f"`{room}`" not in text}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_somewhere(document):
    for target in _LINK.findall(_prose(_text(document))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, heading = target.partition("#")
        file = (ROOT / document).parent / path if path else ROOT / document
        assert file.exists(), f"{document}: {target}"
        if heading:
            assert heading in _headings(file.read_text(encoding="utf-8")), f"{document}: {target}"


def _headings(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a text."""
    titles = re.findall(r"^#+ (.+)$", _prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_name_that_a_document_finds_in_a_file_is_there(document):
    for path, name in re.findall(r"`([\w/]+\.py)`: `(\w+)`", _text(document)):
        file = next(place for place in _places(document, path) if place.exists())
        definition = rf"^\s*(?:(?:def|class) {name}\b|{name}\b[^=\n]*=)"
        assert re.search(definition, file.read_text(encoding="utf-8"), re.MULTILINE), f"{document}: {path}: {name}"


def _places(document: str, path: str) -> tuple[Path, ...]:
    """Where the file may be that a document names: below the root, the package or the document's own folder."""
    return ROOT / path, ROOT / "orca_bench" / path, (ROOT / document).parent / path


@pytest.mark.parametrize("document", [document for document in DOCUMENTS if document != CHANGES])
def test_every_file_of_the_project_that_a_document_names_exists(document):
    in_a_run = (
        "recipe.yaml",
        "manifest.yaml",  # of a build
        "tokens/",
        "checkpoints/",
        "exports/step-N/",
        "exports/best/",
        "tensorboard/",
        "wandb/",
        "model/",
    )
    for code in re.findall(r"`([^`\s]+)`", _prose(_text(document))):
        if not re.fullmatch(r"[\w./-]+(?:\.(?:py|yaml|css|js)|/)", code) or code.startswith("runs/") or "NAME" in code:
            continue
        if code in in_a_run:
            continue
        assert any(place.exists() for place in _places(document, code)), f"{document}: {code}"


@pytest.mark.parametrize("document", [document for document in DOCUMENTS if document != GENERATED])
def test_lines_are_short_enough_to_read_in_a_terminal(document):
    for number, line in enumerate(_prose(_text(document)).splitlines(), 1):
        assert len(line) <= 125 or line.startswith(("|", "[", "!")) or "](" in line, f"{document}:{number}"
