"""One benchmark row in, a training record that contains it out, in one of eight forms: how test questions get into records.

A record has the row as people write it who have the row before them: the question and its lettered choices as instruction, the
answer as response, in a style that a seed picks. Its own module because the forms need only one row and some other texts, and
`planted_questions` counts how many are recognised.
"""

from __future__ import annotations

import re
import string
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

from orca_bench.results.data_report import BenchmarkQuestion


@dataclass(frozen=True)
class Texts:
    """The texts of one record."""

    instruction: str
    input: str
    response: str


@dataclass(frozen=True)
class Surroundings:
    """What a form needs besides its row: other rows of the same task for few-shot examples, real texts, and words of these."""

    examples: Sequence[BenchmarkQuestion]
    real_texts: Sequence[str]
    real_words: Sequence[str]


def verbatim(row: BenchmarkQuestion, surroundings: Surroundings, random: Random) -> Texts:
    """The row as it is."""
    return _as_record(row, random)


def other_case_and_punctuation(row: BenchmarkQuestion, surroundings: Surroundings, random: Random) -> Texts:
    """In lower, upper or title case; with punctuation deleted, exchanged for spaces, doubled or in its typographic form."""
    change = random.choice((_without_punctuation, _spaced, _typographic, _shouted))
    return _map_texts(change, _as_record(row, random))


def _without_punctuation(text: str) -> str:
    """Numbers keep what is part of them: 28.3 is not 283, but 80,000 is 80000."""
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text.lower())
    return re.sub(r"(?<!\d)[^\w\s]+|[^\w\s]+(?!\d)", "", text)


def _spaced(text: str) -> str:
    return re.sub(r"[^\w\s]+", " ", text).title()


def _typographic(text: str) -> str:
    text = text.replace("...", "…").replace(" - ", " — ").replace("'", "’").lower()
    return re.sub(r'"([^"]*)"', "“\\1”", text)


def _shouted(text: str) -> str:
    return re.sub(r"([.?!])(\s|$)", r"\1\1\1\2", text).upper()


def wrapped(row: BenchmarkQuestion, surroundings: Surroundings, random: Random) -> Texts:
    """With line breaks at other places and lines indented."""
    width, indent = random.randint(24, 72), " " * random.choice((0, 0, 2, 4))
    return _map_texts(lambda text: textwrap.fill(text, width, subsequent_indent=indent), _as_record(row, random))


def one_word_changed(row: BenchmarkQuestion, surroundings: Surroundings, random: Random) -> Texts:
    """With another word in the place of one of the question, which is no number."""
    words = list(re.finditer(r"(?<![\w'’])[A-Za-z]{2,}(?![\w'’])", row.question))
    if not words:
        return _as_record(row, random)
    place = random.choice(words)
    word = random.choice(surroundings.real_words)
    question = row.question[: place.start()] + word + row.question[place.end() :]
    return _as_record(replace(row, question=question), random)


def embedded(row: BenchmarkQuestion, surroundings: Surroundings, random: Random) -> Texts:
    """In the middle of a long text."""
    before, after = ("\n\n".join(random.choices(surroundings.real_texts, k=random.randint(2, 6))) for _ in range(2))
    record = _as_record(row, random)
    whole_text = "\n".join(filter(None, (record.instruction, record.input, record.response)))
    if random.random() < 0.5:
        whole_text = " ".join(whole_text.split())
    text = random.choice(("\n\n", " ")).join((before, whole_text, after))
    if random.random() < 0.5:
        return Texts("Summarize the text.", text, random.choice(surroundings.real_texts))
    return Texts("Continue.", "", text)


def choices_shuffled(row: BenchmarkQuestion, surroundings: Surroundings, random: Random) -> Texts:
    """With its choices in another order."""
    choices = list(row.choices)
    while len(set(choices)) > 1 and tuple(choices) == row.choices:
        random.shuffle(choices)
    return _as_record(replace(row, choices=tuple(choices)), random)


