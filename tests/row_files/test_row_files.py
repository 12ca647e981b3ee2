"""Rows are read from every kind of file that people have, whatever it is called; what cannot be read is said in one line."""

import datetime
import decimal
import gzip
import json
from pathlib import Path

import pytest
from containers import CONTAINERS, PACKINGS, TABLES

from orca_bench import row_files
from orca_bench.errors import UserError

TEXT = 'Ünï 日本 🙂 \n\nline, "quoted"; \'\t|'
ROWS = [
    {
        "question": f"{TEXT} {n}",
        "answer": f"{n} \u2028 end",
        "n": n,
        "more": {"a": ["b", ""], "c": None if n % 2 else [1]},
    }
    for n in range(20)
]


def rows_of(path: Path) -> list[dict]:
    return [row for _, row in row_files.read_rows(path)]


def refused(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        rows_of(path)
    return str(error.value)


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_and_compression_gives_the_same_rows_under_any_name(tmp_path, container, packing):
    path = tmp_path / "rows"  # no ending: the content says what it is
    path.write_bytes(PACKINGS[packing](CONTAINERS[container](ROWS)))
    assert rows_of(path) == ROWS


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("container", TABLES)
def test_tables_give_every_cell_as_text(tmp_path, container, packing):
    path = tmp_path / "rows"
    path.write_bytes(PACKINGS[packing](TABLES[container](ROWS)))
    as_text = [row | {"n": str(row["n"]), "more": json.dumps(row["more"])} for row in ROWS]
    assert rows_of(path) == as_text


def test_places_are_lines_or_rows(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b'\n{"a": 1}\n\n{"a": 2}\n')
    assert [place for place, _ in row_files.read_rows(path)] == [f"{path}:2", f"{path}:4"]
    path.write_bytes(b'[\n{"a": 1},\n\n{"a": 2}]\n')
    assert [place for place, _ in row_files.read_rows(path)] == [f"{path}:2 row 1", f"{path}:4 row 2"]
    path.write_bytes(CONTAINERS["parquet"](ROWS))
    assert [place for place, _ in row_files.read_rows(path)][:2] == [f"{path} row 1", f"{path} row 2"]
    path.write_bytes(b'a,b\n"two\nlines",1\n3,4\n')
    assert [place for place, _ in row_files.read_rows(path)] == [f"{path}:2", f"{path}:4"]


def test_what_pandas_writes_for_missing_is_missing(tmp_path):
    path = tmp_path / "f.jsonl"
    path.write_text('{"a": NaN, "b": Infinity, "c": -Infinity, "d": 1e999, "e": [NaN], "f": 1.5}')
    assert rows_of(path) == [{"a": None, "b": None, "c": None, "d": None, "e": [None], "f": 1.5}]
    path.write_bytes(CONTAINERS["parquet"]([{"a": float("nan"), "b": float("inf"), "c": None, "d": 1.5}]))
    assert rows_of(path) == [{"a": None, "b": None, "c": None, "d": 1.5}]


def test_parquets_own_types_become_plain_values(tmp_path):
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table(
        {
            "category": pyarrow.array(["x", "y"]).dictionary_encode(),
            "large": pyarrow.array(["l", None], pyarrow.large_string()),
            "decimal": pyarrow.array([decimal.Decimal("18.00"), decimal.Decimal("0.25")]),
            "date": pyarrow.array([datetime.date(2023, 7, 1), None]),
            "time": pyarrow.array([datetime.datetime(2023, 7, 1, 12), None], pyarrow.timestamp("us")),
            "bytes": pyarrow.array(["Text ü".encode(), b""]),
            "struct": [{"text": ["a"], "label": [0]}, {"text": [], "label": []}],
            "map": pyarrow.array([[("k", 1)], []], pyarrow.map_(pyarrow.string(), pyarrow.int64())),
            "float": pyarrow.array([1.0, 2.5], pyarrow.float32()),
            "bool": [True, None],
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "f")
    rows = rows_of(tmp_path / "f")
    json.dumps(rows)
    assert rows[0] == {
        "category": "x",
        "large": "l",
        "decimal": 18,
        "date": "2023-07-01",
        "time": "2023-07-01T12:00:00",
        "bytes": "Text ü",
        "struct": {"text": ["a"], "label": [0]},
        "map": [["k", 1]],
        "float": 1.0,
        "bool": True,
    }
    assert rows[1]["decimal"] == 0.25 and rows[1]["large"] is None


def test_one_object_of_one_line_is_a_row_or_holds_the_rows(tmp_path):
    path = tmp_path / "f.json"
    row = {"messages": [{"role": "user", "content": "x"}]}
    for content, rows in (
        (row, [row]),
        ({"instruction": "a", "output": "b"}, [{"instruction": "a", "output": "b"}]),
        ({"train": [{"a": 1}, {"a": 2}]}, [{"a": 1}, {"a": 2}]),
        ({"licence": "MIT", "rows": [{"a": 1}]}, [{"a": 1}]),
    ):
        path.write_text(json.dumps(content))
        assert rows_of(path) == rows
    path.write_text('{"data": [\n{"a": 1},\n{"a": 2}\n]}')
    assert rows_of(path) == [{"a": 1}, {"a": 2}]
    path.write_text('[{"a": 1}]'.replace(" ", "\r\n"))
    assert rows_of(path) == [{"a": 1}]


LONG = json.dumps([{"a": "x" * 40}] * 3, indent=0).encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "F: no rows"),
        (b"\n \n", "F: no rows"),
        (b"[]", "F: no rows"),
        (b"a,b\n", "F: no rows"),
        (b'{"a": 1}\n{"a": }\n', "F:2: not JSON"),
        (b'{"a": }\n{"a": 1}\n', "F:1: not JSON"),
        (b'{"a": 1\n{"a": 1}\n', "F:1: not JSON"),
        (b'{"a": 1}\n[1]\n', "F:2: a list, not a JSON object"),
        (b"[1, 2]", "F:1 row 1: a int, not a JSON object"),
        (b'[{"a": 1}, {"b": 2}\n', "F:1: not JSON (expecting ',' or ']'); the file ends too early"),
        (b'[\n{"a": 1}\n{"b": 2}]', "F:2: not JSON (expecting ',' or ']')"),
        (b'[{"a": 1}] x', "F:1: not JSON (more text after the array)"),
        (LONG[:90], "F:6: not JSON"),
        (b'{"a": "\\ud83d"}\n', "F:1: a text with a lone surrogate"),
        (b'{"a": 1}\n{"a": {"b\\ude00": 1}}\n', "F:2: a text with a lone surrogate"),
        (b'[\n{"a": "\\ud83d x"}]', "F:2: a text with a lone surrogate"),
        (b'{"a": 1}\n{"a": ' + b"7" * 5000 + b"}\n", "F:2: a number of too many digits"),
        (b'[\n{"a": ' + b"7" * 5000 + b"}]\n", "F:2: a number of too many digits"),
        (b'{"a": ' + b"[" * 100000 + b"]" * 100000 + b"}", "F:1: JSON nested more than 64 deep"),
        (b'{"a": 1}\n{"a": ' + b"[" * 70 + b"]" * 70 + b"}\n", "F:2: JSON nested more than 64 deep"),
        (b'{"a": "caf\xe9"}', "F:1: not UTF-8 text"),
        (b'{"a": 1}\n' * 5000 + b'{"a": "caf\xe9"}', "F:5001: not UTF-8 text"),
        ('{"a": "x"}'.encode("utf-16"), "F: UTF-16 text, not UTF-8"),
        ('{"a": "x"}'.encode("utf-16-be"), "F: UTF-16 text, not UTF-8"),
        ('{"a": "x"}'.encode("utf-16-le"), "F: UTF-16 text, not UTF-8"),
        ('{"a": "x"}'.encode("utf-32"), "F: UTF-32 text, not UTF-8"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "F: a Git LFS pointer, not the file itself"),
        (b"<!DOCTYPE html><html>", "F: an HTML or XML page"),
        (b"PK\x03\x04abc", "F: a zip archive"),
        (bytes(range(256)), "F: binary data of an unknown kind"),
        (b"just words\n", "F:1: neither JSON nor a table"),
        (b'a,b\n"1,2\n', "F:2: not a table"),
        (b"a,b\n1,2\n1\n", "F:3: 1 cells, and the table has 2 columns"),
        (b"a,a\n1,2\n", "F:1: two columns of one name"),
        (b'{"a": [{"b": 1}], "c": [{"b": 1}]}', "F: one object with several lists of rows (a, c)"),
        (b'{"a": {"0": 1, "1": 2}, "b": {"0": 1, "1": 2}}', "F: a table as pandas"),
        (b'{"0": {"a": 1, "b": 2}, "1": {"a": 1, "b": 2}}', "F: a table as pandas"),
        (b'{"columns": ["a", "b"], "index": [0], "data": [[1, 2]]}', "F: a table as pandas"),
        (b"PAR1abc", "F: cannot be read"),
        (b"\xff\xff\xff\xffabc", "F: cannot be read"),
    ],
)
def test_what_is_no_file_of_rows_is_said_with_file_and_line(tmp_path, content, message):
    path = tmp_path / "f"
    assert refused(path, content).startswith(message.replace("F", str(path), 1))
    if not message.startswith("F: no rows"):
        packed = refused(path, gzip.compress(content))  # and through a compression
        assert packed.startswith(message.replace("F", str(path), 1))


