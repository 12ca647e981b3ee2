"""Three searches for benchmark questions in records, each in a process of its own, with the same input and the same output.

    python overlap_contenders.py NAME INPUT.pickle OUTPUT.json

The input has the benchmark rows and the texts of the records; the output the places of the reported records, and seconds.
Its own module because each contender is timed alone, and imports no more than it needs.
"""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import re
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from orca_bench.data.overlap.overlap_search import OverlapIndex, RecordTexts
from orca_bench.results.data_report import BenchmarkQuestion

_WORDS_OF_NGRAM = 13
_RECORDS_IN_BATCH = 2048
#: A contender takes the rows and gives a function that takes records and gives the places of those that it reports.
Search = Callable[[Sequence[RecordTexts]], list[int]]


def here(rows: Sequence[BenchmarkQuestion]) -> Search:
    """The search of this project: records with an evaluated question."""
    index = OverlapIndex(rows)

    def search(records: Sequence[RecordTexts]) -> list[int]:
        place_by_location = {record.location: place for place, record in enumerate(records)}
        hits = []
        for start in range(0, len(records), _RECORDS_IN_BATCH):
            hits += index.find(records[start : start + _RECORDS_IN_BATCH])
        return sorted({place_by_location[hit.record] for hit in hits if hit.kind == "test"})

    return search


def janitor(rows: Sequence[BenchmarkQuestion]) -> Search:
    """lm-eval's class, with its defaults: records of which it takes a part for a contaminant.

    What its `clean` returns does not show that: it leaves out all that is shorter than 200 characters, contaminated or not.
    """
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):  # no C++ module
        from lm_eval.decontamination.janitor import Janitor

    class RecordingJanitor(Janitor):
        has_contaminant = False

        def _split_chunks(self, dirty_string, dirty_parts):  # type: ignore[no-untyped-def]
            parts = list(dirty_parts)
            self.has_contaminant = bool(parts)
            return super()._split_chunks(dirty_string, parts)

    cleaner = RecordingJanitor()
    for text in _evaluated_texts(rows):
        cleaner.register_contaminant_python(text)

    def search(records: Sequence[RecordTexts]) -> list[int]:
        places = []
        for place, record in enumerate(records):
            cleaner.clean_python(record.text)
            if cleaner.has_contaminant:
                places.append(place)
        return places

    return search


def ngram_set(rows: Sequence[BenchmarkQuestion]) -> Search:
    """Runs of 13 words, without case and signs, in a Python set: what one would write in ten lines."""
    ngrams = {ngram for text in _evaluated_texts(rows) for ngram in _ngrams(text)}

    def search(records: Sequence[RecordTexts]) -> list[int]:
        return [place for place, record in enumerate(records) if any(ngram in ngrams for ngram in _ngrams(record.text))]

    return search


def _ngrams(text: str) -> list[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return list(zip(*(words[start:] for start in range(_WORDS_OF_NGRAM)), strict=False))


def _evaluated_texts(rows: Sequence[BenchmarkQuestion]) -> list[str]:
    """What lm-eval's tasks give as `doc_to_decontamination_query`: the question, after its passage where it has one."""
    return [f"{row.passage} {row.question}".strip() for row in rows if row.is_evaluated]


CONTENDERS: dict[str, Callable[[Sequence[BenchmarkQuestion]], Search]] = {
    "here": here,
    "lm-eval's Janitor": janitor,
    "13-gram set": ngram_set,
}


def main() -> None:
    name, input_path, output_path = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    rows, records = pickle.loads(input_path.read_bytes())
    memory_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    search = CONTENDERS[name](rows)
    built = time.perf_counter()
    places = search(records)
    output = {
        "places": places,
        "build_seconds": built - start,
        "search_seconds": time.perf_counter() - built,
        "memory_gib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory_before) / 2**20,
    }
    output_path.write_text(json.dumps(output))


if __name__ == "__main__":
    main()