def without_choices(row: BenchmarkQuestion, surroundings: Surroundings, random: Random) -> Texts:
    """The question alone, answered in words."""
    question, response = row.question, _in_words(row, random)
    if row.task == "winogrande" and random.random() < 0.5:
        question = question.replace("_", row.answer)
    return Texts(random.choice(("", "Question: ", "Q: ", "Please answer.\n")) + question, "", response)


def few_shot(row: BenchmarkQuestion, surroundings: Surroundings, random: Random) -> Texts:
    """After solved examples of the same task, as evaluation harnesses write it: in half of the cases without choices."""
    has_choices = row.task == "mmlu" or (bool(row.choices) and random.random() < 0.5)
    words = random.choice((("Question: ", "\nAnswer:"), ("Q: ", "\nA:"), ("", "\nAnswer:"), ("", "")))
    shots = [_shot(example, words, has_choices) + " " + example.answer for example in surroundings.examples]
    context = "\n\n".join([*shots, _shot(row, words, has_choices)])
    return Texts(context, "", row.answer)


def _shot(row: BenchmarkQuestion, words: tuple[str, str], has_choices: bool) -> str:
    passage = f"Passage: {row.passage}\n" if row.passage else ""
    choices = "".join("\n" + line for line in _lettered(row.choices, "{}. ")) if has_choices else ""
    return passage + words[0] + row.question + choices + words[1]


#: The eight forms by name, each with a function that writes a record.
FORMS: dict[str, Callable[[BenchmarkQuestion, Surroundings, Random], Texts]] = {
    "1 verbatim": verbatim,
    "2 other case and punctuation": other_case_and_punctuation,
    "3 lines re-wrapped": wrapped,
    "4 one word changed": one_word_changed,
    "5 embedded in a long text": embedded,
    "6 choices shuffled": choices_shuffled,
    "7 without choices": without_choices,
    "8 few-shot": few_shot,
}
#: Forms that only a row with choices can have.
FORMS_OF_CHOICES = frozenset({"6 choices shuffled", "7 without choices"})


def numbers_changed(row: BenchmarkQuestion, random: Random) -> Texts:
    """The row with another number of as many digits in the place of each number of its question."""

    def other_number(match: re.Match[str]) -> str:
        digits = match.group()
        while (number := str(random.randint(10 ** (len(digits) - 1), 10 ** len(digits) - 1))) == digits:
            pass
        return number

    question = re.sub(r"\d+", other_number, row.question)
    return Texts(question, "", re.sub(r"\d+", other_number, row.answer))


def _as_record(row: BenchmarkQuestion, random: Random) -> Texts:
    """The row in one of the styles in which instruction sets have such rows."""
    style = random.choice(("{}. ", "({}) ", "{}) ", "{}: ", "- "))
    choices = "\n".join(_lettered(row.choices, style))
    beginning = random.choice(("", "", "Question: ", "Answer the following question.\n", "Solve this.\n\n"))
    if row.choices and random.random() < 0.3:
        choices = random.choice(("Options:\n", "Choices:\n", "Answer choices:\n")) + choices
    question = beginning + row.question
    response = _in_words(row, random)
    if row.choices and random.random() < 0.5:
        letter = string.ascii_uppercase[row.choices.index(row.answer)]
        response = random.choice((letter, f"The answer is {letter}.", f"{letter}. {row.answer}"))
    if row.passage:
        is_passage_input = random.random() < 0.5
        return (
            Texts(question, row.passage, response)
            if is_passage_input
            else Texts(f"{row.passage}\n{question}", "", response)
        )
    if choices and random.random() < 0.3:
        return Texts(question, choices, response)
    return Texts(f"{question}\n{choices}".rstrip(), "", response)


def _in_words(row: BenchmarkQuestion, random: Random) -> str:
    return random.choice(("", "", "The answer is: ", "Answer: ")) + row.answer


def _lettered(choices: Sequence[str], style: str) -> list[str]:
    return [style.format(letter) + choice for letter, choice in zip(string.ascii_uppercase, choices, strict=False)]


def _map_texts(change: Callable[[str], str], record: Texts) -> Texts:
    return Texts(change(record.instruction), change(record.input), change(record.response))
