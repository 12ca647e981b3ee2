"""A result in, an answer to "do its kept answers give these scores?" out: every number computed again from what is kept.

From the answers of each question, by the protocol's own rules and the benchmark's rows, come the scores; from the scores the
values, errors and averages; and the hashes of requests, rows and questions are taken again. What cannot be found out here is
whether a model gave those answers: for that it must be asked again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from orca_bench.errors import UserError
from orca_bench.evaluate import protocols, requests, results, rows
from orca_bench.evaluate.protocols import Answer
from orca_bench.evaluate.scoring import Question
from orca_bench.evaluate.tasks import SUITE
from orca_bench.evaluate.tasks.base import Score, Task
from orca_bench.files import read_json_lines, sha256
from orca_bench.result_file import questions_file, read_result
from orca_bench.suite import task_of

_SHOWN = 5  # differences of one kind that are named
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Finding:
    """One thing that was recomputed: what, whether it matched (None: could not be checked), and the detail."""

    what: str
    matches: bool | None
    detail: str


def verify(
    path: Path, benchmarks: Path | None, with_rows: bool = True, progress: Progress = lambda n, of: None
) -> list[Finding]:
    """Recompute a result; `benchmarks` are the rows, None for the hub. Without rows, scores are taken as they are kept.

    Raises UserError where the files cannot be read, or the rows cannot be had.
    """
    result = read_result(path)
    file = questions_file(path)
    lines = _lines(file)
    findings = [_file_hash(result, file)]
    for number, task in enumerate(task for task in SUITE if task.name in result["tasks"]):
        progress(number, len(result["tasks"]))
        own = lines.get(task.name, [])
        questions = [_question(line) for line in own]
        if with_rows and result["protocol"]["name"] != "plain":
            found, questions = _rescored(result, task, own, rows.load(task, benchmarks), file)
            findings += found
        elif with_rows:
            findings.append(
                Finding(f"{task.title}: scores", None, "scored by lm-eval's own task, which is not run here")
            )
        findings.append(_value(result, task, questions))
    findings += [_averages(result), _whole_digest(result)]
    return findings


def _lines(file: Path) -> dict[str, list[dict]]:
    lines: dict[str, list[dict]] = {}
    for number, line in read_json_lines(file):
        missing = [name for name in ("task", "index", "row", "score", "answers") if name not in line]
        if missing:
            raise UserError(f"a question without '{missing[0]}'", where=f"{file}:{number}", hint="evaluate again")
        try:
            _question(line)
        except (TypeError, ValueError):
            raise UserError("not a question of a result", where=f"{file}:{number}", hint="evaluate again") from None
        lines.setdefault(task_of(str(line["task"])), []).append(line | {"": number})
    return lines


def _file_hash(result: dict, file: Path) -> Finding:
    told = result.get("questions_sha256")
    if told is None:
        return Finding("hash of the questions", None, "not recorded by the version that wrote this result")
    found = sha256(file)
    return Finding(
        "hash of the questions", found == told, found[:16] if found == told else f"{found[:16]}, told {told[:16]}"
    )


def _question(line: dict) -> Question:
    extra = {name: line[name] for name in ("whole_score",) if name in line}
    score = Score(float(line["score"]), line.get("prediction"), line.get("gold"), extra)
    return Question(line["task"], line["index"], line["row"], score, _answers(line), line.get("cluster"))


def _answers(line: dict) -> list[Answer]:
    values = line["answers"]
    facts = [line.get(name) or [None] * len(values) for name in ("greedy", "whole", "ran_out")]
    return [Answer(*parts) for parts in zip(values, *facts, strict=True)]


def _rescored(
    result: dict, task: Task, lines: Sequence[dict], read: rows.Rows, file: Path
) -> tuple[list[Finding], list[Question]]:
    """What was found of one task's rows, requests and scores, and its questions scored anew."""
    told = (result.get("data_hashes") or {}).get(task.name)
    if told != read.hashes:
        other = [split for split in read.hashes if (told or {}).get(split) != read.hashes[split]]
        detail = f"not the rows that were asked: split {', '.join(other)} differs"
        return [Finding(f"{task.title}: rows", False, detail)], [_question(line) for line in lines]
    protocol = protocols.named(result["protocol"]["name"], result["protocol"].get("system", ""))
    documents = {(d.task, d.index): d for d in protocol.documents(task, read, result.get("limit"))}
    digest = requests.digest(documents.values())
    sent = result["tasks"][task.name].get("requests_sha256")
    rows_told = result["tasks"][task.name].get("rows")
    hashes = ", ".join(f"{split} {found[:8]}" for split, found in read.hashes.items())
    findings = [
        Finding(
            f"{task.title}: rows",
            rows_told == len(read.asked),
            hashes if rows_told == len(read.asked) else f"{rows_told} told, {len(read.asked)} by the rows",
        ),
        Finding(
            f"{task.title}: requests",
            digest == sent,
            digest[:16] if digest == sent else f"{digest[:16]}, told {str(sent)[:16]}",
        ),
    ]
    questions, wrong = [], []
    for line in lines:
        document = documents.get((line["task"], line["index"]))
        if document is None or document.row_number != line["row"] or len(line["answers"]) != len(document.requests):
            wrong.append(f"line {line['']}: not a question of this protocol, rows and limit")
            continue
        try:
            given = _answers(line)
            score = protocol.score(task, document, given)
        except (TypeError, ValueError, AttributeError, IndexError):
            wrong.append(f"line {line['']}: answers that cannot be scored")
            continue
        questions.append(Question(line["task"], line["index"], line["row"], score, given, task.cluster(document.row)))
        kept = {"score": score.value, "prediction": score.prediction, "gold": score.gold, **score.extra}
        differing = [name for name, value in kept.items() if not _same(value, line.get(name))]
        if differing:
            name = differing[0]
            wrong.append(
                f"line {line['']} ({line['task']} row {line['row']}): {name} {line.get(name)!r:.60} kept, {kept[name]!r:.60} "
                "by its answers"
            )
    absent = len(documents) - len(questions) - len(wrong)
    if absent > 0:
        wrong.append(f"{absent} questions are missing")
    detail = f"{len(questions):,} questions" if not wrong else "; ".join(wrong[:_SHOWN]) + _more(wrong)
    findings.append(Finding(f"{task.title}: scores", not wrong, detail))
    return findings, questions


