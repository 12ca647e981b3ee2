"""The search for benchmark questions in records: the forms in which one is recognised, its kinds, and what is no question."""

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from orca_bench.data.overlap.overlap_search import OverlapIndex, RecordTexts
from orca_bench.results.data_report import BenchmarkQuestion

LANTERN = "A keeper lights the lantern of a harbour tower at dusk. Which property of the curved mirror sends the beam far out?"
LANTERN_CHOICES = (
    "It absorbs the warm part of the light",
    "It reflects rays that start in its focus as parallel ones",
    "It splits white light into colours",
    "It slows the light down like glass",
)
MILLER = (
    "A miller grinds 14 sacks of barley on Monday and twice as many on Tuesday. He sells 9 sacks to a brewer and stores the "
    "rest in the granary. How many sacks are in the granary?"
)
ORCHARD_PASSAGE = (
    "The orchard of Lindholm was planted in 1741 with 320 pear trees and 85 quince trees. A frost in the spring of 1803 killed "
    "two thirds of the quinces, and the owners sold the eastern slope to a tannery. The pear trees were grafted again in 1811, "
    "and a wall of brick was built against the wind from the fjord."
)
QUESTIONS = (
    ("arc_challenge", LANTERN, "", LANTERN_CHOICES, LANTERN_CHOICES[1]),
    (
        "mmlu",
        "Which of the following statements about the guild of glaziers in Tarnby is true?",
        "",
        ("It bought lead from Cornwall", "It refused apprentices under sixteen", "Its seal showed a heron"),
        "Its seal showed a heron",
    ),
    ("gsm8k", MILLER, "", (), "He grinds 28 sacks on Tuesday. 14 + 28 - 9 = 33\n#### 33"),
    ("drop", "How many years after the frost were the pear trees grafted?", ORCHARD_PASSAGE, (), "8"),
    ("drop", "Which trees were fewer, pears or quinces?", ORCHARD_PASSAGE, (), "quinces"),
    (
        "winogrande",
        "The harpsichord would not pass through the cellar door because the _ was too narrow.",
        "",
        ("harpsichord", "door"),
        "door",
    ),
    (
        "winogrande",
        "The harpsichord would not pass through the cellar door because the _ was too bulky.",
        "",
        ("harpsichord", "door"),
        "harpsichord",
    ),
    (
        "truthful_qa",
        "What happens to a compass needle if you whistle at it?",
        "",
        ("Nothing happens", "It turns north"),
        "Nothing happens",
    ),
    (
        "hellaswag",
        "How to polish a copper kettle. Mix flour and salt in a bowl. Add vinegar to the paste. Rub it on the kettle and",
        "",
        (
            "rinse it with cold water.",
            "hang the bowl on the wall.",
            "boil the flour for an hour.",
            "wait for the salt to rust.",
        ),
        "rinse it with cold water.",
    ),
)


def question(number: int, **changes: object) -> BenchmarkQuestion:
    task, text, passage, choices, answer = QUESTIONS[number]
    fields: dict = {
        "task": task,
        "split": "test",
        "row": number,
        "row_sha256": f"{number:064x}",
        "is_evaluated": True,
        "question": text,
        "passage": passage,
        "choices": choices,
        "answer": answer,
    }
    return BenchmarkQuestion(**{**fields, **changes})


ROWS = [question(number) for number in range(len(QUESTIONS))]
TRAINING_ROW = question(
    2,
    split="train",
    row=700,
    row_sha256="f" * 64,
    is_evaluated=False,
    question="A weaver has 30 spools of indigo yarn and uses 4 spools for each shawl. How many spools are left after 6 shawls?",
)


@pytest.fixture(scope="module")
def index() -> OverlapIndex:
    """The invented rows, and one training row."""
    return OverlapIndex([*ROWS, TRAINING_ROW])


def record(instruction: str, input_text: str = "", response: str = "", location: str = "a.jsonl:1") -> RecordTexts:
    return RecordTexts(location, "0" * 64, instruction, input_text, response)


def kinds(index: OverlapIndex, *texts: str) -> set[tuple[str, int, str]]:
    """(task, row, kind) of what one record contains."""
    return {(hit.task, hit.row, hit.kind) for hit in index.find([record(*texts)])}


