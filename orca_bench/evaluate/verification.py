"""A result in, an answer to "do its kept answers give these scores?" out: every number computed again from what is kept.

From the answers of each question, by the protocol's own rules and the benchmark's rows, come the scores; from the scores the
values, errors, averages and warnings; and the hashes of requests, rows, questions and of the whole result are taken again.
What cannot be computed again (times, versions, the model's identity, token ids) is named; a change of it is found by the hash
of the whole. What cannot be found out here is whether a model gave those answers: for that it must be asked again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orca_bench.errors import UserError
from orca_bench.evaluate import benchmark_rows, protocols, request_files, result_building
from orca_bench.evaluate.protocols import Answer
from orca_bench.evaluate.scoring import Question
from orca_bench.evaluate.tasks import SUITE
from orca_bench.evaluate.tasks.task import Score, Task
from orca_bench.evaluate.verification_coverage import Place, uncovered
from orca_bench.files import read_json_lines, sha256
from orca_bench.results.reading import questions_file, read_result, seal, version_of
from orca_bench.suite import BY_NAME, task_of

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
    result = read_result(path).file_content
    file = questions_file(path)
    lines = _lines(file)
    findings = [_seal(result), _file_hash(result, file)]
    covered: set[Place] = {("format",), ("result_sha256",), ("questions_sha256",), ("requests_sha256",)}
    for number, task in enumerate(task for task in SUITE if task.name in result["tasks"]):
        progress(number, len(result["tasks"]))
        own = lines.get(task.name, [])
        questions = [_question(line) for line in own]
        if with_rows:
            read = benchmark_rows.load_again(result, task, benchmarks)
            findings.append(_rows(result, task, read, covered))
        if with_rows and result["protocol"]["name"] != "plain":
            of_requests, questions = _rescored(result, task, own, read)
            findings += of_requests
            findings.append(_warnings(result, task, read))
            covered |= {("tasks", task.name, "requests_sha256"), ("tasks", task.name, "warnings")}
            if task.generates:  # its room stands in the hash of its requests
                rooms = ("protocol", "max_new_tokens")
                covered.add(
                    (*rooms, task.name) if isinstance(result["protocol"].get("max_new_tokens"), dict) else rooms
                )
        elif with_rows:
            findings.append(
                Finding(f"{task.title}: scores", None, "scored by lm-eval's own task, which is not run here")
            )
        findings.append(_value(result, task, questions, covered))
        if result["protocol"]["name"] != "plain" and task.name in result.get("lm_eval", {}):
            findings.append(_harness(result, task, questions, covered))
    findings += [_averages(result, covered), _whole_digest(result), *_heading(result, lines, covered)]
    if with_rows:
        findings.append(_suite(result, benchmark_rows.suite(benchmarks)))
        covered |= {("suite", name) for name in ("name", "comparable", "note")}
    return [*findings, *_rest(result, covered)]


def _seal(result: dict) -> Finding:
    what = "hash of the whole result"
    if version_of(result) < 3:
        newer = "result_sha256" in result
        return Finding(what, False if newer else None, "not recorded by the version that wrote this result")
    taken, recorded = seal(result), str(result.get("result_sha256"))
    return Finding(what, taken == recorded, taken[:16] if taken == recorded else f"{taken[:16]}, told {recorded[:16]}")


def _rest(result: dict, covered: set[Place]) -> list[Finding]:
    names = uncovered(result, covered)
    if not names:
        return []
    held = "held by the hash of the whole only" if version_of(result) >= 3 else "held by nothing"
    return [Finding("not computed again", None, f"{', '.join(names)}: {held}")]


def _heading(result: dict, lines: Mapping[str, Sequence[dict]], covered: set[Place]) -> Iterator[Finding]:
    """Which tasks are done, the limit, and the protocol's description."""
    if result.get("order") is not None:
        done = set(result["order"]) <= set(result["tasks"])
        known = [name for name in BY_NAME if name in {*result["order"], *result["tasks"]}]
        matches = result.get("complete") == done and result["order"] == known
        yield Finding("complete", matches, f"{len(result['tasks'])} tasks, {len(result['order'])} ordered")
        covered |= {("complete",), ("order",)}
    counts: dict[str, int] = {}
    for line in (line for own in lines.values() for line in own):
        counts[line["task"]] = counts.get(line["task"], 0) + 1
    limit = result.get("limit")
    if counts and limit is not None:
        # Whether there were more questions only the rows can tell, so a limit that cut nothing is not covered.
        yield Finding(
            "limit", max(counts.values()) <= limit, f"{limit}; at most {max(counts.values())} questions are kept"
        )
    if counts and (limit is None or max(counts.values()) == limit):
        covered.add(("limit",))
    if result["protocol"]["name"] in protocols.OURS:
        yield _protocol(result, covered)


