"""Planted questions: the forms, what counts as recognised, look-alikes; the contenders and the whole check on a few records."""

import json
import re
import subprocess
import sys
from pathlib import Path
from random import Random

import bench_data_check
import overlap_contenders
import planted_forms
import planted_questions
import pytest
from look_alikes import look_alikes
from planted_forms import FORMS, FORMS_OF_CHOICES, Surroundings, Texts, numbers_changed
from planted_questions import LOOK_ALIKE, NOT_PLANTED, NUMBERS_CHANGED, PlantedRecord, PlantedSearch, plant, search

from orca_bench.data.overlap.overlap_search import OverlapIndex
from orca_bench.results.data_report import BenchmarkQuestion

NOUNS = ("harbour", "granary", "orchard", "tannery", "foundry", "quarry", "chapel", "observatory", "smithy", "windmill")
SURROUNDINGS = Surroundings([], ["A porter lends umbrellas to visitors of the museum on rainy days."], ["porter"])


def row(place: int, task: str = "mmlu", **changes: object) -> BenchmarkQuestion:
    noun, number = NOUNS[place % len(NOUNS)], 11 + place
    tag = "".join("abcdefghij"[int(digit)] for digit in str(place))
    fields: dict = {
        "task": task,
        "split": "test",
        "row": place,
        "row_sha256": f"{place:064x}",
        "is_evaluated": True,
        "question": f"Which keeper{tag} painted the {noun} of Saint{tag} with {number} buckets of ochre before the flood?",
        "choices": (f"Anselm{tag}", f"Ingeborg{tag}", f"Lorcan{tag}", f"Sunniva{tag}"),
        "answer": f"Lorcan{tag}",
    }
    return BenchmarkQuestion(**{**fields, **changes})


ROWS = [row(place) for place in range(40)] + [row(place, "gsm8k", choices=(), answer="5") for place in range(40, 80)]
REAL = [Texts(f"Describe the {noun} in the rain.", "", f"The {noun} is wet, and its roof drips.") for noun in NOUNS]


@pytest.mark.parametrize("form", FORMS)
def test_a_form_changes_the_record_and_leaves_the_row_in_it(form: str) -> None:
    record = FORMS[form](row(3), SURROUNDINGS, Random(1))
    words = f"{record.instruction} {record.input} {record.response}".lower().split()
    assert "keeperd" in words and "ochre" in words
    assert ("anselmd" in " ".join(words)) or form in FORMS_OF_CHOICES | {"8 few-shot"}


def test_one_word_is_changed_and_no_number() -> None:
    for seed in range(20):
        record = planted_forms.one_word_changed(row(3), SURROUNDINGS, Random(seed))
        words = re.findall(r"\w+|\W+", row(3).question)
        changed = [
            word
            for place, word in enumerate(words)
            if "".join([*words[:place], "porter", *words[place + 1 :]]) in record.instruction
        ]
        assert len(changed) == 1 and changed[0].isalpha()


def test_shuffled_choices_are_never_in_their_old_order() -> None:
    for seed in range(20):
        record = planted_forms.choices_shuffled(row(3), SURROUNDINGS, Random(seed))
        text = f"{record.instruction}\n{record.input}"
        places = [text.index(choice) for choice in row(3).choices]
        assert places != sorted(places)


def test_other_numbers_have_as_many_digits() -> None:
    text = numbers_changed(row(3), Random(0)).instruction
    assert "14 buckets" not in text and len(text) == len(row(3).question)


def test_a_seed_gives_one_set_of_records_with_as_many_of_each_form() -> None:
    first, second = (plant(ROWS, REAL, seed=5, rows_of_form=4, others=6) for _ in range(2))
    assert first == second != plant(ROWS, REAL, seed=6, rows_of_form=4, others=6)
    groups = [record.group for record in first]
    assert {groups.count(form) for form in FORMS} == {4}
    assert [groups.count(group) for group in (LOOK_ALIKE, NUMBERS_CHANGED, NOT_PLANTED)] == [6, 6, len(REAL)]
    planted = [record.row for record in first if record.group in FORMS]
    assert len({(planted_row.task, planted_row.row) for planted_row in planted if planted_row}) == len(planted)


def test_the_search_recognises_planted_rows_and_nothing_else() -> None:
    records = plant(ROWS, REAL, seed=0, rows_of_form=4, others=31)
    result = search(OverlapIndex(ROWS), records)
    planted = [record for record in records if record.group in FORMS.keys() - {"4 one word changed"}]
    assert all(result.kind(record) == "test" for record in planted)
    assert result.alarms(NOT_PLANTED) == result.alarms(LOOK_ALIKE) == []
    assert {result.kind(record) for record in records if record.group == NUMBERS_CHANGED} == {"relative"}
    assert "| 1 verbatim | 4 | 4 | 100.0%" in "\n".join(planted_questions.recall_table(result))


def test_a_planted_row_that_is_not_reported_counts_as_missed() -> None:
    records = plant(ROWS, REAL[:1], seed=0, rows_of_form=1, others=0)
    record = next(record for record in records if record.group == "1 verbatim")
    result = PlantedSearch([record], [], ROWS)
    assert result.kind(record) == "nothing"
    assert "| 1 | 0 | 0.0%" in "\n".join(planted_questions.recall_table(result))
    assert len(planted_questions.missed_lines(result)) == 1


def test_a_hit_of_another_row_does_not_recognise_a_planted_one() -> None:
    index = OverlapIndex(ROWS)
    texts = planted_questions.record_texts(planted_forms.verbatim(row(3), SURROUNDINGS, Random(0)), "a.jsonl:1")
    record = PlantedRecord(texts, "1 verbatim", row(4))
    result = search(index, [record])
    assert (result.kind(record), result.further_test_hits()) == ("nothing", 1)


def test_look_alikes_have_every_name_filled_in_and_differ() -> None:
    records = look_alikes(200, Random(0))
    assert len({record.instruction for record in records}) == 200
    assert not any("{" in record.instruction + record.response for record in records)


def test_contenders_report_the_record_with_a_long_question() -> None:
    text = "How many barrels of tar does the shipwright of Kirkholm need for a hull of oak that is thirty metres long?"
    rows = [*ROWS, row(90, question=text)]
    records = [
        planted_questions.record_texts(texts, f"a:{place}") for place, texts in enumerate([*REAL, Texts(text, "", "9")])
    ]
    for prepare in overlap_contenders.CONTENDERS.values():
        assert prepare(rows)(records) == [len(REAL)]


def test_repeated_records_differ_from_the_first(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    lines = [
        json.dumps({"instruction": "Name a tree that grows by the sea now.", "output": text})
        for text in ("Oak it is.", "Elm")
    ]
    source.write_text("\n".join(lines))
    bench_data_check.write_repeated(tmp_path / "b.jsonl", [source], 5, seed=0)
    written_lines = (tmp_path / "b.jsonl").read_text().splitlines()
    assert len(written_lines) == 5 and written_lines[:2] == lines and written_lines[2] != lines[0]


def test_the_memory_of_children_counts() -> None:
    child = "import time; x = bytearray(b'1') * 60_000_000; time.sleep(1)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    measurement = bench_data_check.run_measured(["-c", parent])
    assert measurement.memory_gib > 0.06 and measurement.seconds > 1


def test_without_the_real_rows_nothing_is_timed(tmp_path: Path) -> None:
    program = Path(bench_data_check.__file__)
    process = subprocess.run(
        [sys.executable, str(program), "--benchmarks", str(tmp_path / "none"), "--out", str(tmp_path / "record.md")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "is not here" in process.stdout and not (tmp_path / "record.md").exists()