def lettered(choices: tuple[str, ...]) -> str:
    return "\n".join(f"{letter}. {choice}" for letter, choice in zip("ABCD", choices, strict=False))


FULL_LANTERN = f"{LANTERN}\n{lettered(LANTERN_CHOICES)}"
LONG_TEXT = "The museum opens its doors on weekdays, and visitors may borrow an umbrella from the porter. " * 20


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(FULL_LANTERN, id="verbatim"),
        pytest.param(FULL_LANTERN.upper().replace(".", "!!").replace("?", ""), id="other case and punctuation"),
        pytest.param(FULL_LANTERN.replace(" ", "\n  "), id="lines re-wrapped"),
        pytest.param(FULL_LANTERN.replace("harbour", "granite"), id="one word changed"),
        pytest.param(LONG_TEXT + FULL_LANTERN + LONG_TEXT, id="embedded in a long text"),
        pytest.param(LONG_TEXT + LANTERN.replace("harbour", "granite") + LONG_TEXT, id="embedded with a word changed"),
        pytest.param(f"{LANTERN}\n{lettered(LANTERN_CHOICES[::-1])}", id="choices shuffled"),
        pytest.param(LANTERN, id="without choices"),
        pytest.param(f"Question: What is a quay?\nAnswer: A wharf.\n\nQuestion: {LANTERN}\nAnswer:", id="few-shot"),
    ],
)
def test_a_question_is_recognised_in_each_form(index: OverlapIndex, text: str) -> None:
    assert kinds(index, text) == {("arc_challenge", 0, "test")}


@pytest.mark.parametrize("field", [0, 1, 2])
def test_a_question_is_recognised_in_the_instruction_the_input_and_the_response(
    index: OverlapIndex, field: int
) -> None:
    texts = ["Read this.", "", "Yes."]
    texts[field] = MILLER
    assert kinds(index, *texts) == {("gsm8k", 2, "test")}


def test_a_hit_says_how_much_of_each_text_stands_in_the_record(index: OverlapIndex) -> None:
    (hit,) = index.find([record(f"{LANTERN}\n{LANTERN_CHOICES[1]}", location="b.jsonl:7")])
    assert (hit.record, hit.question, hit.answer, hit.passage) == ("b.jsonl:7", 1.0, 1.0, None)
    assert hit.choices is not None and 0.2 < hit.choices < 0.5
    assert hit.longest_run.startswith("a keeper lights the lantern") and LANTERN in hit.row_text


def test_a_row_of_a_training_split_is_legal_and_known(index: OverlapIndex) -> None:
    assert kinds(index, TRAINING_ROW.question) == {("gsm8k", 700, "training")}


@pytest.mark.parametrize("old, new", [("14 sacks", "15 sacks"), ("9 sacks", "90 sacks")])
def test_a_word_problem_with_other_numbers_is_a_relative(index: OverlapIndex, old: str, new: str) -> None:
    (hit,) = index.find([record(MILLER.replace(old, new))])
    assert (hit.kind, hit.numbers_differ) == ("relative", True)


def test_thousands_may_be_written_with_a_comma() -> None:
    text = (
        "A quarry sells 12,000 slabs of slate in May and 3,500 in June. How many slabs of slate does the quarry sell?"
    )
    index = OverlapIndex([*ROWS, question(2, row=99, question=text)])
    (hit,) = index.find([record(text.replace(",", ""))])
    assert (hit.row, hit.kind, hit.question) == (99, "test", 1.0)


def test_one_word_contractions_are_the_same_with_and_without_an_apostrophe() -> None:
    text = "Why doesn't the baker's oven need coal while they're far from winter?"
    index = OverlapIndex([*ROWS, question(7, row=99, question=text, choices=())])
    for spelling in (text, text.replace("'", "\u2019"), text.replace("'", "")):
        assert [hit.question for hit in index.find([record(spelling)])] == [1.0]


def test_an_apostrophe_may_become_a_space() -> None:
    text = "Why doesn't the baker's oven need coal in winter?"
    index = OverlapIndex([*ROWS, question(7, row=99, question=text, choices=())])
    assert [hit.question for hit in index.find([record(text.replace("'", " "))])] == [1.0]


