"""Plant benchmark questions in real records, search the records, and say how many are recognised and what else is reported.

    python tests/benchmarks/planted_questions.py --benchmarks DIR --records alpaca.json dolly.jsonl --alarms alarms.json

2,000 rows of the evaluated splits, 250 of each of the eight forms of planted_forms.py and as many of each task as can be, stand
among 10,000 records that a seed draws, with 200 look-alikes (look_alikes.py) and 200 rows of GSM8K with other numbers. A planted
row is recognised where it, or a row with the same texts, is reported as `test`. What is reported of records without a planted
row is written to `--alarms`, as it may be a question that really is there: it must be read.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from look_alikes import look_alikes
from planted_forms import FORMS, FORMS_OF_CHOICES, Surroundings, Texts, numbers_changed

from orca_bench.data.instructions import read_instructions
from orca_bench.data.overlap.overlap_search import OverlapIndex, RecordTexts
from orca_bench.data.overlap.words import words_of
from orca_bench.results.data_report import BenchmarkQuestion, OverlapHit
from orca_bench.stats.estimates import wilson_interval

NOT_PLANTED = "not planted"
LOOK_ALIKE = "look-alike"
NUMBERS_CHANGED = "other numbers (GSM8K)"
FURTHER_PLANTED = "further records"
_EXAMPLES_OF_FEW_SHOT = 3
_RECORDS_IN_BATCH = 2048


@dataclass(frozen=True)
class PlantedRecord:
    """One record, its group (a form's name or one of the constants above), and the row that it has, if any."""

    texts: RecordTexts
    group: str
    row: BenchmarkQuestion | None = None


class PlantedSearch:
    """What a search reports of planted records; `hits` are those of `records`."""

    def __init__(self, records: Sequence[PlantedRecord], hits: Sequence[OverlapHit], rows: Sequence[BenchmarkQuestion]):
        self.records = list(records)
        self._hits_by_location: dict[str, list[OverlapHit]] = defaultdict(list)
        for hit in hits:
            self._hits_by_location[hit.record].append(hit)
        self._row_by_place = {(row.task, row.split, row.row): row for row in rows}

    def _key_of(self, hit: OverlapHit) -> tuple[object, ...]:
        return texts_key(self._row_by_place[hit.task, hit.split, hit.row])

    def kind(self, record: PlantedRecord) -> str:
        """How the row of a record is reported: test, relative or nothing; of a record without a row, the most serious kind."""
        hits = self._hits_by_location[record.texts.location]
        if record.row is not None:
            key = texts_key(record.row)
            hits = [hit for hit in hits if self._key_of(hit) == key]
        kinds = {hit.kind for hit in hits}
        return "test" if "test" in kinds else "relative" if "relative" in kinds else "nothing"

    def further_test_hits(self) -> int:
        """The number of `test` hits of planted records that name a row which was not planted there."""
        return sum(
            hit.kind == "test" and self._key_of(hit) != texts_key(record.row)
            for record in self.records
            if record.row is not None
            for hit in self._hits_by_location[record.texts.location]
        )

    def alarms(self, group: str) -> list[OverlapHit]:
        """The `test` hits of the records of a group, one a record."""
        return [
            next(hit for hit in self._hits_by_location[record.texts.location] if hit.kind == "test")
            for record in self.records
            if record.group == group and self.kind(record) == "test"
        ]


def texts_key(row: BenchmarkQuestion) -> tuple[object, ...]:
    """What tells two rows of a task apart in records: their words, the choices in any order."""
    choices = sorted(" ".join(words_of(choice)) for choice in row.choices)
    return row.task, " ".join(words_of(row.passage)), " ".join(words_of(row.question)), tuple(choices)


def plant(
    rows: Sequence[BenchmarkQuestion], real_records: Sequence[Texts], seed: int, rows_of_form: int, others: int
) -> list[PlantedRecord]:
    """The real records with planted ones among them: `rows_of_form` of each form, `others` look-alikes and as many with other
    numbers."""
    random = Random(seed)
    planted: list[tuple[Texts, str, BenchmarkQuestion | None]] = []
    drawn_rows = _Rows(rows, random)
    real_texts = ["\n".join(filter(None, (r.instruction, r.input, r.response))) for r in real_records]
    words = [word for text in real_texts[:2000] for word in re.findall(r"[a-z]{3,}", text)]
    for name, write in FORMS.items():
        for row in drawn_rows.draw(rows_of_form, has_choices=name in FORMS_OF_CHOICES):
            surroundings = Surroundings(drawn_rows.examples(row.task), real_texts, words)
            planted.append((write(row, surroundings, random), name, row))
    planted += [(texts, LOOK_ALIKE, None) for texts in look_alikes(others, random)]
    with_numbers = [row for row in rows if row.is_evaluated and row.task == "gsm8k" and re.search(r"\d", row.question)]
    for row in random.sample(with_numbers, min(others, len(with_numbers))):
        planted.append((numbers_changed(row, random), NUMBERS_CHANGED, row))
    planted += [(texts, NOT_PLANTED, None) for texts in real_records]
    random.shuffle(planted)
    return [
        PlantedRecord(record_texts(texts, f"planted.jsonl:{line}"), group, row)
        for line, (texts, group, row) in enumerate(planted, 1)
    ]


def record_texts(texts: Texts, location: str) -> RecordTexts:
    """The texts of a record with their hash and place."""
    digest = sha256("\0".join((texts.instruction, texts.input, texts.response)).encode()).hexdigest()
    return RecordTexts(location, digest, texts.instruction, texts.input, texts.response)


class _Rows:
    """The rows that are drawn: evaluated ones once each, an equal number of each task, and others as examples."""

    def __init__(self, rows: Sequence[BenchmarkQuestion], random: Random) -> None:
        self._random = random
        self._evaluated: dict[str, list[BenchmarkQuestion]] = defaultdict(list)
        self._others: dict[str, list[BenchmarkQuestion]] = defaultdict(list)
        for row in rows:
            (self._evaluated if row.is_evaluated else self._others)[row.task].append(row)
        for rows_of_task in self._evaluated.values():
            random.shuffle(rows_of_task)

    def draw(self, count: int, has_choices: bool) -> list[BenchmarkQuestion]:
        """So many rows of all tasks in turn; with `has_choices`, of tasks whose rows have choices."""
        tasks = [task for task, rows in self._evaluated.items() if rows and (rows[-1].choices or not has_choices)]
        return [self._evaluated[task].pop() for task in itertools.islice(itertools.cycle(tasks), count)]

    def examples(self, task: str) -> list[BenchmarkQuestion]:
        """Solved examples of a task, from the rows that are not evaluated; none where the task has none."""
        others = self._others[task]
        return self._random.sample(others, min(_EXAMPLES_OF_FEW_SHOT, len(others)))


def search(index: OverlapIndex, records: Sequence[PlantedRecord]) -> PlantedSearch:
    """The hits of all records."""
    hits = []
    for start in range(0, len(records), _RECORDS_IN_BATCH):
        hits += index.find([record.texts for record in records[start : start + _RECORDS_IN_BATCH]])
    return PlantedSearch(records, hits, index.questions)


def recall_table(result: PlantedSearch) -> list[str]:
    """How many planted rows are recognised, by form, as Markdown."""
    lines = [
        "| form | planted | recognised | recall, 95 % interval (Wilson) | not recognised, by task |",
        "|---|--:|--:|---|---|",
    ]
    for form in FORMS:
        records = [record for record in result.records if record.group == form]
        if not records:
            continue
        missed = [record for record in records if result.kind(record) != "test"]
        recall = 1 - len(missed) / len(records)
        low, high = wilson_interval(recall, len(records))
        tasks = Counter(record.row.task for record in missed if record.row)
        lines.append(
            f"| {form} | {len(records)} | {len(records) - len(missed)} | {recall:.1%} ({low:.1%} to {high:.1%}) "
            f"| {', '.join(f'{task} {count}' for task, count in sorted(tasks.items())) or '-'} |"
        )
    return lines


def other_table(result: PlantedSearch) -> list[str]:
    """What is reported of the other groups, as Markdown."""
    lines = ["| records | number | `test` | `relative` | nothing |", "|---|--:|--:|--:|--:|"]
    for group in (LOOK_ALIKE, NUMBERS_CHANGED, FURTHER_PLANTED, NOT_PLANTED):
        kinds = Counter(result.kind(record) for record in result.records if record.group == group)
        if kinds:
            counts = f"{kinds['test']} | {kinds['relative']} | {kinds['nothing']}"
            lines.append(f"| {group} | {kinds.total()} | {counts} |")
    return [*lines, "", f"`test` rows of planted records that were not planted there: {result.further_test_hits()}."]


def read_real_records(paths: Sequence[Path], count: int, seed: int) -> list[Texts]:
    """So many records of some files, drawn by a seed; all where there are no more."""
    records = [
        Texts(instruction.instruction_text, instruction.input_text, instruction.reference_answer)
        for path in paths
        for instruction in read_instructions(path)
        if not instruction.exclusion_reason
    ]
    return Random(seed).sample(records, min(count, len(records)))


def read_further_records(path: Path, rows: Sequence[BenchmarkQuestion]) -> list[PlantedRecord]:
    """Records of a JSON Lines file whose lines also name the row that they have: `task`, `row` (of the evaluated split)."""
    row_by_place = {(row.task, row.row): row for row in rows if row.is_evaluated}
    records = []
    for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        fields = json.loads(text)
        texts = Texts(fields["instruction"], fields.get("input", ""), fields["response"])
        row = row_by_place[fields["task"], fields["row"]]
        records.append(PlantedRecord(record_texts(texts, f"{path.name}:{line}"), FURTHER_PLANTED, row))
    return records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmarks", type=Path, required=True, metavar="DIR")
    parser.add_argument("--records", type=Path, nargs="+", required=True, metavar="FILE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows-of-form", type=int, default=250)
    parser.add_argument("--real-records", type=int, default=10_000)
    parser.add_argument("--others", type=int, default=200, help="look-alikes, and rows of GSM8K with other numbers")
    parser.add_argument(
        "--further", type=Path, metavar="FILE.jsonl", help="more records, each with its `task` and `row`"
    )
    parser.add_argument("--missed", action="store_true", help="print the planted rows that are not recognised")
    parser.add_argument("--alarms", type=Path, metavar="FILE.json", help="where to write hits of records without a row")
    options = parser.parse_args()
    from orca_bench.evaluate.benchmark_questions import load_benchmark_questions

    rows = load_benchmark_questions(options.benchmarks).questions
    real_records = read_real_records(options.records, options.real_records, options.seed)
    records = plant(rows, real_records, options.seed, options.rows_of_form, options.others)
    if options.further:
        records += read_further_records(options.further, rows)
    result = search(OverlapIndex(rows), records)
    print("\n".join([*recall_table(result), "", *other_table(result)]))
    if options.missed:
        print("\n".join(missed_lines(result)))
    if options.alarms:
        hits = result.alarms(NOT_PLANTED) + result.alarms(LOOK_ALIKE)
        options.alarms.write_text(json.dumps([hit.to_json() for hit in hits], indent=1, ensure_ascii=False))


def missed_lines(result: PlantedSearch) -> list[str]:
    """The planted rows that are not recognised, with their records."""
    return [
        f"{record.group} | {record.row.task} {record.row.row} | {result.kind(record)}\n"
        f"  row    {record.row}\n  record {record.texts}"
        for record in result.records
        if record.group in FORMS and record.row is not None and result.kind(record) != "test"
    ]


if __name__ == "__main__":
    main()
