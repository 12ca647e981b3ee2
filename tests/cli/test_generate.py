"""What `generate` answers: an argument, standard input, or an example that it names."""

import os

import pytest


@pytest.fixture
def words(tiny_model):
    return ("generate", "--model", tiny_model, "--greedy", "--max-new-tokens", "8")


def test_a_dash_reads_the_instruction_from_standard_input(command, words):
    question = command.folder / "question.txt"
    question.write_text("Q: Where does the Ω live?\nA:\n", encoding="utf-8")
    with question.open() as stdin:
        from_file = command(*words, "-", stdin=stdin)
    assert from_file.returncode == 0 and from_file.stderr == ""
    assert from_file.stdout == command(*words, "Q: Where does the Ω live?\nA:").stdout
    question.write_text(" \n")
    with question.open() as stdin:
        assert "standard input: an empty instruction" in command.refused(*words, "-", stdin=stdin)


def test_without_an_instruction_the_example_is_shown_on_standard_error(command, words):
    done = command(*words)
    example, next_line = done.stderr.splitlines()
    assert example.startswith("> Write a letter to Sam Altman")
    assert next_line == f"next: orca-bench generate 'YOUR QUESTION' --model {words[2]}"
    assert done.stdout == command(*words, example.removeprefix("> ")).stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("hi", "--input", "-"), "--input: only INSTRUCTION can be standard input"),
        (("hi", "--system", "-"), "--system: only INSTRUCTION can be standard input"),
        (
            ("hi", "--temperature", "0.3"),
            "--temperature: --greedy always takes the likeliest token; give one of the two",
        ),
        (("hi", "--top-p", "0.9"), "--top-p: --greedy always takes"),
        (("hi", "--top-k", "5"), "--top-k: --greedy always takes"),
        ((b"caf\xe9",), "INSTRUCTION: no UTF-8 text: byte 4 is no character"),
        (("hi", "--input", b"\xc3\xa9\xff"), "--input: no UTF-8 text: byte 3 is no character"),
    ],
)
def test_what_would_be_answered_as_something_else_is_refused(command, words, options, message):
    texts = [os.fsdecode(option) for option in options]
    assert message in command.refused(*words, *texts)


def test_bytes_that_are_no_text_are_refused_from_standard_input(command, words):
    file = command.folder / "bytes.txt"
    file.write_bytes(b"\xff\xfehi")
    with file.open("rb") as stdin:
        assert "standard input: no UTF-8 text: byte 1 is no character" in command.refused(*words, "-", stdin=stdin)


def test_a_temperature_of_zero_stands_beside_greedy(command, words):
    assert command(*words, "hi", "--temperature", "0").returncode == 0