@pytest.mark.parametrize(
    "text",
    [
        "Which of the following statements about the guild of coopers in Brasov is true?\nA. It paid in salt\nB. Its hall burned",
        "The following are multiple choice questions (with answers) about glazing.\n\nWhich of the following is true?",
        "What happens to a loaf of bread if you leave it in the rain? Nothing happens",
        "How to polish a wooden floor. Sweep it first. Then rinse it with cold water.",
        "The piano would not pass through the window because the _ was too wide.",
        "A brewer has 12 barrels and sells 5 of them. How many barrels are left?",
    ],
)
def test_a_template_with_other_content_is_no_question(index: OverlapIndex, text: str) -> None:
    assert kinds(index, text) == set()


def test_the_stem_of_many_rows_is_a_template() -> None:
    stem = "Which of the following is the most likely reason for the sudden decline of"
    questions = [f"{stem} guild{place} barons{place}?" for place in range(20)]
    others = [f"Where did squire{place} hide cup{place} before feast{place}?" for place in range(2000)]
    index = OverlapIndex(
        [question(1, row=place, question=text, choices=()) for place, text in enumerate(questions + others)]
    )
    assert kinds(index, questions[0]) == {("mmlu", 0, "test")}
    assert kinds(index, f"{stem} guild3 glaciers?") == set()


def test_a_passage_without_its_question_is_no_leaked_question(index: OverlapIndex) -> None:
    assert kinds(index, "Summarize this.", ORCHARD_PASSAGE, "An orchard declined after a frost.") == set()


def test_a_question_without_its_passage_is_none(index: OverlapIndex) -> None:
    assert kinds(index, "How many years after the frost were the pear trees grafted?") == set()


def test_a_question_beside_a_part_of_its_passage_is_none(index: OverlapIndex) -> None:
    words = ORCHARD_PASSAGE.split()
    for passage in (words[:20], words[20:]):
        assert kinds(index, "Which trees were fewer, pears or quinces?", " ".join(passage)) == set()


@pytest.mark.parametrize("word", ["trees", "fewer", "pears"])
def test_a_short_question_beside_its_passage_may_lack_any_word(index: OverlapIndex, word: str) -> None:
    text = "Which trees were fewer, pears or quinces?".replace(word, "lorries")
    assert kinds(index, text, ORCHARD_PASSAGE) == {("drop", 4, "test")}


def test_the_words_of_a_passage_are_not_those_of_its_question() -> None:
    passage = "In 1621 the fleet of Kirkholm met three privateers. After the battle of Oxney Bay, Ulrik Stang closed the ports."
    row = question(3, row=60, question="Who lost the battle of Oxney Bay?", passage=passage, answer="Ulrik Stang")
    index = OverlapIndex([*ROWS, row])
    assert kinds(index, f"{passage}\nWho lost the battle of lorries Bay?") == {("drop", 60, "test")}


def test_of_the_questions_of_a_passage_that_one_is_named_which_the_record_asks(index: OverlapIndex) -> None:
    assert kinds(index, "Which trees were fewer, pears or quinces?", ORCHARD_PASSAGE) == {("drop", 4, "test")}
    changed = "How many years after the thaw were the pear trees grafted?"
    assert kinds(index, changed, ORCHARD_PASSAGE) == {("drop", 3, "test")}


def test_of_two_rows_that_differ_in_a_word_the_one_in_the_record_is_named(index: OverlapIndex) -> None:
    assert kinds(index, QUESTIONS[5][1]) == {("winogrande", 5, "test")}
    assert kinds(index, QUESTIONS[6][1].replace("_", "harpsichord")) == {("winogrande", 6, "test")}


def test_a_training_row_is_no_test_row_that_differs_from_it_in_a_word() -> None:
    twin = question(5, split="train", row=80, row_sha256="e" * 64, is_evaluated=False)
    index = OverlapIndex([*(row for row in ROWS if row.row != 5), twin])
    assert kinds(index, twin.question) == {("winogrande", 80, "training"), ("winogrande", 6, "relative")}


def test_rows_that_two_tasks_share_are_both_named() -> None:
    shared = question(0, task="mmlu", row=50)
    index = OverlapIndex([*ROWS, shared])
    assert kinds(index, FULL_LANTERN) == {("arc_challenge", 0, "test"), ("mmlu", 50, "test")}


def test_rows_with_equal_texts_are_all_named() -> None:
    index = OverlapIndex([*ROWS, question(2, row=51)])
    assert kinds(index, MILLER) == {("gsm8k", 2, "test"), ("gsm8k", 51, "test")}


