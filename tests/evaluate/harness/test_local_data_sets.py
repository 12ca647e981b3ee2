"""Data sets in a folder stand for the hub's, whatever layout they have; what is missing is named."""

import json

import datasets
import pytest

from orca_bench.errors import UserError
from orca_bench.evaluate.harness.local_data_sets import MissingRows, find_local_set, rows_from_folder

ROWS = [{"text": "a", "label": 0}, {"text": "b", "label": 1}]


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def write(file, rows=ROWS):
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        datasets.Dataset.from_list(rows).to_parquet(str(file))
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.mark.parametrize(
    ("file_name", "configuration"),
    [
        ("owner/name/conf/test.jsonl", "conf"),
        ("owner/name/conf/test-00000-of-00001.parquet", "conf"),
        ("owner/name/conf/test/0000.parquet", "conf"),
        ("owner/name/test.jsonl", None),
        ("owner/name/test.jsonl", "default"),
        ("owner/name/data/test-00000-of-00001.parquet", None),
        ("owner/name/conf/test.jsonl", None),
        ("name/conf/data/test.jsonl", "conf"),
        ("datasets--owner--name/snapshots/123abc/conf/test.jsonl", "conf"),
    ],
)
def test_rows_are_read_in_every_layout(tmp_path, file_name, configuration):
    write(tmp_path / file_name)
    with rows_from_folder(tmp_path):
        splits = datasets.load_dataset("owner/name", configuration)
        assert list(splits) == ["test"] and "test" in splits and "train" not in splits
        assert splits["test"].to_list() == ROWS
        assert datasets.load_dataset(path="owner/name", name=configuration, split="test").to_list() == ROWS


def test_a_parquet_file_keeps_its_features(tmp_path):
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    (tmp_path / "set").mkdir()
    datasets.Dataset.from_list(ROWS, features=features).to_parquet(str(tmp_path / "set" / "test.parquet"))
    with rows_from_folder(tmp_path):
        assert datasets.load_dataset("set")["test"].features["label"].names == ["no", "yes"]


def test_files_that_a_task_names_are_those_of_its_splits(tmp_path):
    write(tmp_path / "owner/name/some/file_1.jsonl")
    with rows_from_folder(tmp_path):
        splits = datasets.load_dataset("owner/name", data_files={"validation": "some/*.jsonl"})
        assert splits["validation"].to_list() == ROWS


def test_a_configuration_that_is_not_there_is_not_replaced_by_another(tmp_path):
    write(tmp_path / "owner/name/test.jsonl")
    write(tmp_path / "owner/name/other/test.jsonl")
    assert find_local_set(tmp_path, "owner/name", "conf") is None


def test_a_missing_data_set_is_named_with_the_place(tmp_path):
    with rows_from_folder(tmp_path), pytest.raises(MissingRows, match=r"owner/name \(conf\).*owner/name/conf/SPLIT"):
        datasets.load_dataset("owner/name", "conf")
    with rows_from_folder(None), pytest.raises(MissingRows, match="--benchmarks DIR"):
        datasets.load_dataset("owner/name", "conf")


def test_a_missing_split_is_named_with_its_file(tmp_path):
    write(tmp_path / "owner/name/test.jsonl")
    with rows_from_folder(tmp_path), pytest.raises(MissingRows, match=r"name/train.parquet: the split 'train'.*test"):
        datasets.load_dataset("owner/name")["train"]


def test_a_missing_folder_and_columns_of_two_types_are_errors(tmp_path):
    with pytest.raises(UserError, match="no such benchmarks"), rows_from_folder(tmp_path / "none"):
        pass
    write(tmp_path / "set" / "test.jsonl", [{"a": 1}, {"a": [1]}])
    with rows_from_folder(tmp_path), pytest.raises(UserError, match=r"test.jsonl: the columns are not of one type"):
        datasets.load_dataset("set")["test"]


def test_outside_the_block_and_for_readers_of_files_the_library_is_itself(tmp_path):
    original = datasets.load_dataset
    write(tmp_path / "rows.jsonl")
    with rows_from_folder(tmp_path):
        assert datasets.load_dataset is not original
        files = {"test": str(tmp_path / "rows.jsonl")}
        rows = datasets.load_dataset("json", data_files=files, split="test", cache_dir=str(tmp_path / "cache"))
        assert rows.to_list() == ROWS
    assert datasets.load_dataset is original


def test_the_tasks_of_the_suite_are_read_as_eval_has_them(tmp_path):
    write(tmp_path / "arc_challenge/test.jsonl")
    write(
        tmp_path / "mmlu/test.jsonl",
        [{"subject": "law", "n": 1}, {"subject": "art", "n": 2}, {"subject": "law", "n": 3}],
    )
    with rows_from_folder(tmp_path):
        assert datasets.load_dataset("allenai/ai2_arc", "ARC-Challenge")["test"].to_list() == ROWS
        assert datasets.load_dataset("cais/mmlu", "law")["test"]["n"] == [1, 3]
        with pytest.raises(UserError, match="no row whose subject is 'physics'"):
            datasets.load_dataset("cais/mmlu", "physics")["test"]
        with pytest.raises(MissingRows):
            datasets.load_dataset("allenai/ai2_arc", "ARC-Easy")


def test_files_that_a_task_names_and_that_are_not_there_are_named(tmp_path):
    with rows_from_folder(tmp_path), pytest.raises(MissingRows, match="the files that the task names: .*none.jsonl"):
        datasets.load_dataset("json", data_files={"test": str(tmp_path / "none.jsonl")})
