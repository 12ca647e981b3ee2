"""What `generate` answers: an argument, standard input, or an example that it names."""

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
    assert (
        example.startswith("> Write a letter to Sam Altman")
        and next_line == "next: orca-bench generate 'YOUR QUESTION'"
    )
    assert done.stdout == command(*words, example.removeprefix("> ")).stdout