def _more(wrong: list[str]) -> str:
    return f"; … {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""


def _value(result: dict, task: Task, questions: Sequence[Question]) -> Finding:
    entry, what = result["tasks"][task.name], f"{task.title}: value"
    if not questions:
        return Finding(what, False, "no questions are kept")
    recomputed = results.summarize(task, questions)
    wrong = [
        f"{name} {entry.get(name)!r:.60} told, {value!r:.60} by the scores"
        for name, value in recomputed.items()
        if not _same(value, entry.get(name))
    ]
    if result["format"].endswith(" 1"):  # whose standard errors knew no clusters
        wrong = [
            line for line in wrong if line.split()[0] in entry and not line.startswith(("stderr", "subjects", "whole"))
        ]
    shown = f"{task.metric} {100 * recomputed['value']:.2f}, {recomputed['n']:,} questions"
    return Finding(what, not wrong, "; ".join(wrong) or shown)


def _averages(result: dict) -> Finding:
    tasks = {name: {"stderr": None, "interval": [0.0, 1.0], **entry} for name, entry in result["tasks"].items()}
    old = result["format"].endswith(" 1")
    wrong = []
    for name, found in results.averages(tasks).items():
        told = result["averages"].get(name) or {}
        for part, value in found.items():
            if not _same(value, told.get(part)) and not (old and part != "value"):
                wrong.append(f"{name}, {part}: {told.get(part)!r} told, {value!r} by the tasks")
    return Finding("averages", not wrong, "; ".join(wrong) or "the means of the values")


def _whole_digest(result: dict) -> Finding:
    """The hash of all requests, which is one over those of the tasks."""
    found = requests.digest_of([name, entry.get("requests_sha256")] for name, entry in result["tasks"].items())
    told = str(result.get("requests_sha256"))
    return Finding(
        "hash of all requests", found == told, found[:16] if found == told else f"{found[:16]}, told {told[:16]}"
    )


def _same(one: object, other: object) -> bool:
    """Whether two values are the same as JSON; numbers to fifteen digits."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, (int, float)) and isinstance(other, (int, float)) and not isinstance(one, bool):
        return math.isclose(one, other, rel_tol=1e-12, abs_tol=1e-15)
    return one == other