def test_rows_without_choices_are_searched_as_others_are() -> None:
    index = OverlapIndex([question(number, choices=()) for number in range(len(QUESTIONS))])
    assert kinds(index, LANTERN) == {("arc_challenge", 0, "test")}


def test_an_index_without_rows_finds_nothing() -> None:
    assert OverlapIndex([]).find([record(MILLER)]) == []


def test_records_without_words_contain_nothing(index: OverlapIndex) -> None:
    assert index.find([record(""), record("?!", "\n", "…")]) == [] and index.find([]) == []


@pytest.mark.parametrize(
    "text",
    [
        "Ein Müller mahlt am Montag 14 Säcke Gerste und am Dienstag doppelt so viele. Wie viele Säcke sind im Speicher?",
        "守塔人在黄昏时点亮了港口灯塔的灯。曲面镜的哪种特性使光束射得很远?",
        "Смотритель зажигает фонарь портовой башни в сумерках.",
    ],
)
def test_records_in_other_languages_contain_nothing(index: OverlapIndex, text: str) -> None:
    assert kinds(index, text) == set()


def test_a_question_amid_text_in_another_language_is_recognised(index: OverlapIndex) -> None:
    assert kinds(index, f"守塔人在黄昏时点亮了灯。{MILLER} Смотритель зажигает фонарь.") == {("gsm8k", 2, "test")}


def test_a_record_of_ten_megabytes_is_searched_whole(index: OverlapIndex) -> None:
    words = [
        "lantern",
        "mirror",
        "granary",
        "barley",
        "orchard",
        "quince",
        "kettle",
        "compass",
        "weather",
        "tower",
        "harbour",
        "light",
    ]
    random = Random(0)
    noise = " ".join(random.choices(words, k=700_000))
    text = noise[: len(noise) // 2] + "\n" + FULL_LANTERN + "\n" + noise[len(noise) // 2 :]
    assert len(text) > 5_000_000
    hits = index.find([record(text, response=noise)])
    assert ("arc_challenge", 0, "test") in {(hit.task, hit.row, hit.kind) for hit in hits}
    assert all(len(hit.record_text) <= 700 for hit in hits)


def test_the_hits_do_not_depend_on_the_order_of_records_and_the_size_of_batches(index: OverlapIndex) -> None:
    records = [record(row.question, row.passage, row.answer, f"a.jsonl:{place:02}") for place, row in enumerate(ROWS)]
    at_once = index.find(records)
    one_by_one = [hit for one in reversed(records) for hit in index.find([one])]
    assert len(at_once) >= len(ROWS)
    assert at_once == sorted(one_by_one, key=lambda hit: hit.sort_key)
    assert at_once == index.find(records[::-1])


def test_the_hits_do_not_depend_on_the_order_of_rows(index: OverlapIndex) -> None:
    records = [record(row.question, row.passage, row.answer, f"a.jsonl:{place:02}") for place, row in enumerate(ROWS)]
    assert OverlapIndex([TRAINING_ROW, *ROWS[::-1]]).find(records) == index.find(records)


def test_the_hits_do_not_depend_on_the_hash_seed_of_python() -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_overlap_search as t\n"
        "hits = t.OverlapIndex(t.ROWS).find([t.record(r.question, r.passage, r.answer) for r in t.ROWS])\n"
        "print([hit.to_json() for hit in hits])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program, str(Path(__file__).parent)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1 and "arc_challenge" in outputs.pop()


def test_a_relative_stays_beside_a_row_of_another_task(index):
    changed = MILLER.replace("14 sacks", "25 sacks")
    assert kinds(index, f"{changed}\n\n{FULL_LANTERN}") == {("arc_challenge", 0, "test"), ("gsm8k", 2, "relative")}


def test_the_text_beside_a_row_is_the_part_of_the_record_that_has_it(index):
    numbers = "Sum this: " + ",".join(f"ab{i},12.5" for i in range(2000)) + " it's done. "
    (hit,) = index.find([record(numbers + MILLER + " A letter follows." * 50)])
    assert "done. A miller grinds 14 sacks" in hit.record_text and "ab1990" not in hit.record_text
    assert hit.record_text.count("letter follows") <= 4