def _protocol(result: dict, covered: set[Place]) -> Finding:
    protocol = protocols.of_result(result["protocol"])
    described, today = result["protocol"], protocol.describe()
    if described.get("version") != today["version"]:
        return Finding("protocol", None, f"version {described.get('version')}; this orca-bench has {today['version']}")
    differing = [name for name, value in today.items() if not _same(value, described.get(name))]
    # The room for an answer is read from the result itself: only the hash of requests that have it can tell.
    covered |= {("protocol", name) for name in today if name != "max_new_tokens"}
    return Finding("protocol", not differing, f"other {', '.join(differing)}" if differing else "as it is here")


def _suite(result: dict, suite: benchmark_rows.Suite) -> Finding:
    recorded = result["suite"]
    matches = (recorded["name"], recorded["comparable"], recorded.get("note", "")) == (
        suite.name,
        suite.comparable,
        suite.note,
    )
    return Finding("suite", matches, suite.name if matches else f"{recorded['name']} told, {suite.name} by the rows")


def _rows(result: dict, task: Task, read: benchmark_rows.BenchmarkRows, covered: set[Place]) -> Finding:
    """The hashes of the rows, how many there are, and whether they are the leaderboard's."""
    entry, what = result["tasks"][task.name], f"{task.title}: rows"
    if version_of(result) < 3:
        return Finding(what, None, "hashed otherwise by the version that wrote this result")
    covered |= {("data_hashes", task.name), *(("tasks", task.name, name) for name in ("rows", "row_check"))}
    recorded = (result.get("data_hashes") or {}).get(task.name) or {}
    other = [split for split in {**recorded, **read.hashes} if recorded.get(split) != read.hashes.get(split)]
    if other:
        return Finding(what, False, f"not the rows that were asked: split {', '.join(other)} differs")
    if entry.get("rows") != len(read.evaluation_rows):
        return Finding(what, False, f"{entry.get('rows')} told, {len(read.evaluation_rows)} by the rows")
    status = benchmark_rows.check(task, read) if result["suite"]["comparable"] else None
    if entry.get("row_check") != status:
        return Finding(what, False, f"{entry.get('row_check')} told, {status} by the rows")
    hashes = ", ".join(f"{split} {digest[:8]}" for split, digest in read.hashes.items())
    return Finding(what, True, hashes if status is None else f"{hashes} ({', '.join(dict.fromkeys(status.values()))})")


def _warnings(result: dict, task: Task, read: benchmark_rows.BenchmarkRows) -> Finding:
    entry, what = result["tasks"][task.name], f"{task.title}: warnings"
    protocol = protocols.of_result(result["protocol"])
    if version_of(result) < 3 or result["protocol"].get("version") != protocol.version:
        return Finding(what, None, "worded otherwise by the version that wrote this result")
    texts = result_building.warnings(protocol, task, entry, read)
    differing = [text for text in {*texts, *entry["warnings"]} if (text in texts) != (text in entry["warnings"])]
    return Finding(what, texts == entry["warnings"], "; ".join(differing)[:200] or f"{len(texts)}")


def _harness(result: dict, task: Task, questions: Sequence[Question], covered: set[Place]) -> Finding:
    """What lm-eval says of the same scores: by part its mean, how many there are, the examples and the protocol's version."""
    recorded, parts = result["lm_eval"][task.name], {}
    for question in questions:
        parts.setdefault(question.task, []).append(question.score.value)
    place, wrong = ("lm_eval", task.name), []
    expected = {
        ("n-samples",): {part: {"original": len(own), "effective": len(own)} for part, own in parts.items()},
        ("n-shot",): {part: task.shots for part in parts},
        ("versions",): {part: result["protocol"].get("version") for part in parts},
    }
    for part, own in parts.items():
        expected["results", part, f"{task.metric},none"] = sum(own) / len(own)
        expected["results", part, "sample_len"] = len(own)
    for keys, value in expected.items():
        entry = recorded
        for key in keys:
            entry = entry.get(key) if isinstance(entry, dict) else None
        if not _same(value, entry):
            wrong.append(f"{'.'.join(keys)} {entry!r:.60} told, {value!r:.60} by the scores")
        covered.add((*place, *keys))
    return Finding(f"{task.title}: lm-eval", not wrong, "; ".join(wrong[:_SHOWN]) or "the same scores")


