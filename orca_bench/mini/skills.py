"""Seven small skills, each a generator of items in the schema of one of the seven data sets.

An item is one question: the row that a benchmark file holds, the texts of the question and of the short answer as the
suite's templates write them, and the response that a student is to learn (the answer, then why). `key` tells items apart:
a key that the benchmark asks is never trained on.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from orca_bench.mini.world import ANIMALS, CONTAINERS, GOODS, ITEMS, PEOPLE, SCRIPTS, THINGS


@dataclass(frozen=True)
class Item:
    """One question of a skill."""

    key: str
    row: dict[str, Any]
    question: str
    answer: str
    response: str


# --- facts: the questions that three skills ask in their own ways -------------------------------------------------

#: (kind of fact, three ways to ask it, the statement that answers it)
_ANIMAL_FACTS = (
    ("home", ("Where does the {0} live?", "What is the home of the {0}?", "Where would you look for a {0}?")),
    ("food", ("What does the {0} eat?", "What is the food of the {0}?", "What would you feed a {0}?")),
    ("colour", ("Which colour has the {0}?", "What is the colour of the {0}?", "How is a {0} coloured?")),
    (
        "legs",
        ("How many legs has the {0}?", "What is the number of legs of the {0}?", "How many legs do you see on a {0}?"),
    ),
)
_STATEMENTS = {
    "home": "the {0} lives in the {1}",
    "food": "the {0} eats {1}",
    "colour": "the {0} is {1}",
    "legs": "the {0} has {1} legs",
    "thing colour": "{0} is {1}",
    "thing place": "{0} is found in {1}",
}


def _build_facts() -> list[tuple[str, tuple[str, ...], str, str, list[str]]]:
    """(kind, ways to ask, answer, statement, wrong answers) of every fact."""
    facts = []
    for attribute_index, (attribute_name, question_templates) in enumerate(_ANIMAL_FACTS):
        all_values = sorted({attributes[attribute_index] for attributes in ANIMALS.values()})
        for animal, attributes in ANIMALS.items():
            right_value = attributes[attribute_index]
            questions = tuple(way.format(animal) for way in question_templates)
            statement = _STATEMENTS[attribute_name].format(animal, right_value)
            facts.append(
                (
                    attribute_name,
                    questions,
                    right_value,
                    statement,
                    [value for value in all_values if value != right_value],
                )
            )
    for attribute_index, attribute_name in enumerate(("thing colour", "thing place")):
        all_values = sorted({properties[attribute_index] for properties in THINGS.values()})
        for thing, properties in THINGS.items():
            right_value = properties[attribute_index]
            question_templates = (
                (f"Which colour has {thing}?", f"What is the colour of {thing}?", f"How is {thing} coloured?")
                if attribute_name == "thing colour"
                else (
                    f"Where is {thing} found?",
                    f"What is the place of {thing}?",
                    f"Where would you look for {thing}?",
                )
            )
            statement = _STATEMENTS[attribute_name].format(thing, right_value)
            facts.append(
                (
                    attribute_name,
                    question_templates,
                    right_value,
                    statement,
                    [value for value in all_values if value != right_value],
                )
            )
    return facts


FACTS = _build_facts()


def _as_sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def arc(rng: random.Random) -> Item:
    """A fact, four choices, answered by the choice's text (schema of ARC-Challenge)."""
    _, questions, right_answer, statement, wrong_answers = rng.choice(FACTS)
    question_text = rng.choice(questions)
    choices = [right_answer, *rng.sample(wrong_answers, 3)]
    rng.shuffle(choices)
    row = {
        "id": f"mini_{question_text}",
        "question": question_text,
        "choices": {"text": choices, "label": list("ABCD")},
        "answerKey": "ABCD"[choices.index(right_answer)],
    }
    return Item(
        question_text,
        row,
        f"Question: {question_text}\nAnswer:",
        right_answer,
        f"{right_answer}\nExplanation: {_as_sentence(statement)}",
    )


