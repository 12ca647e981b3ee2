"""Questions in, the page's data out: an index that is read at once, and compressed chunks that are read on demand.

What results of the same rows and requests have in common is stored once: the words of a question and its requests. A request is
stored as the numbers of its lines, because few-shot examples and passages are lines of many requests, and each distinct line is
stored once. Log-probabilities are rounded to three decimals; the result files have all digits. Its own module because the form
of this data is shared with the scripts (unpack.js, search.js, question.js) and with nothing else.

The elements: `page-index` (JSON), `list-words`, then chunks `texts-N` (question, number of its passage, choices), `passages-N`,
`answers-N`, `requests-N` and `lines-N`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from orca_bench.report.page.packed_chunks import json_element, packed_element, packed_elements
from orca_bench.report.page.question_list import PageQuestion
from orca_bench.results.models import Question
from orca_bench.results.question_texts import QuestionTexts, QuestionTextsLookup, RequestTexts
from orca_bench.results.reading import ResultFile
from orca_bench.suite import TASK_BY_NAME

#: Called with (questions written, all questions).
Progress: TypeAlias = Callable[[int, int], None]

_QUESTIONS_PER_CHUNK = 100
_PASSAGES_PER_CHUNK = 50
_LINES_PER_CHUNK = 300
_LIST_CHARACTERS = 140  # of a question's words in the list
_LOGPROB_DECIMALS = 3
_SCORE_DECIMALS = 4


def question_elements(
    results: Sequence[ResultFile],
    questions: Sequence[PageQuestion],
    lookups: Sequence[QuestionTextsLookup | None],
    colors: Sequence[str],
    progress: Progress,
) -> Iterator[str]:
    """The elements with all data of the questions; one lookup and one CSS colour for each result."""
    texts = [_first_texts(question, lookups) for question in questions]
    yield json_element("page-index", _index(results, questions, colors, any(texts)))
    yield packed_element("list-words", ["" if text is None else _list_words(text.question) for text in texts])
    passages = _Numbers()
    text_entries = [None if text is None else _text_entry(text, passages) for text in texts]
    yield from packed_elements("texts", text_entries, _QUESTIONS_PER_CHUNK)
    yield from packed_elements("passages", passages.values, _PASSAGES_PER_CHUNK)
    lines = _Numbers()
    for chunk_index, start in enumerate(range(0, len(questions), _QUESTIONS_PER_CHUNK)):
        progress(start, len(questions))
        chunk = questions[start : start + _QUESTIONS_PER_CHUNK]
        yield packed_element(f"answers-{chunk_index}", [_answer_entry(question) for question in chunk])
        yield packed_element(
            f"requests-{chunk_index}", [_request_entry(question, lookups, lines) for question in chunk]
        )
    yield from packed_elements("lines", lines.values, _LINES_PER_CHUNK)


class _Numbers:
    """Numbers distinct texts in the order of their first use; `values` are the texts."""

    def __init__(self) -> None:
        self._number_by_text: dict[str, int] = {}

    @property
    def values(self) -> list[str]:
        return list(self._number_by_text)

    def number(self, text: str) -> int:
        return self._number_by_text.setdefault(text, len(self._number_by_text))


def _texts_of(question: Question, lookup: QuestionTextsLookup | None) -> QuestionTexts | None:
    return None if lookup is None else lookup(question.task, question.row)


def _first_texts(question: PageQuestion, lookups: Sequence[QuestionTextsLookup | None]) -> QuestionTexts | None:
    """The words of a question from the first result that has them."""
    for result_question, lookup in zip(question.by_result, lookups, strict=True):
        if result_question is not None:
            texts = _texts_of(result_question, lookup)
            if texts is not None:
                return texts
    return None


def _index(
    results: Sequence[ResultFile],
    questions: Sequence[PageQuestion],
    colors: Sequence[str],
    has_texts: bool,
) -> dict[str, Any]:
    """What the list needs of every question: its part, row and score in each result.

    `outcomes` has a string for each result, a character a question: 0 and 1 are the score, `.` no such question, `f` the next
    of its `fractions`. Where questions are in training records, `overlaps` has [index, share in percent] of each, by result.
    """
    parts: dict[tuple[str, str], int] = {}
    part_runs: list[list[int]] = []  # [number of the part, how many questions follow one another]
    task_names: dict[str, None] = {}
    for question in questions:
        key = question.key
        part_number = parts.setdefault((key.rows_id, key.part_name), len(parts))
        task_names[key.task_name] = None
        if part_runs and part_runs[-1][0] == part_number:
            part_runs[-1][1] += 1
        else:
            part_runs.append([part_number, 1])
    outcomes, fractions = zip(*(_outcomes(questions, i) for i in range(len(results))), strict=True)
    task_by_part = {(question.key.rows_id, question.key.part_name): question.key.task_name for question in questions}
    suite_by_rows = {
        question.key.rows_id: next(
            result_file.result.suite.name
            for result_file, own_question in zip(results, question.by_result, strict=True)
            if own_question is not None
        )
        for question in questions
    }
    has_several_suites = len(set(suite_by_rows.values())) > 1
    overlaps = [_overlaps(questions, i) for i in range(len(results))]
    return {
        "results": [
            {"name": result_file.label, "color": color} for result_file, color in zip(results, colors, strict=True)
        ],
        "tasks": [[name, *_title_and_metric(results, name)] for name in task_names],
        "parts": [
            [part_name, task_by_part[rows_id, part_name], suite_by_rows[rows_id] if has_several_suites else ""]
            for rows_id, part_name in parts
        ],
        "partRuns": part_runs,
        "rows": [question.key.row_index for question in questions],
        "outcomes": list(outcomes),
        "fractions": list(fractions),
        **({"overlaps": overlaps} if any(overlaps) else {}),
        "textTasks": [name for name in task_names if _has_text_answers(questions, name)],
        "hasTexts": has_texts,
        "questionsPerChunk": _QUESTIONS_PER_CHUNK,
        "passagesPerChunk": _PASSAGES_PER_CHUNK,
        "linesPerChunk": _LINES_PER_CHUNK,
    }


def _title_and_metric(results: Sequence[ResultFile], task_name: str) -> tuple[str, str | None]:
    for result_file in results:
        entry = result_file.result.tasks.get(task_name)
        if entry is not None:
            return entry.title, entry.metric
    facts = TASK_BY_NAME.get(task_name)
    return (facts.title, facts.metric) if facts else (task_name, None)


def _has_text_answers(questions: Sequence[PageQuestion], task_name: str) -> bool:
    return any(
        isinstance(answer, str)
        for question in questions
        if question.key.task_name == task_name
        for own_question in question.by_result
        if own_question is not None
        for answer in own_question.answers[:1]
    )


def _outcomes(questions: Sequence[PageQuestion], result_index: int) -> tuple[str, list[float]]:
    characters: list[str] = []
    fractions: list[float] = []
    for question in questions:
        own_question = question.by_result[result_index]
        if own_question is None:
            characters.append(".")
        elif own_question.score in (0.0, 1.0):
            characters.append("1" if own_question.score else "0")
        else:
            characters.append("f")
            fractions.append(round(own_question.score, _SCORE_DECIMALS))
    return "".join(characters), fractions


def _overlaps(questions: Sequence[PageQuestion], result_index: int) -> list[list[int]]:
    """[index of the question, percent of it that stands in the result's training records] of each that overlaps."""
    return [
        [index, round(100 * own_question.overlap)]
        for index, question in enumerate(questions)
        if (own_question := question.by_result[result_index]) is not None and own_question.overlap is not None
    ]


def _list_words(question: str) -> str:
    words = " ".join(question[: 4 * _LIST_CHARACTERS].split())
    return words if len(words) <= _LIST_CHARACTERS else words[:_LIST_CHARACTERS] + "…"


def _text_entry(texts: QuestionTexts, passages: _Numbers) -> list[Any]:
    """[question, number of the passage or -1, choices]."""
    passage_number = passages.number(texts.passage) if texts.passage else -1
    return [texts.question, passage_number, list(texts.choices)]


def _answer_entry(question: PageQuestion) -> dict[str, Any]:
    """What each result has of a question; `gold` stands once where all agree, else in each."""
    own_questions = [own_question for own_question in question.by_result if own_question is not None]
    golds = [own_question.gold for own_question in own_questions]
    has_one_gold = all(gold == golds[0] for gold in golds)
    entry: dict[str, Any] = {
        "results": [_result_entry(own_question, has_one_gold) for own_question in question.by_result]
    }
    if has_one_gold:
        entry["gold"] = golds[0]
    clusters = dict.fromkeys(own_question.cluster for own_question in own_questions if own_question.cluster)
    if clusters:
        entry["cluster"] = next(iter(clusters))
    return entry


def _result_entry(question: Question | None, has_one_gold: bool) -> dict[str, Any] | None:
    """a: answers, p: prediction, g: gold where it is the result's own; the others only where they say something."""
    if question is None:
        return None
    answers = [round(answer, _LOGPROB_DECIMALS) if isinstance(answer, float) else answer for answer in question.answers]
    entry: dict[str, Any] = {"a": answers}
    if question.prediction is not None and [question.prediction] != question.answers:
        entry["p"] = question.prediction
    if not has_one_gold:
        entry["g"] = question.gold
    if question.mc1 is not None:
        entry["mc1"] = question.mc1
    if question.rule is not None:
        entry["rule"] = question.rule
    if any(question.whole or ()):
        entry["whole"] = question.whole
    if any(question.ran_out or ()):
        entry["ranOut"] = True
    return entry


def _request_entry(
    question: PageQuestion, lookups: Sequence[QuestionTextsLookup | None], lines: _Numbers
) -> list[list[Any]]:
    """The forms in which a question was sent: [the results of the form, contexts as numbers of lines, requests]."""
    results_by_form: list[tuple[tuple[RequestTexts, ...], list[int]]] = []
    texts_by_lookup: dict[int, QuestionTexts | None] = {}
    for result_index, (own_question, lookup) in enumerate(zip(question.by_result, lookups, strict=True)):
        if own_question is None or lookup is None:
            continue
        if id(lookup) not in texts_by_lookup:
            texts_by_lookup[id(lookup)] = _texts_of(own_question, lookup)
        texts = texts_by_lookup[id(lookup)]
        if texts is None or not texts.requests:
            continue
        for requests, result_indices in results_by_form:
            if requests is texts.requests or requests == texts.requests:
                result_indices.append(result_index)
                break
        else:
            results_by_form.append((texts.requests, [result_index]))
    return [[result_indices, *_request_form(requests, lines)] for requests, result_indices in results_by_form]


def _request_form(requests: Sequence[RequestTexts], lines: _Numbers) -> list[Any]:
    """Contexts, each once, as numbers of their lines; of each request its context's number, continuation and stop strings."""
    contexts = list(dict.fromkeys(context for context, _, _ in requests))
    context_numbers = {context: number for number, context in enumerate(contexts)}
    return [
        [[lines.number(line) for line in context.split("\n")] for context in contexts],
        [[context_numbers[context], continuation, list(stop)] for context, continuation, stop in requests],
    ]
