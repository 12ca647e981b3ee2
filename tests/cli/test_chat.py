"""`chat` on a real terminal and in a pipe."""

import io
import json
import signal
import sys

import pytest
from pseudo_terminal import Terminal
from safetensors.torch import load_file, save_file
from tiny_llamas import make_model

from orca_bench import prompt
from orca_bench.cli import chat, interrupts
from orca_bench.cli.command_list import COMMANDS
from orca_bench.models.model_folder import ModelFolder
from orca_bench.serve.conversation import Conversation
from orca_bench.serve.sampling import Sampling
from orca_bench.serve.text_generation import Generator
from orca_bench.system_messages import SYSTEM_MESSAGES


@pytest.fixture(scope="module")
def generator(tiny_model):
    return Generator(ModelFolder(str(tiny_model)))


@pytest.fixture(scope="module")
def answers(generator):
    """A function: the answer of eight tokens, or of another number, to an instruction after earlier turns."""

    def answer(instruction, input_text=None, system_id=5, earlier_turns=(), length=8):
        sampling = Sampling(seed=1, max_new_tokens=length)
        pieces = generator.answer(SYSTEM_MESSAGES[system_id], instruction, input_text, sampling, earlier_turns)
        return "".join(pieces)

    return answer


@pytest.fixture
def piped(command, tiny_model, monkeypatch):
    """A function: what `chat` did with these lines as its standard input."""

    def run(text):
        lines = io.BytesIO(text if isinstance(text, bytes) else text.encode())
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(lines))
        return command("chat", tiny_model, "--seed", 1, "--max-new-tokens", 8)

    return run


def test_lines_of_a_pipe_are_answered_one_after_another(piped, answers):
    process = piped("Where?\n\n  And why?\n")
    assert process.returncode == 0 and process.stderr == ""
    first = answers("Where?")
    second = answers("And why?", earlier_turns=[prompt.Turn("Where?", None, first.rstrip())])
    assert process.stdout == f"{first}\n{second}\n"


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
    process = piped("\n".join(lines))
    assert process.returncode == 0, process.stderr
    first_input = "A pond.\n\n/not a command here"
    expected = [answers("Where?", first_input), answers("Where?", "two words", system_id=14)]
    assert process.stdout == "".join(f"{answer}\n" for answer in expected)
    records = [json.loads(line) for line in (command.folder / "records/mine.jsonl").read_text().splitlines()]
    assert [(record["input"], record["system"]) for record in records] == [
        (first_input, SYSTEM_MESSAGES[5]),
        ("two words", SYSTEM_MESSAGES[14]),
    ]
    assert [record["response"] for record in records] == [answer.rstrip() for answer in expected]
    assert (
        "saved: records/mine.jsonl\n" in process.stderr and f"system message: {SYSTEM_MESSAGES[14]}" in process.stderr
    )
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
    process = piped(lines)
    assert process.returncode == 2 and message in process.stderr and "Traceback" not in process.stderr


def test_options_are_refused_as_generate_refuses_them(command, tiny_model):
    assert "--top-k: --greedy always takes" in command.refused("chat", tiny_model, "--greedy", "--top-k", 5)
    assert "--top-p: nan is no number" in command.refused("chat", tiny_model, "--top-p", "nan")
    assert "no finished run" in command.refused("chat")


@pytest.fixture
def model_without_end(tmp_path, mini):
    """A model folder whose answers have no stop token, and a window for answers that no terminal holds unread."""
    folder = make_model(tmp_path / "model_without_end", mini["mini:tokenizer"], max_position_embeddings=30_000)
    weights = load_file(folder / "model.safetensors")
    stop_ids = list(ModelFolder(str(folder)).tokenizer.stop_ids)
    weights["lm_head.weight"][stop_ids] = 0  # their logits are 0; those of the 50 tokens that are sampled are greater
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_on_a_terminal_ctrl_c_stops_the_answer_and_ctrl_d_ends(command, model_without_end):
    words = ("-m", "orca_bench", "chat", model_without_end, "--seed", 1, "--max-new-tokens", 29_000)
    sampling = Sampling(seed=1, max_new_tokens=4)
    generator = Generator(ModelFolder(str(model_without_end)))
    beginning = "".join(generator.answer(SYSTEM_MESSAGES[5], "Where?", sampling=sampling))
    with Terminal(command.folder, *words, columns=2000) as terminal:
        terminal.wait_for_prompt()
        terminal.type("/help\n")
        terminal.wait_for("/save FILE")
        terminal.wait_for_prompt()
        terminal.type("\x03")
        terminal.wait_for("(Ctrl-D ends)")
        for line, error in (
            ("/nothing", "no command /nothing"),
            ("/save mine.jsonl", "there is no answer yet"),
            ("/save", "/save: which file gets the record?; /save FILE"),
        ):
            terminal.wait_for_prompt()
            terminal.type(f"{line}\n")
            terminal.wait_for(f"error: {error}")
        terminal.wait_for_prompt()
        terminal.type("Where?\n")
        terminal.wait_for(beginning[:10])  # it is shown as it comes: the whole answer does not fit into the terminal
        terminal.type("\x03")
        terminal.wait_for("(stopped)")
        terminal.wait_for_prompt()
        terminal.type("/save mine.jsonl\n")
        terminal.wait_for("saved: mine.jsonl")
        terminal.wait_for_prompt()
        terminal.type("\x04")
        exit_code, _ = terminal.wait_for_end()
    assert exit_code == 0
    record = json.loads((command.folder / "mine.jsonl").read_text(encoding="utf-8"))
    assert record["was_cut"] and record["response"].startswith(beginning[:10])


def test_whenever_ctrl_c_comes_the_conversation_goes_on(generator, monkeypatch, capsys):
    """Ctrl-C at every line of chat.py and interrupts.py that a short conversation runs, in turn; at input() it takes the line."""
    source_files = {chat.__file__, interrupts.__file__}
    outcomes = set()
    for interrupted_line in range(1, 1000):
        run_lines = 0

        def interrupt_once(frame, event, argument, interrupted_line=interrupted_line):
            nonlocal run_lines
            if frame.f_code.co_filename not in source_files or frame.f_code.co_name == "_receive":
                return None
            if event == "line" and (run_lines := run_lines + 1) == interrupted_line:
                signal.raise_signal(signal.SIGINT)
            return interrupt_once

        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Where?\n/system\n")))
        deferred = interrupts.DeferredInterrupts()
        conversation = Conversation(generator, SYSTEM_MESSAGES[5], Sampling(seed=1, max_new_tokens=2))
        lines = chat._terminal_lines(deferred)
        previous_trace = sys.gettrace()
        with deferred.installed():
            talk = chat._Chat(conversation, "tiny", lines, True, deferred)
            sys.settrace(interrupt_once)
            try:
                talk.run()
            finally:
                sys.settrace(previous_trace)
        if run_lines < interrupted_line:
            break
        messages = capsys.readouterr().err
        outcomes |= {word for word in ("(stopped)", "(Ctrl-D ends)") if word in messages}
        assert messages.count("(stopped)") + messages.count("(Ctrl-D ends)") <= 1, (interrupted_line, messages)
    assert interrupted_line > 50 and outcomes == {"(stopped)", "(Ctrl-D ends)"}


def test_the_help_shows_every_command(command):
    text = command("chat", "--help").stdout
    assert all(f"/{name}" in text for name in ("system", "input", "save", "reset", "help", "exit"))
    assert "chat" in COMMANDS