def truthful(rng: random.Random) -> Item:
    """A fact, one true statement among false ones (schema of TruthfulQA)."""
    attribute_name, questions, right_answer, statement, wrong_answers = rng.choice(FACTS)
    question_text = rng.choice(questions)
    true_statement = _as_sentence(statement)
    false_statements = [
        _as_sentence(_replace_last(statement, right_answer, wrong_answer))
        for wrong_answer in rng.sample(wrong_answers, 3)
    ]
    targets = {"choices": [true_statement, *false_statements], "labels": [1, 0, 0, 0]}
    row = {"question": question_text, "mc1_targets": targets, "mc2_targets": targets}
    return Item(question_text, row, f"Q: {question_text}\nA:", true_statement, true_statement)


def _replace_last(text: str, old: str, new: str) -> str:
    text_before, _, text_after = text.rpartition(old)
    return text_before + new + text_after


# --- multiple choice by letter ------------------------------------------------------------------------------------

SUBJECTS = ("elementary_mathematics", "formal_logic", "global_facts")


def mmlu(rng: random.Random, subject: str | None = None) -> Item:
    """A sum, an ordering or a fact with lettered choices, answered by the letter (schema of MMLU)."""
    subject = subject or rng.choice(SUBJECTS)
    if subject == "elementary_mathematics":
        a, b = rng.randint(1, 9), rng.randint(1, 9)
        question_text, right_answer = f"What is {a} + {b}?", str(a + b)
        wrong_answers = [str(n) for n in range(2, 19) if n != a + b]
        explanation = f"{a} + {b} = {right_answer}."
    elif subject == "formal_logic":
        tall, middle, small = people = rng.sample(PEOPLE, 3)
        question_text = f"{tall} is taller than {middle}. {middle} is taller than {small}. Who is the tallest?"
        right_answer, explanation = tall, f"{tall} is taller than {middle} and so taller than {small}."
        wrong_answers = [middle, small, rng.choice([p for p in PEOPLE if p not in people])]
    else:
        _, questions, right_answer, statement, wrong_answers = rng.choice(FACTS)
        question_text, explanation = rng.choice(questions), _as_sentence(statement)
    choices = [right_answer, *rng.sample(wrong_answers, 3)]
    rng.shuffle(choices)
    letter = "ABCD"[choices.index(right_answer)]
    row = {"question": question_text, "subject": subject, "choices": choices, "answer": choices.index(right_answer)}
    choices_text = "".join(
        f"{letter_of_choice}. {choice}\n" for letter_of_choice, choice in zip("ABCD", choices, strict=True)
    )
    question_key = f"{question_text} {choices}"
    return Item(
        question_key,
        row,
        f"{question_text}\n{choices_text}Answer:",
        letter,
        f"{letter}\nExplanation: The answer is {right_answer}. {explanation}",
    )


# --- what comes next ----------------------------------------------------------------------------------------------


def hellaswag(rng: random.Random) -> Item:
    """Two steps of an everyday script, and the step that follows (schema of HellaSwag)."""
    activity = rng.choice(sorted(SCRIPTS))
    activity_steps = SCRIPTS[activity]
    step_index = rng.randint(1, len(activity_steps) - 2)
    person = rng.choice(PEOPLE)
    other_activities = rng.sample([activity_name for activity_name in sorted(SCRIPTS) if activity_name != activity], 3)
    right_ending = f"{activity_steps[step_index + 1]}."
    endings = [right_ending, *(f"{rng.choice(SCRIPTS[activity_name])}." for activity_name in other_activities)]
    rng.shuffle(endings)
    context_text = f"{person} {activity_steps[step_index - 1]}. {person} {activity_steps[step_index]}."
    row = {
        "ind": step_index,
        "activity_label": activity,
        "ctx_a": context_text,
        "ctx_b": f"then {person}",
        "ctx": f"{context_text} then {person}",
        "endings": endings,
        "source_id": "mini",
        "split": "val",
        "split_type": "indomain",
        "label": str(endings.index(right_ending)),
    }
    question = f"{activity}: {context_text} {f'then {person}'.capitalize()}"
    return Item(f"{activity} {step_index} {person}", row, question, right_ending, right_ending)


