"""Whatever stands in a file of rows: it is read as plain values, or refused by a UserError."""

import contextlib
import json

import mutations
import pytest
from containers import CONTAINERS, PACKINGS, TABLES
from hypothesis import given
from published_instructions import PUBLISHED

from orca_bench import row_files
from orca_bench.data.conversion import convert_to_records
from orca_bench.errors import UserError
from orca_bench.evaluate import benchmark_rows as rows
from orca_bench.evaluate.tasks import SUITE
from orca_bench.mini import materialize
from orca_bench.train import record_files as training

ROWS = [{"instruction": f"Dö {n}", "input": None, "output": "x", "more": {"a": ["b"], "c": n / 2}} for n in range(12)]
FILES = {
    f"{container}, {packing}": PACKINGS[packing]((CONTAINERS | TABLES)[container](ROWS))
    for container in [*CONTAINERS, *TABLES]
    for packing in (["plain", "gzip", "zstd"] if container in ("jsonl", "parquet") else ["plain"])
}
SHAPES = {name: rows for name, (rows, _, _) in PUBLISHED.items()}


@pytest.mark.parametrize("name", FILES)
@mutations.EXAMPLES
@given(data=mutations.st.data())
def test_damaged_files(tmp_path, name, data):
    path = tmp_path / "rows"
    path.write_bytes(data.draw(mutations.damaged_bytes(FILES[name])))
    with contextlib.suppress(UserError):
        for place, row in row_files.read_rows(path):
            assert place.startswith(str(path)) and isinstance(row, dict)
            json.dumps(row, allow_nan=False, ensure_ascii=False).encode()


@pytest.mark.parametrize("name", SHAPES)
@mutations.EXAMPLES
@given(data=mutations.st.data())
def test_instructions_and_records_of_other_types_and_without_columns(tmp_path, name, data):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(data.draw(mutations.damaged_tree(SHAPES[name]))))
    with contextlib.suppress(UserError):
        convert_to_records([path], tmp_path / "out.jsonl")
        for _, row in row_files.read_rows(tmp_path / "out.jsonl"):
            texts = [row[column] for column in ("id", "system", "instruction", "input", "response")]
            assert all(isinstance(text, str) for text in texts) and row["response"].strip()
        training.read_records([str(tmp_path / "out.jsonl")], refuses_incomplete_rows=True)
    with contextlib.suppress(UserError):
        training.read_records([str(path)])


@pytest.fixture(scope="module")
def benchmark_rows(tmp_path_factory):
    folder = materialize(tmp_path_factory.mktemp("mini"))["mini:benchmarks"]
    return {
        (task.name, split): [
            json.loads(line) for line in (folder / task.name / f"{split}.jsonl").read_text().splitlines()[:8]
        ]
        for task in SUITE
        for split in filter(None, (task.evaluation_split, task.few_shot_split))
    }


@pytest.mark.parametrize("task", SUITE, ids=lambda task: task.name)
@mutations.EXAMPLES
@given(data=mutations.st.data())
def test_benchmark_rows_of_other_types_and_without_columns(tmp_path, benchmark_rows, task, data):
    for split in filter(None, (task.evaluation_split, task.few_shot_split)):
        path = tmp_path / task.name / f"{split}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(data.draw(mutations.damaged_tree(benchmark_rows[task.name, split]))))
    with contextlib.suppress(UserError):
        rows.load_task_rows(task, tmp_path)
