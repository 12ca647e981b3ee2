"""Benchmark rows are read from the files that people carry: the hub's Parquet in its layouts, and any other kind of file."""

import gzip
import json
import shutil

import pytest
from containers import CONTAINERS, PACKINGS

from orca_bench.errors import UserError
from orca_bench.evaluate import benchmark_rows
from orca_bench.evaluate.tasks import SUITE

TASKS = {task.name: task for task in SUITE}


@pytest.fixture(scope="module")
def few(shared):
    """The first rows of each split of each task, as they are published."""

    def read(task, split):
        with gzip.open(shared / "benchmarks" / task / f"{split}.jsonl.gz", "rt", encoding="utf-8") as lines:
            return [json.loads(line) for line, _ in zip(lines, range(40), strict=False)]

    return {
        name: {split: read(name, split) for split in filter(None, (task.evaluation_split, task.few_shot_split))}
        for name, task in TASKS.items()
    }


def write(benchmarks, few, name, layout, container="parquet", packing="plain"):
    """The splits of a task under `layout`, a pattern for the path of a file."""
    task = TASKS[name]
    owner, _, repository = task.facts.hub_dataset[0].rpartition("/")
    for split, split_rows in few[name].items():
        places = {
            "TASK": name,
            "SPLIT": split,
            "CONFIG": task.facts.hub_dataset[1] or "default",
            "OWNER": owner,
            "REPO": repository,
        }
        path = layout
        for word, value in places.items():
            path = path.replace(word, value)
        path = benchmarks / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PACKINGS[packing](CONTAINERS[container](split_rows)))


LAYOUTS = (
    "TASK/SPLIT.parquet",
    "TASK/SPLIT-00000-of-00001.parquet",
    "TASK/SPLIT-00000-of-00001-a09b74b3ef9c3b56.parquet",
    "TASK/CONFIG/SPLIT-00000-of-00001.parquet",
    "TASK/data/SPLIT-00000-of-00001.parquet",
    "TASK/CONFIG/SPLIT/0000.parquet",
    "OWNER/REPO/CONFIG/SPLIT-00000-of-00001.parquet",
    "OWNER/REPO/data/SPLIT-00000-of-00001.parquet",
    "REPO/CONFIG/SPLIT-00000-of-00001.parquet",
    "REPO/data/SPLIT-00000-of-00001.parquet",
    "datasets--OWNER--REPO/snapshots/0123abcd/CONFIG/SPLIT-00000-of-00001.parquet",
)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_of_the_hub_gives_the_rows_and_hashes_of_json_lines(few, tmp_path, layout):
    for name, task in TASKS.items():
        write(tmp_path / "ours", few, name, "TASK/SPLIT.jsonl.gz", "jsonl", "gzip")
        write(tmp_path / "hub", few, name, layout)
        ours, hub = (
            benchmark_rows.load_task_rows(task, tmp_path / "ours"),
            benchmark_rows.load_task_rows(task, tmp_path / "hub"),
        )
        assert ours.hashes_by_split == hub.hashes_by_split
        if name != "drop":  # the copy at hand has columns of its own where rows of one type are needed
            assert ours.evaluation_rows == hub.evaluation_rows and ours.few_shot_pool == hub.few_shot_pool


@pytest.mark.parametrize(
    ("ending", "container", "packing"),
    [
        ("jsonl", "jsonl", "plain"),
        ("jsonl.zst", "jsonl", "zstd"),
        ("json", "json", "plain"),
        ("json.gz", "json minified", "gzip"),
        ("jsonl", "json", "plain"),
        ("parquet", "parquet", "plain"),
        ("jsonl", "jsonl with a BOM and CRLF", "plain"),
    ],
)
def test_every_kind_of_file_gives_the_same_hashes(few, tmp_path, ending, container, packing):
    for name in ("arc_challenge", "mmlu", "gsm8k"):
        write(tmp_path / "ours", few, name, "TASK/SPLIT.jsonl.gz", "jsonl", "gzip")
        write(tmp_path / "theirs", few, name, f"TASK/SPLIT.{ending}", container, packing)
        assert benchmark_rows.load_task_rows(TASKS[name], tmp_path / "ours") == benchmark_rows.load_task_rows(
            TASKS[name], tmp_path / "theirs"
        )


def test_save_to_disk_is_read(few, tmp_path):
    import datasets

    write(tmp_path / "ours", few, "arc_challenge", "TASK/SPLIT.jsonl.gz", "jsonl", "gzip")
    splits = {split: datasets.Dataset.from_list(part) for split, part in few["arc_challenge"].items()}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "disk" / "arc_challenge", num_shards={"test": 3, "train": 1})
    task = TASKS["arc_challenge"]
    assert benchmark_rows.load_task_rows(task, tmp_path / "disk") == benchmark_rows.load_task_rows(
        task, tmp_path / "ours"
    )


def test_parts_are_joined_in_order_and_a_missing_one_is_named(few, tmp_path):
    whole = few["gsm8k"]["test"]
    write(tmp_path, few, "gsm8k", "TASK/CONFIG/SPLIT-00000-of-00001.parquet")
    folder = tmp_path / "gsm8k" / "main"
    (folder / "test-00000-of-00001.parquet").unlink()
    for number in range(4):
        part = CONTAINERS["parquet"](whole[number * 10 : number * 10 + 10])
        (folder / f"test-{number:05d}-of-00004.parquet").write_bytes(part)
    assert benchmark_rows.load_task_rows(TASKS["gsm8k"], tmp_path).evaluation_rows == whole
    (folder / "test-00001-of-00004.parquet").unlink()
    with pytest.raises(UserError, match="part 00001 of 4 of 'test' is missing"):
        benchmark_rows.load_task_rows(TASKS["gsm8k"], tmp_path)


def test_another_configuration_is_not_taken_for_the_one_that_is_asked(few, tmp_path):
    write(tmp_path, few, "arc_challenge", "REPO/ARC-Easy/SPLIT-00000-of-00001.parquet")
    with pytest.raises(UserError, match="the split 'test' of arc_challenge is missing"):
        benchmark_rows.load_task_rows(TASKS["arc_challenge"], tmp_path)


def test_a_split_that_is_there_twice_is_refused(few, tmp_path):
    write(tmp_path, few, "gsm8k", "TASK/SPLIT.parquet")
    for other in ("gsm8k/test.jsonl", "gsm8k/main/test-00000-of-00001.parquet", "openai/gsm8k/test.json"):
        (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / "gsm8k" / "test.parquet", tmp_path / other)
        with pytest.raises(UserError, match="the split 'test' of gsm8k is there more than once"):
            benchmark_rows.load_task_rows(TASKS["gsm8k"], tmp_path)
        (tmp_path / other).unlink()
    benchmark_rows.load_task_rows(TASKS["gsm8k"], tmp_path)


def test_a_wrong_row_is_said_by_its_place_in_the_file(few, tmp_path):
    write(
        tmp_path,
        {"gsm8k": few["gsm8k"] | {"test": [*few["gsm8k"]["test"][:2], {"question": "q", "answer": None}]}},
        "gsm8k",
        "TASK/SPLIT.parquet",
    )
    with pytest.raises(UserError, match="test.parquet row 3: column 'answer' is a NoneType"):
        benchmark_rows.load_task_rows(TASKS["gsm8k"], tmp_path)
