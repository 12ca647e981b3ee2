"""Benchmark questions and Alpaca's records in, the records of two students out: one with 500 questions that it is tested on.

    orca-bench requests --tasks truthful_qa,winogrande --benchmarks DIR --out requests.jsonl
    python tests/benchmarks/planted_twins.py requests.jsonl --benchmarks DIR --records alpaca.jsonl.gz --out FOLDER

Both students get the same 500 records of Alpaca; `planted.jsonl` has 400 questions of TruthfulQA and 100 of Winogrande besides,
in the prompts in which orca-bench asks them, `clean.jsonl` 500 further records. What came of it: results/overlap/README.md.
"""

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

from orca_bench import files, row_files
from orca_bench.evaluate.benchmark_rows import load_task_rows
from orca_bench.evaluate.tasks import truthful_qa, winogrande
from orca_bench.files import write_json_lines

_QUESTION_COUNTS = {"truthful_qa": 400, "winogrande": 100}
_RECORD_COUNT = 500
_LONGEST_RESPONSE = 500  # characters
_SYSTEM_HEADER, _USER_HEADER, _END = "### System:\n", "\n\n### User:\n", "\n\n### Response:\n"

Record = dict[str, str]


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("requests", type=Path)
    parser.add_argument("--benchmarks", type=Path, required=True)
    parser.add_argument("--records", type=Path, required=True, help="Alpaca's")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    generator = random.Random(options.seed)
    planted = []
    named_records = list(answered_requests(options.requests, options.benchmarks))
    for task_name, count in _QUESTION_COUNTS.items():
        planted += generator.sample([record for name, record in named_records if name == task_name], count)
    system = planted[0]["system"]
    alpaca = [row for _, row in row_files.read_rows(options.records) if 0 < len(row["output"]) < _LONGEST_RESPONSE]
    records = [
        {"system": system, "instruction": row["instruction"], "input": row["input"], "response": row["output"]}
        for row in generator.sample(alpaca, 2 * _RECORD_COUNT)
    ]
    files.make_writable_folder(options.out)
    for name, further_records in (("planted", planted), ("clean", records[_RECORD_COUNT:])):
        twin = [*records[:_RECORD_COUNT], *further_records]
        generator.shuffle(twin)
        write_json_lines(options.out / f"{name}.jsonl", twin)


def answered_requests(requests_file: Path, benchmarks_folder: Path) -> Iterator[tuple[str, Record]]:
    """(task, record) of each request whose continuation is right: its prompt with its answer."""
    truths = {
        (row["question"], answer)
        for row in load_task_rows(truthful_qa.TASK, benchmarks_folder).evaluation_rows
        for answer in row["mc2_targets"]["choices"][:1]
    }
    sentences = {
        (sentence, rest.strip())
        for row in load_task_rows(winogrande.TASK, benchmarks_folder).evaluation_rows
        for sentence, rest in [winogrande.TASK.question_continuation_pairs(row)[winogrande.TASK.gold(row)]]
    }
    for _, request in row_files.read_rows(requests_file):
        system, prompt = request["context"].removeprefix(_SYSTEM_HEADER).split(_USER_HEADER, 1)
        prompt = prompt.removesuffix(_END)
        question, answer = prompt.rsplit("\n\n", 1)[-1], request["continuation"]
        plain_question = question.removeprefix("Q: ").removesuffix("\nA:")
        if (plain_question, answer.strip()) in truths or (question, answer.strip()) in sentences:
            yield request["task"], {"system": system, "instruction": prompt, "input": "", "response": answer.strip()}


if __name__ == "__main__":
    main()