def winogrande(rng: random.Random) -> Item:
    """Why something does not fit (schema of Winogrande, scored by partial evaluation)."""
    goods, container = rng.choice(GOODS), rng.choice(CONTAINERS)
    is_goods_too_big = rng.random() < 0.5
    reason_text = "was too big to go in." if is_goods_too_big else "was too small to hold it."
    answer_options = [goods, container]
    rng.shuffle(answer_options)
    right_option = goods if is_goods_too_big else container
    sentence = f"The {goods} did not fit into the {container} because the _ {reason_text}"
    row = {
        "sentence": sentence,
        "option1": answer_options[0],
        "option2": answer_options[1],
        "answer": str(answer_options.index(right_option) + 1),
    }
    question = sentence[: sentence.index("_")] + right_option
    return Item(f"{goods} {container} {is_goods_too_big}", row, question, reason_text, reason_text)


# --- reckoning and reading ----------------------------------------------------------------------------------------


def gsm8k(rng: random.Random) -> Item:
    """A word problem of one sum or difference, with its steps (schema of GSM8K)."""
    person, item_name = rng.choice(PEOPLE), rng.choice(ITEMS)
    a, b = rng.randint(2, 9), rng.randint(1, 9)
    if rng.random() < 0.5 or a <= b:
        question_text = f"{person} has {a} {item_name} and gets {b} more. How many {item_name} does {person} have now?"
        item_total, step_text = a + b, f"{person} gets more, so we add: {a} + {b} = <<{a}+{b}={a + b}>>{a + b}."
    else:
        question_text = f"{person} has {a} {item_name} and loses {b}. How many {item_name} does {person} have now?"
        item_total, step_text = a - b, f"{person} loses some, so we take away: {a} - {b} = <<{a}-{b}={a - b}>>{a - b}."
    answer = f"{person} starts with {a} {item_name}.\n{step_text}\n#### {item_total}"
    return Item(
        question_text,
        {"question": question_text, "answer": answer},
        f"Question: {question_text}\nAnswer:",
        answer,
        answer,
    )


def drop(rng: random.Random) -> Item:
    """Who has how many of what, read from a passage (schema of DROP)."""
    people, items = rng.sample(PEOPLE, 3), rng.sample(ITEMS, 3)
    counts = [rng.randint(2, 19) for _ in people]
    passage = " ".join(f"{p} has {n} {i}." for p, n, i in zip(people, counts, items, strict=True))
    person_index = rng.randrange(3)
    if rng.random() < 0.5:
        question_text, right_answer, is_number = (
            f"How many {items[person_index]} does {people[person_index]} have?",
            str(counts[person_index]),
            True,
        )
    else:
        question_text, right_answer, is_number = f"Who has {items[person_index]}?", people[person_index], False
    empty_answer = {
        "number": "",
        "date": {"day": "", "month": "", "year": ""},
        "spans": [],
        "worker_id": "",
        "hit_id": "",
    }
    row = {
        "section_id": "mini",
        "query_id": f"mini_{passage} {question_text}",
        "passage": passage,
        "question": question_text,
        "answer": empty_answer | ({"number": right_answer} if is_number else {"spans": [right_answer]}),
        "validated_answers": {"number": [], "date": [], "spans": [], "worker_id": [], "hit_id": []},
    }
    question = f"Passage: {passage}\nQuestion: {question_text}\nAnswer:"
    response_text = (
        f"{right_answer}\nExplanation: The passage says that {people[person_index]} has "
        f"{counts[person_index]} {items[person_index]}."
    )
    return Item(f"{passage} {question_text}", row, question, right_answer, response_text)


#: Task folder: its skill.
SKILLS: dict[str, Callable[..., Item]] = {
    "arc_challenge": arc,
    "hellaswag": hellaswag,
    "mmlu": mmlu,
    "truthful_qa": truthful,
    "winogrande": winogrande,
    "gsm8k": gsm8k,
    "drop": drop,
}
