"""The data card that `data build` writes beside the records: what it says, and that a changed one is not replaced."""

import re

import pytest
from data_recipes import manifest_of, records_of
from teacher_server import running_teacher_server


def test_the_card_says_sources_licences_teacher_and_counts(build, command):
    with running_teacher_server() as server:
        build(server)
    card = (command.folder / "out" / "README.md").read_text(encoding="utf-8")
    assert (
        "| `alpaca` | files | cc-by-nc-4.0 | 12 | 12 |" in card and "| `dolly` | files | cc-by-sa-3.0 | 8 | 8 |" in card
    )
    assert "There is no single licence" in card and "data_files: records.jsonl" in card
    assert "model: `teacher`" in card and "not finished" not in card
    assert "nothing was removed. Benchmarks were not compared.\n\nNone.\n" in card


@pytest.mark.parametrize("words", [(), ("-o", "teacher.thinking=column"), ("--columns", "published")])
def test_the_card_lists_the_columns_that_the_records_have(build, command, words):
    with running_teacher_server() as server:
        build(server, *words)
    card = (command.folder / "out" / "README.md").read_text(encoding="utf-8")
    (line,) = (line for line in card.splitlines() if line.startswith("Columns: "))
    assert re.findall("`([a-z_]+)`", line) == list(records_of(command.folder)[0])


@pytest.mark.parametrize(
    ("licenses", "front_matter", "sentence"),
    [
        (("mit", "mit"), "license: mit", "The licence is that of the instructions."),
        (("mit", None), "license: other", "There is no single licence"),
        ((None, None), "license: other", "No licence of the instructions is stated."),
    ],
)
def test_the_card_says_one_licence_where_all_sources_state_it(build, command, licenses, front_matter, sentence):
    words = [
        word
        for name, license in zip(("alpaca", "dolly"), licenses, strict=True)
        for word in ("-o", f"sources.{name}.license={license or 'null'}")
    ]
    with running_teacher_server() as server:
        build(server, *words)
    card = (command.folder / "out" / "README.md").read_text(encoding="utf-8")
    assert f"{front_matter}\n" in card and sentence in card


def test_a_card_that_somebody_has_changed_is_not_replaced(build, command):
    card = command.folder / "out" / "README.md"
    with running_teacher_server() as server:
        build(server, "-o", "sources.dolly.sample=4")
        first = card.read_text(encoding="utf-8")
        build(server)
        second = card.read_text(encoding="utf-8")
        assert "16 records" in first and "20 records" in second
        card.write_text(second.replace("# small", "# Mine"), encoding="utf-8")
        process = build(server, "--columns", "published")
    assert "the data card was changed and is not replaced: out/README.md" in process.stderr
    assert "# Mine" in card.read_text(encoding="utf-8") and manifest_of(command.folder)["columns"] == "published"


def test_the_card_says_the_faults_that_a_check_finds(build, command):
    (command.folder / "many.jsonl").write_text(2 * '{"instruction": "Why?", "output": "x"}\n', encoding="utf-8")
    with running_teacher_server() as server:
        build(server, "-o", "sources.dolly.files=many.jsonl")
    card = (command.folder / "out" / "README.md").read_text(encoding="utf-8")
    assert "| the same texts as an earlier record, its system message too | 1 | 7.1% |" in card
