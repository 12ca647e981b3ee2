"""What `generate` answers: an argument, standard input, or an example that it names."""

import io
import json
import os
import shutil
import sys

import pytest
from pseudo_terminal import run_on_terminal

from orca_bench.report.grid import printable_text


@pytest.fixture
def words(tiny_model):
    return ("generate", "--model", tiny_model, "--greedy", "--max-new-tokens", "8")


def test_a_dash_reads_the_instruction_from_standard_input(command, words, monkeypatch):
    def set_standard_input(text):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    set_standard_input("Q: Where does the Ω live?\nA:\n")
    from_file = command(*words, "-")
    assert from_file.returncode == 0 and from_file.stderr == ""
    assert from_file.stdout == command(*words, "Q: Where does the Ω live?\nA:").stdout
    set_standard_input(" \n")
    assert "standard input: an empty instruction" in command.refused(*words, "-")


def test_without_an_instruction_the_example_is_shown_on_standard_error(command, words):
    process = command(*words)
    example, next_line = process.stderr.splitlines()
    assert example.startswith("> Write a letter to Sam Altman")
    assert next_line == f"next: orca-bench generate 'YOUR QUESTION' --model {words[2]}"
    assert process.stdout == command(*words, example.removeprefix("> ")).stdout


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


#: Nearly uniform over the vocabulary, which has a token for each byte: control characters among them.
BYTE_SAMPLING = ("--temperature", 1000, "--top-k", 0, "--max-new-tokens", 400, "--seed", 1)


@pytest.mark.parametrize("is_of_file", [False, True])
def test_control_characters_of_answers_reach_a_pipe_and_no_terminal(command, tiny_model, is_of_file):
    write_lines(command, INSTRUCTIONS[:1])
    what = ("--file", "questions.jsonl", "--out", "answers.jsonl", "--format", "markdown") if is_of_file else ("hi",)
    words = ("generate", "--model", tiny_model, *BYTE_SAMPLING, *what)
    text = command(*words).stdout
    assert any(not character.isprintable() for character in text.replace("\n", "")), "the seed gives none"
    exit_code, terminal_text = run_on_terminal(command.folder, *words)
    assert exit_code == 0
    assert terminal_text.endswith("\n".join(map(printable_text, text.split("\n"))))  # a bar may stand before it


def test_a_temperature_of_zero_stands_beside_greedy(command, words):
    assert command(*words, "hi", "--temperature", "0").returncode == 0


INSTRUCTIONS = [
    {"id": "frog", "instruction": "Q: Where does the frog live?\nA:", "system": 5},
    {"instruction": "Say it.", "input": "`one` | two", "system": "Be <b>brief</b>."},
    {"instruction": "Count.", "answer": "an unknown key"},
]


@pytest.fixture
def of_file(command, words):
    """The words that answer the file `questions.jsonl` into `answers.jsonl`."""
    write_lines(command, INSTRUCTIONS)
    return (*words, "--file", "questions.jsonl", "--out", "answers.jsonl")


def write_lines(command, lines):
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (command.folder / "questions.jsonl").write_text(text, encoding="utf-8")


