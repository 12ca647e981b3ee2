"""`chat` on a real terminal and in a pipe."""

import json

import pytest
from pseudo_terminal import Terminal

from orca_bench import prompt
from orca_bench.cli.command_list import COMMANDS
from orca_bench.models.model_folder import ModelFolder
from orca_bench.serve.sampling import Sampling
from orca_bench.serve.text_generation import Generator
from orca_bench.system_messages import SYSTEM_MESSAGES


@pytest.fixture(scope="module")
def answers(tiny_model):
    """A function: the answer of eight tokens, or of another number, to an instruction after earlier turns."""
    generator = Generator(ModelFolder(str(tiny_model)))

    def answer(instruction, input_text=None, system_id=5, earlier_turns=(), length=8):
        sampling = Sampling(seed=1, max_new_tokens=length)
        pieces = generator.answer(SYSTEM_MESSAGES[system_id], instruction, input_text, sampling, earlier_turns)
        return "".join(pieces)

    return answer


@pytest.fixture
def piped(command, tiny_model):
    """A function: the finished process of `chat` with these lines as its standard input."""

    def run(text):
        (command.folder / "lines.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
        with (command.folder / "lines.txt").open() as stdin:
            return command("chat", tiny_model, "--seed", 1, "--max-new-tokens", 8, stdin=stdin)

    return run


def test_lines_of_a_pipe_are_answered_one_after_another(piped, answers):
    done = piped("Where?\n\n  And why?\n")
    assert done.returncode == 0 and done.stderr == ""
    first = answers("Where?")
    second = answers("And why?", earlier_turns=[prompt.Turn("Where?", None, first.rstrip())])
    assert done.stdout == f"{first}\n{second}\n"


def test_commands_of_a_pipe(piped, answers, command):
    lines = [
        "/input",
        "A pond.",
        "",
        "/not a command here",
        "/end",
        "Where?",
        "/save records/mine.jsonl",
        "/reset",
        "/system 14",
        "/input two words",
        "Where?",
        "/save records/mine.jsonl",
        "/exit",
        "Never asked.",
    ]
    done = piped("\n".join(lines))
    assert done.returncode == 0, done.stderr
    first_input = "A pond.\n\n/not a command here"
    expected = [answers("Where?", first_input), answers("Where?", "two words", system_id=14)]
    assert done.stdout == "".join(f"{answer}\n" for answer in expected)
    records = [json.loads(line) for line in (command.folder / "records/mine.jsonl").read_text().splitlines()]
    assert [(record["input"], record["system"]) for record in records] == [
        (first_input, SYSTEM_MESSAGES[5]),
        ("two words", SYSTEM_MESSAGES[14]),
    ]
    assert [record["response"] for record in records] == [answer.rstrip() for answer in expected]
    assert "saved: records/mine.jsonl\n" in done.stderr and f"system message: {SYSTEM_MESSAGES[14]}" in done.stderr
    assert command("data", "check", "records/mine.jsonl").returncode == 0


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("/resset\n", "standard input:1: no command /resset; did you mean '/reset'?"),
        ("\n/system 17\n", "standard input:2: /system: 17 is not an id of the Orca paper"),
        (b"caf\xe9\n", "standard input:1: the line: no UTF-8 text: byte 4 is no character"),
        (b"/input\n\xff\n/end\n", "/input: no UTF-8 text: byte 1 is no character"),
        ("word " * 3000 + "\n", "and the model's context window 1024"),
    ],
)
def test_a_wrong_line_of_a_pipe_is_named_and_ends_the_program(piped, lines, message):
    done = piped(lines)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_options_are_refused_as_generate_refuses_them(command, tiny_model):
    assert "--top-k: --greedy always takes" in command.refused("chat", tiny_model, "--greedy", "--top-k", 5)
    assert "--top-p: nan is no number" in command.refused("chat", tiny_model, "--top-p", "nan")
    assert "no finished run" in command.refused("chat")


def test_on_a_terminal_ctrl_c_stops_the_answer_and_ctrl_d_ends(command, tiny_model, answers):
    words = ("-m", "orca_bench", "chat", tiny_model, "--seed", 1, "--max-new-tokens", 900)
    beginning = answers("Where?", length=4)
    with Terminal(command.folder, *words, columns=2000) as terminal:
        terminal.wait_for("> ")
        terminal.type("/help\n")
        terminal.wait_for("/save FILE")
        terminal.type("\x03")
        terminal.wait_for("(Ctrl-D ends)")
        for line, error in (
            ("/nothing", "no command /nothing"),
            ("/save mine.jsonl", "there is no answer yet"),
            ("/save", "/save: which file gets the record?; /save FILE"),
        ):
            terminal.type(f"{line}\n")
            terminal.wait_for(f"error: {error}")
        terminal.type("Where?\n")
        terminal.wait_for(beginning[:10])
        terminal.type("\x03")
        terminal.wait_for("(stopped)")
        terminal.type("/save mine.jsonl\n")
        terminal.wait_for("saved: mine.jsonl")
        terminal.type("\x04")
        exit_code, text = terminal.wait_for_end()
    assert exit_code == 0
    record = json.loads((command.folder / "mine.jsonl").read_text(encoding="utf-8"))
    assert record["was_cut"] and record["response"].startswith(beginning[:10])
    printable_beginning = record["response"].split("\n")[0].rstrip()[:200]
    assert "".join(filter(str.isprintable, printable_beginning)) in text.replace("\ufffd", ""), (
        "it was shown as it came"
    )


def test_the_help_shows_every_command(command):
    text = command("chat", "--help").stdout
    assert all(f"/{name}" in text for name in ("system", "input", "save", "reset", "help", "exit"))
    assert "chat" in COMMANDS