def _lines(file: Path) -> dict[str, list[dict]]:
    lines: dict[str, list[dict]] = {}
    for number, line in read_json_lines(file):
        missing = [name for name in ("task", "index", "row", "score", "answers") if name not in line]
        if missing:
            raise UserError(f"a question without '{missing[0]}'", where=f"{file}:{number}", hint="evaluate again")
        try:
            _check_line(line)
            _question(line)
        except (TypeError, ValueError, AttributeError, OverflowError):
            raise UserError("not a question of a result", where=f"{file}:{number}", hint="evaluate again") from None
        lines.setdefault(task_of(line["task"]), []).append(line | {"": number})
    return lines


def _check_line(line: dict) -> None:
    """Raise TypeError or ValueError where a question's place, cluster or score is none."""
    kinds = {"task": str, "index": int, "row": int, "cluster": (str, type(None)), "answers": list}
    if not all(isinstance(line.get(name), kind) for name, kind in kinds.items()):
        raise TypeError
    if not all(isinstance(flag, (bool, type(None))) for flag in line.get("ran_out") or ()):
        raise TypeError
    if not all(0 <= line[name] <= 1 for name in ("score", "whole_score") if name in line):
        raise ValueError


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
    result: dict, task: Task, lines: Sequence[dict], read: benchmark_rows.BenchmarkRows
) -> tuple[list[Finding], list[Question]]:
    """What one task's requests and scores are by the rows, and its questions scored anew."""
    protocol = protocols.of_result(result["protocol"])
    documents = {(d.task, d.index): d for d in protocol.documents(task, read, result.get("limit"))}
    digest = request_files.digest(documents.values())
    sent = result["tasks"][task.name].get("requests_sha256")
    findings = [
        Finding(
            f"{task.title}: requests",
            digest == sent,
            digest[:16] if digest == sent else f"{digest[:16]}, told {str(sent)[:16]}",
        ),
    ]
    version = result["protocol"].get("version")
    if version != protocol.version:
        other = (
            f"scored by version {version} of {protocol.name}, which is no longer scored here: taken as they are kept"
        )
        return [*findings, Finding(f"{task.title}: scores", None, other)], [_question(line) for line in lines]
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
        kept["cluster"] = task.cluster(document.row)
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


def _value(result: dict, task: Task, questions: Sequence[Question], covered: set[Place]) -> Finding:
    entry, what = result["tasks"][task.name], f"{task.title}: value"
    if not questions:
        return Finding(what, False, "no questions are kept")
    recomputed = result_building.summarize(task, questions)
    covered |= {("tasks", task.name, name) for name in recomputed}
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


def _averages(result: dict, covered: set[Place]) -> Finding:
    tasks = {name: {"stderr": None, "interval": [0.0, 1.0], **entry} for name, entry in result["tasks"].items()}
    old = result["format"].endswith(" 1")
    wrong = []
    for name, found in result_building.averages(tasks).items():
        told = result["averages"].get(name) or {}
        covered |= {("averages", name, part) for part in found}
        for part, value in found.items():
            if not _same(value, told.get(part)) and not (old and part != "value"):
                wrong.append(f"{name}, {part}: {told.get(part)!r} told, {value!r} by the tasks")
    return Finding("averages", not wrong, "; ".join(wrong) or "the means of the values")


def _whole_digest(result: dict) -> Finding:
    """The hash of all requests, which is one over those of the tasks."""
    found = request_files.digest_of([name, entry.get("requests_sha256")] for name, entry in result["tasks"].items())
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
    if isinstance(one, int) and isinstance(other, int):
        return one == other
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return abs(other) < 1e300 and math.isclose(one, other, rel_tol=1e-12, abs_tol=1e-15)
    return one == other
