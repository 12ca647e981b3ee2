"""What becomes of errors on the command line: one line, an exit code, and the traceback only where it is asked for."""

import pytest

from orca_bench import system_messages
from orca_bench.errors import UserError


@pytest.mark.parametrize("words", [("--debug", "train", "absent.yaml"), ("train", "absent.yaml", "--debug")])
def test_debug_shows_the_traceback_before_the_line(command, words):
    process = command(*words)
    assert process.returncode == 2
    assert process.stderr.startswith("Traceback") and "no such recipe" in process.stderr.splitlines()[-1]
    assert "Traceback" not in command("train", "absent.yaml").stderr


def test_an_argument_behind_two_dashes_is_no_option(command):
    assert "no finished run" in command.refused("generate", "--", "--debug")


def test_an_error_that_nobody_expected_is_one_line_and_exit_1(command):
    """Here: a package that is needed cannot be imported."""
    (command.folder / "pydantic.py").write_text("raise ZeroDivisionError('broken\\ninstallation')")
    process = command.process("train", "x.yaml")
    assert process.returncode == 1
    assert (
        process.stderr == "failed: ZeroDivisionError: broken installation (the same command with --debug shows where)\n"
    )


def test_a_terminal_that_cannot_say_a_character_gets_its_escape(command):
    process = command("--help", env={"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"})
    assert process.returncode == 0 and "\\u2026" in process.stdout


def test_names_with_brackets_are_no_markup(command, tiny_model):
    """A runs folder `[red]` and one `[/]` are shown as they are."""
    for name in ("[red]runs", "[/]", ":smile:"):
        words = ("--benchmarks", "mini:", "--tasks", "winogrande", "--limit", "1", "--runs", name)
        process = command("eval", "--model", tiny_model, *words)
        assert process.returncode == 0, process.stderr
        assert f"result: {name}/" in process.stdout
        again = command("eval", "--model", tiny_model, *words)
        assert f"in {name}/" in again.stderr


@pytest.mark.parametrize("text", ["²", "①", "५²", "-5", "5.0", "five"])
def test_a_system_message_that_is_no_id_is_a_text(text):
    assert system_messages.system_message(text) == text


@pytest.mark.parametrize("text", ["0", "17", "9" * 5000, "10005"])
def test_an_id_that_no_message_has_is_refused(text):
    with pytest.raises(UserError, match="ids run from 1 to 16"):
        system_messages.system_message(text)


def test_an_id_may_have_zeros_in_front():
    assert system_messages.system_message("0005") == system_messages.system_message("00000000005")
    assert system_messages.system_message(5) == system_messages.SYSTEM_MESSAGES[5]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "."), "cannot read this recipe"),
        (("train", ".."), "cannot read this recipe"),
        (("train", ""), "cannot read this recipe"),
        (("generate", " "), "an empty instruction"),
        (("generate", "hi", "--temperature", "nan"), "nan is no number"),
        (("generate", "hi", "--top-p", "nan"), "nan is no number"),
        (("verify", "--check-rows", "absent"), "no such benchmarks directory"),
    ],
)
def test_an_argument_that_says_nothing_is_refused(command, words, message):
    assert message in command.refused(*words)


def test_the_rows_of_the_mini_suite_are_surveyed_by_its_name(command):
    process = command("verify", "--check-rows", "mini:")
    assert "arc_challenge test: " in process.stdout and not process.stderr