def answer_lines(command):
    text = (command.folder / "answers.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_a_file_of_instructions_gets_the_answers_that_each_would_get_alone(command, words, of_file):
    process = command(*of_file)
    assert process.returncode == 0, process.stderr
    assert process.stdout == "3 answers of 1 model: answers.jsonl, 3 of them cut after 8 tokens\n"
    lines = answer_lines(command)
    assert [(line["id"], line["teacher"], line["was_cut"]) for line in lines] == [
        ("frog", "tiny0", True),
        ("2", "tiny0", True),
        ("3", "tiny0", True),
    ]
    alone = command(*words, "Say it.", "--input", "`one` | two", "--system", "Be <b>brief</b>.")
    assert alone.stdout == lines[1]["response"] + "\n"
    records = command("data", "check", "answers.jsonl")
    assert records.returncode == 0 and "3 records" in records.stdout, "the answers are records"


def test_answers_that_are_there_are_not_computed_again(command, of_file):
    command(*of_file)
    path = command.folder / "answers.jsonl"
    first, second, third = path.read_text().splitlines()
    changed = json.dumps(json.loads(first) | {"response": "from the file"})
    path.write_text(f"{changed}\n{second}\n{third[:20]}")  # as a kill leaves it
    assert "from the file" in command(*of_file, "--format", "markdown").stdout
    assert path.read_text().splitlines() == [changed, second, third]
    write_lines(command, [*INSTRUCTIONS, {"instruction": "One more."}])
    command(*of_file)
    assert len(answer_lines(command)) == 4
    command(*of_file, "--max-new-tokens", "4")
    assert len(answer_lines(command)) == 8, "other settings are other answers"


def test_an_answer_without_its_last_newline_stays(command, of_file):
    command(*of_file)
    path = command.folder / "answers.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines))  # as an editor may save it
    command(*of_file)
    assert path.read_text() == "\n".join(lines), "all answers are there"
    write_lines(command, [*INSTRUCTIONS, {"instruction": "One more."}])
    command(*of_file)
    assert path.read_text().splitlines()[:3] == lines and len(answer_lines(command)) == 4


@pytest.mark.parametrize("content", [b"my notes\nline two", b'{"a":1}\n{"b"', b"one line", b"\xff\xfe\n", b"[1]\n"])
def test_a_file_of_something_else_is_refused_and_stays_as_it_is(command, of_file, content):
    (command.folder / "answers.jsonl").write_bytes(content)
    assert "answers.jsonl" in command.refused(*of_file)
    assert (command.folder / "answers.jsonl").read_bytes() == content


def test_models_answer_side_by_side_as_markdown(command, of_file, tmp_path):
    model = of_file[2]
    other = shutil.copytree(model, tmp_path / "other")
    process = command(*of_file, "--model", other, "--format", "markdown")
    assert process.returncode == 0, process.stderr
    assert process.stdout.count("### ") == 3 and process.stdout.count("cut at its greatest length") == 6
    assert (
        "### 2. Say it.\n\nSystem message: Be &lt;b&gt;brief&lt;/b&gt;.\n\nInput:\n\n```text\n`one` | two\n```\n"
        in process.stdout
    )
    assert "two models are called tiny0" in command.refused(*of_file, "--model", model)
    assert [line["teacher"] for line in answer_lines(command)] == ["tiny0"] * 3 + ["other"] * 3


def test_a_sample_of_a_file_is_chosen_by_the_seed(command, of_file):
    write_lines(command, [{"instruction": f"Number {number}."} for number in range(12)])

    def chosen(seed):
        (command.folder / "answers.jsonl").unlink(missing_ok=True)
        assert command(*of_file, "--sample", "3", "--seed", seed, "--max-new-tokens", "1").returncode == 0
        return [line["instruction"] for line in answer_lines(command)]

    assert chosen("1") == [f"Number {number}." for number in (0, 6, 10)], "recorded samples have these"
    assert chosen("1") == chosen("1") and len({*chosen("1"), *chosen("2"), *chosen("3")}) > 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"input": "no instruction"}', "questions.jsonl:1: no instruction"),
        ('{"instruction": 3}', "questions.jsonl:1: 'instruction' is no text"),
        ('{"instruction": "a", "system": true}', "questions.jsonl:1: 'system' is no text"),
        ('{"instruction": "a", "system": 17}', "questions.jsonl:1: 'system': 17 is not an id"),
        (r'{"instruction": "\ud800"}', "questions.jsonl:1: half of a surrogate pair"),
        ('{"instruction": "a", "sytem": 1}', "questions.jsonl:1: unknown key 'sytem'; did you mean 'system'?"),
        ('{"instruction": "a", "id": ["x"]}', "questions.jsonl:1: 'id' is no text and no whole number"),
        ("[1]", "questions.jsonl:1: a list, not a JSON object"),
        ("", "questions.jsonl: no instruction in this file"),
        ('{"instruction": "a", "id": 1}\n{"instruction": "b", "id": 1}', "instructions 1 and 2 have the id '1'"),
    ],
)
def test_a_line_that_is_no_instruction_is_named_before_any_answer(command, of_file, line, message):
    (command.folder / "questions.jsonl").write_text(line + "\n")
    assert message in command.refused(*of_file)
    assert not (command.folder / "answers.jsonl").exists()


def test_options_that_do_not_go_together_are_refused(command, words, of_file):
    assert "INSTRUCTION: the instructions are those of --file" in command.refused(*of_file, "hi")
    assert "--input: the instructions are those of --file" in command.refused(*of_file, "--input", "hi")
    assert "--file: which file gets the answers?; add --out FILE" in command.refused(
        *words, "--file", "questions.jsonl"
    )
    assert "--sample: a sample is chosen by a seed; add --seed N" in command.refused(*of_file, "--sample", "2")
    assert "--out: only with --file" in command.refused(*words, "hi", "--out", "a.jsonl")
    assert "--format: only with --file" in command.refused(*words, "hi", "--format", "markdown")
    assert "--model: several models answer a file of instructions" in command.refused(*words, "hi", "--model", "mini")
    (command.folder / "answers.jsonl").write_text('{"a": 1}\n')
    assert "answers.jsonl:1: not a line of answers; name another file" in command.refused(*of_file)
    same_file = (*words, "--file", "questions.jsonl", "--out", "questions.jsonl")
    assert "questions.jsonl is an input" in command.refused(*same_file)