@pytest.mark.parametrize("packing", [name for name in PACKINGS if name != "plain"])
def test_a_compressed_file_that_is_cut_off_is_said(tmp_path, packing):
    content = PACKINGS[packing](b"".join(b'{"a": "%d"}\n' % (n * 7919 % 100003) for n in range(20000)))
    for length in (len(content) - 1, len(content) // 2, 12):
        assert "cut off or damaged" in refused(tmp_path / "f.jsonl.gz", content[:length])


@pytest.mark.parametrize("packing", ["gzip", "bzip2", "xz"])
def test_a_flipped_bit_is_found_where_the_compression_has_a_checksum(tmp_path, packing):
    content = bytearray(PACKINGS[packing](b"".join(b'{"a": "%d"}\n' % (n * 7919 % 100003) for n in range(20000))))
    content[len(content) // 2] ^= 1
    refused(tmp_path / "f.jsonl", bytes(content))


def test_a_flipped_bit_in_parquet_is_found_by_its_checksums(tmp_path):
    content = bytearray(CONTAINERS["parquet"]([{"a": f"some text {n}"} for n in range(100)]))
    content[60] ^= 1
    assert "cut off or damaged" in refused(tmp_path / "f.parquet", bytes(content))


def test_a_missing_file_and_a_folder_are_no_files(tmp_path):
    for path, message in ((tmp_path / "absent", "no such file"), (tmp_path, "a folder, not a file")):
        with pytest.raises(UserError, match=message):
            rows_of(path)


# --- several files ----------------------------------------------------------------------------------------------------


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b'{"a": 1}')


def names_of(folder: Path, path: Path) -> list[str]:
    return [str(file.relative_to(folder)) for file in row_files.data_files_of(path)]


def test_parts_are_read_in_order_from_a_folder_and_by_a_pattern(tmp_path):
    parts = [f"train-{n:05d}-of-00011.parquet" for n in range(11)]
    make(tmp_path, *reversed(parts), "README.md", "dataset_info.json", ".cache/x.json")
    assert names_of(tmp_path, tmp_path) == parts
    assert names_of(tmp_path, tmp_path / "train-*.parquet") == parts
    numbered = [f"part{n}.jsonl" for n in (1, 2, 10)]
    make(tmp_path / "n", *numbered)
    assert names_of(tmp_path / "n", tmp_path / "n") == numbered


def test_two_files_of_one_name_are_not_read_as_one_set(tmp_path):
    for names in (("train.jsonl", "train.parquet"), ("rows.json", "rows.json.gz")):
        folder = tmp_path / names[0]
        make(folder, *names)
        for path in (folder, folder / "*"):
            with pytest.raises(UserError, match="have one name; keep one"):
                row_files.data_files_of(path)


def test_a_missing_part_is_named(tmp_path):
    make(tmp_path, "train-00000-of-00003.parquet", "train-00002-of-00003.parquet")
    for path in (tmp_path, tmp_path / "train-*"):
        with pytest.raises(UserError, match="part 00001 of 3 of 'train' is missing"):
            row_files.data_files_of(path)


def test_of_a_folder_with_splits_the_train_split_is_taken(tmp_path):
    make(tmp_path, "data/train-00000-of-00001-0a1b.parquet", "data/test-00000-of-00001-2c3d.parquet", "README.md")
    assert names_of(tmp_path, tmp_path) == ["data/train-00000-of-00001-0a1b.parquet"]


def test_a_folder_of_several_sets_is_refused_by_their_names(tmp_path):
    make(tmp_path, "main/train.parquet", "main/test.parquet", "socratic/train.parquet")
    with pytest.raises(UserError, match="several sets .main/test, main/train, socratic/train."):
        row_files.data_files_of(tmp_path)
    make(tmp_path / "only", "test.jsonl", "dev.jsonl")
    with pytest.raises(UserError, match="several sets"):
        row_files.data_files_of(tmp_path / "only")
    with pytest.raises(UserError, match="no file matches"):
        row_files.data_files_of(tmp_path / "*.nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no data file in this folder"):
        row_files.data_files_of(tmp_path / "empty")


def test_a_name_with_the_signs_of_a_pattern_is_a_file_where_there_is_one(tmp_path):
    make(tmp_path, "rows[1].jsonl")
    assert names_of(tmp_path, tmp_path / "rows[1].jsonl") == ["rows[1].jsonl"]


def test_parts_are_ordered_by_decimal_numbers_and_other_digits_are_letters(tmp_path):
    names = ["part²", "part 2.json", "part 10.json"]
    make(tmp_path, *(f"{name.removesuffix('.json')}.json" for name in names))
    assert names_of(tmp_path, tmp_path) == ["part 2.json", "part 10.json", "part².json"]
