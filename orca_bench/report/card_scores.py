"""Results of one model in, what its card says of them out: the section of scores, a sentence, limits, and hashes.

Its own module because the card shows scores to a reader who knows neither orca-bench nor the benchmarks, and so says more of
each than a table does. All texts are Markdown, but for the sentence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from orca_bench.cards import markdown
from orca_bench.report.conclusions import scores_sentence
from orca_bench.report.grid import format_score
from orca_bench.report.notes import number_title
from orca_bench.report.overlap_text import overlap_notes
from orca_bench.report.score_table import metric_words
from orca_bench.results.models import Result
from orca_bench.results.reading import ResultFile
from orca_bench.results.task_facts import display_factor, tasks_of
from orca_bench.results.task_results import OTHER_ROWS, UNVERIFIED_ROWS, TaskResult
from orca_bench.suite import AVERAGE_TITLE_BY_NAME, TASK_BY_NAME

_PROTOCOL_DESCRIPTIONS = {
    "leaderboard": "the prompts, few-shot examples, stop rules and scores of the Open LLM Leaderboard v1",
    "orca": "each question in the Orca prompt",
    "chat": "each question in the model's own chat template",
    "plain": "lm-evaluation-harness with its own prompts of today",
}


_MOST_OPEN_NOTES = 2  # more of them are folded away
_ORCA_PROMPT_TEXT = {
    True: ", tokenized and scored as the model was trained",
    False: ", in which this model was not tuned here",
    None: "",
}


def conclusion(result_files: Sequence[ResultFile], name: str) -> str:
    """What was found, in a sentence for each result."""
    return " ".join(scores_sentence([replace(result_file, label=name)]) for result_file in result_files)


def scores_section(
    result_files: Sequence[ResultFile], pictures: Sequence[tuple[str, str]], is_trained_in_orca_prompt: bool | None
) -> str:
    """The section: the table with errors and protocol, what its numbers are, and pictures.

    `pictures` has, of each, its numbers in words and the name of its file; `is_trained_in_orca_prompt` is None where that is not
    known.
    """
    if not result_files:
        return "No scores are stated: none was measured on all questions of a task.\n"
    results = [result_file.result for result_file in result_files]
    headings = [_heading(result) for result in results]
    lines = [_partial_warning(results), _table(results, headings)]
    explanations = [*_explanations(results, is_trained_in_orca_prompt), *_overlap_lines(results, headings)]
    score_notes = _score_notes(results, headings)
    if len(score_notes) <= _MOST_OPEN_NOTES:
        lines.append(markdown.bullets([*explanations, *score_notes]))
    else:
        lines.append(markdown.bullets(explanations))
        lines.append(markdown.folded(f"{len(score_notes)} notes on single scores", markdown.bullets(score_notes)))
    lines += [f"![{markdown.plain(description)}]({file_name})\n" for description, file_name in pictures]
    return "\n".join(filter(None, lines))


def score_limits(result_files: Sequence[ResultFile]) -> list[str]:
    """What the scores say that the model is not good for: tasks at chance or below, tasks without a right answer."""
    limits = []
    results = [result_file.result for result_file in result_files]
    headings = [_heading(result) for result in results]
    for heading, result in zip(headings, results, strict=True):
        under_text = f" ({heading})" if len(results) > 1 else ""
        at_chance, wrong = [], []
        for name, task_result in result.tasks.items():
            chance = _chance(name, task_result)
            if task_result.value == 0:
                wrong.append(_title(name, task_result))
            elif chance is not None and task_result.interval is not None and task_result.interval[0] <= chance:
                at_chance.append(
                    f"{_title(name, task_result)} ({100 * task_result.value:.1f}, guessing {100 * chance:.0f})"
                )
        if at_chance:
            limits.append(f"No better than guessing is shown on {', '.join(at_chance)}{under_text}.")
        if wrong:
            limits.append(f"It answered no question of {', '.join(wrong)} right{under_text}.")
    if any(not result.suite.comparable for result in results):
        limits.append(
            "Its scores are of a suite of generated questions and say nothing of how it does on the benchmarks of these names."
        )
    if any(result.question_limit for result in results):
        limits.append("Its scores are of a part of the questions only.")
    return limits


def score_provenance(result_files: Sequence[ResultFile]) -> list[tuple[str, str]]:
    """(what, value) of hashes and versions of the results."""
    rows: dict[str, str] = {}
    for result_file in result_files:
        result, name = result_file.result, markdown.code(result_file.path.name)
        if result.model.fingerprint:
            rows["weights"] = markdown.code(result.model.fingerprint)
        if result.model.commit:
            rows["commit of the model"] = markdown.code(result.model.commit)
        if result.result_sha256:
            rows[f"result {name}"] = markdown.code(result.result_sha256)
        if result.requests_sha256:
            rows[f"requests of {name}"] = markdown.code(result.requests_sha256)
        versions = ", ".join(f"{library} {version}" for library, version in result.versions.items())
        created = f"{result.created or 'at an unknown time'}: {result.model.dtype or 'unknown dtype'}, {versions}"
        rows[f"{name} measured"] = markdown.plain(created)
    return list(rows.items())


def _heading(result: Result) -> str:
    """The protocol, and what a reader must know not to mistake the number for another."""
    parts = [result.protocol.name_and_version]
    if not result.suite.comparable:
        parts.append(f"{result.suite.name} suite")
    if result.question_limit:
        parts.append(result.question_limit.phrase)
    if not result.complete:
        parts.append("unfinished")
    return markdown.plain(", ".join(parts))


def _partial_warning(results: Sequence[Result]) -> str:
    limits = sorted(
        {result.question_limit for result in results if result.question_limit}, key=lambda limit: limit.sort_key
    )
    if not limits:
        return ""
    return f"**Partial scores**: only of the {', or of the '.join(limit.full_text for limit in limits)}.\n"


def _table(results: Sequence[Result], headings: Sequence[str]) -> str:
    """The scores beside the tasks, so that a narrow screen shows them, then what they were measured on."""
    has_chance = any(_chance(name, task) is not None for result in results for name, task in result.tasks.items())
    tasks = tasks_of(results)
    counts = {
        task.name: {result.tasks[task.name].n for result in results if task.name in result.tasks} for task in tasks
    }
    rows = []
    for task in tasks:
        task_results = [result.tasks.get(task.name) for result in results]
        known_result = next((task_result for task_result in task_results if task_result is not None), None)
        if known_result is None:
            continue
        chance = _chance(task.name, known_result)
        shots = task.shots if known_result.shots is None else known_result.shots
        row = [_title(task.name, known_result), *(_score_text(task_result) for task_result in task_results)]
        row += ["–" if chance is None else f"{100 * chance:.0f}"] if has_chance else []
        row += [" / ".join(f"{n:,}" for n in sorted(counts[task.name])), str(shots)]
        rows.append([*row, markdown.plain(metric_words(replace(task, metric=known_result.metric)))])
    for name, title in AVERAGE_TITLE_BY_NAME.items():
        averages = [result.averages.get(name) for result in results]
        if any(average is not None and average.value is not None for average in averages):
            texts = [
                "–" if average is None else format_score(average.value, average.stderr, average.interval)
                for average in averages
            ]
            blank_cells = [""] * (4 if has_chance else 3)
            rows.append([f"**{title}**", *(f"**{text}**" for text in texts), *blank_cells])
    columns = ["Task", *headings, *(["Guessing"] if has_chance else []), "Questions", "Shots", "Metric"]
    return markdown.table(columns, rows, right_columns=range(1, len(columns) - 1))


def _title(name: str, task_result: TaskResult) -> str:
    """A task's title; that of a task that the suite does not have is the result's own, and escaped."""
    return TASK_BY_NAME[name].title if name in TASK_BY_NAME else markdown.plain(task_result.title)


def _score_text(task_result: TaskResult | None) -> str:
    if task_result is None:
        return "–"
    if display_factor(task_result) == 100:
        return format_score(task_result.value, task_result.stderr, task_result.interval)
    return (
        f"{task_result.value:.2f}" if not task_result.stderr else f"{task_result.value:.2f} ± {task_result.stderr:.2f}"
    )


def _explanations(results: Sequence[Result], is_trained_in_orca_prompt: bool | None) -> Iterator[str]:
    """What the numbers are: percent and errors, each protocol once, the suite."""
    yield "Percent ± standard error. Where all answers have the same score, the 95 % interval stands instead."
    for protocol in dict.fromkeys(result.protocol.name for result in results):
        prompt_text = _ORCA_PROMPT_TEXT[is_trained_in_orca_prompt] if protocol == "orca" else ""
        yield f"{markdown.code(protocol)}: {_PROTOCOL_DESCRIPTIONS[protocol]}{prompt_text}."
    for suite in dict.fromkeys(result.suite.name for result in results if not result.suite.comparable):
        yield (
            f"The {markdown.plain(suite)} suite has the leaderboard's form and not its questions: its scores compare with each "
            "other only, and stand in no metadata."
        )


def _overlap_lines(results: Sequence[Result], headings: Sequence[str]) -> list[str]:
    """What is to be known of questions in the training records; never folded away, for it decides what a score is worth."""
    lines: dict[str, None] = {}
    for heading, result in zip(headings, results, strict=True):
        for note in overlap_notes(heading, result):
            titles = [number_title(number) for number in note.numbers if number.name]
            text = f"{', '.join(titles)}: {note.text}" if titles else f"{note.text[0].upper()}{note.text[1:]}"
            lines[f"{text}{f' ({heading})' if len(results) > 1 else ''}."] = None
    return list(lines)


def _score_notes(results: Sequence[Result], headings: Sequence[str]) -> list[str]:
    """What a reader must know of single scores: tasks that are not finished, rows, warnings; each text once."""
    scores_by_note: dict[str, list[tuple[str, str]]] = {}  # (heading, task's title)
    for heading, result in zip(headings, results, strict=True):
        notes_by_title = {
            TASK_BY_NAME[name].title: ["not finished"] for name in result.missing_task_names if name in TASK_BY_NAME
        }
        of_model = [*result.model.warnings, *result.model.server_differences, *result.answer_notes]
        for name, task_result in result.tasks.items():
            row_note = _row_note(result, name)
            notes_by_title[_title(name, task_result)] = [*row_note, *task_result.warnings, *of_model]
        for title, notes in notes_by_title.items():
            for note in notes:
                scores_by_note.setdefault(note, []).append((heading, title))
    score_count = sum(len(result.tasks) for result in results)
    return [
        f"{_scores_text(scores, score_count, len(results))}: {markdown.plain(note)}."
        for note, scores in scores_by_note.items()
    ]


def _scores_text(scores: Sequence[tuple[str, str]], score_count: int, result_count: int) -> str:
    """Which scores a note is on: `all`, or tasks by result."""
    if len(scores) == score_count:
        return "All scores"
    titles_by_heading: dict[str, list[str]] = {}
    for heading, title in scores:
        titles_by_heading.setdefault(heading, []).append(title)
    if len({tuple(titles) for titles in titles_by_heading.values()}) == 1 and len(titles_by_heading) == result_count:
        return ", ".join(next(iter(titles_by_heading.values())))
    return "; ".join(f"{', '.join(titles)} ({heading})" for heading, titles in titles_by_heading.items())


def _row_note(result: Result, name: str) -> list[str]:
    """Whether a task was measured on the leaderboard's own rows, where it was not known to be."""
    if not result.suite.comparable or name not in TASK_BY_NAME:
        return []
    status = result.tasks[name].row_status(TASK_BY_NAME[name].evaluation_split)
    if status == OTHER_ROWS:
        return ["measured on other rows than the leaderboard's, so not comparable with scores reported there"]
    return ["not verified to be measured on the leaderboard's own rows"] if status == UNVERIFIED_ROWS else []


def _chance(name: str, task_result: TaskResult) -> float | None:
    """What guessing scores on a task, a fraction of 1; None where that is not one number."""
    if task_result.chance is not None:
        return task_result.chance
    chance_percent = TASK_BY_NAME[name].chance_percent if name in TASK_BY_NAME else None
    return None if chance_percent is None else chance_percent / 100
