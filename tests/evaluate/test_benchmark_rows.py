"""Whether rows are the leaderboard's own is known by a hash of what a task reads of them."""

import gzip
import json

import pytest

from orca_bench.errors import UserError
from orca_bench.evaluate import benchmark_rows
from orca_bench.evaluate.tasks import SUITE

BY_NAME = {task.name: task for task in SUITE}
TRUE_ROWS, OTHER_ROWS, UNVERIFIED_ROWS = "true", "other", "not verified"


def read(path):
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as handle:
        return [json.loads(line) for line in handle]


def checked(folder, name):
    """What `row_statuses_by_split` says of a benchmarks directory's task."""
    task = BY_NAME[name]
    return benchmark_rows.row_statuses_by_split(task, benchmark_rows.load_task_rows(task, folder))


def laid_out(folder, name, **splits):
    """A benchmarks directory with some splits of one task."""
    for split, own in splits.items():
        path = folder / name / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in own), encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", ["arc_challenge", "mmlu", "truthful_qa", "winogrande", "gsm8k"])
def test_the_leaderboards_rows_are_known(shared, name):
    assert set(checked(shared / "benchmarks", name).values()) == {TRUE_ROWS}


def test_what_no_hash_is_known_of_is_not_verified_and_missing_rows_are_other_rows(shared):
    for name in ("hellaswag", "drop"):
        assert checked(shared / "benchmarks", name) == {"validation": UNVERIFIED_ROWS, "train": OTHER_ROWS}


def test_line_ends_further_columns_and_their_order_make_no_other_rows(shared, tmp_path):
    """The hub's MMLU has one line end of two characters in a dev row."""
    questions, pool = (read(shared / "benchmarks" / "mmlu" / f"{split}.jsonl.gz") for split in ("test", "dev"))
    pool = [
        {"from": n, **dict(reversed(row.items()))} | {"question": row["question"].replace("\n", "\r\n")}
        for n, row in enumerate(pool)
    ]
    assert any("\r\n" in row["question"] for row in pool)
    assert checked(laid_out(tmp_path, "mmlu", test=questions, dev=pool), "mmlu") == {
        "test": TRUE_ROWS,
        "dev": TRUE_ROWS,
    }


def test_a_survey_prints_each_hash_and_fails_where_rows_are_others_or_missing(shared, tmp_path, command):
    process = command("verify", "--check-rows", shared / "benchmarks", "--format", "json")
    splits = {(split["task"], split["split"]): split for split in json.loads(process.stdout)}
    assert process.returncode == 1 and len(splits) == 13
    assert splits["gsm8k", "test"] | {"sha256": ""} == {
        **{
            "task": "gsm8k",
            "split": "test",
            "status": TRUE_ROWS,
            "rows": 1319,
            "full": 1319,
            "sha256": "",
            "note": None,
        },
    }
    assert len(splits["hellaswag", "validation"]["sha256"]) == 64
    laid_out(tmp_path, "truthful_qa", validation=read(shared / "benchmarks" / "truthful_qa" / "validation.jsonl.gz"))
    process = command("verify", "--check-rows", tmp_path)
    assert process.returncode == 1 and "truthful_qa validation: true, 817 of 817 rows" in process.stdout
    assert "gsm8k test: missing" in process.stdout
    assert "no result below runs" in command.refused("verify")


@pytest.mark.parametrize(
    "change",
    [
        lambda own: own[:10],
        lambda own: own[1:] + own[:1],
        lambda own: [own[0] | {"answer": own[0]["answer"].replace("#### ", "#### 1")}, *own[1:]],
        lambda own: [own[0] | {"question": own[0]["question"] + " "}, *own[1:]],
        lambda own: [*own, own[0]],
    ],
)
def test_missing_changed_and_moved_rows_are_other_rows_by_split(shared, tmp_path, change):
    questions, pool = (read(shared / "benchmarks" / "gsm8k" / f"{split}.jsonl.gz") for split in ("test", "train"))
    assert checked(laid_out(tmp_path / "a", "gsm8k", test=change(questions), train=pool), "gsm8k") == {
        "test": OTHER_ROWS,
        "train": TRUE_ROWS,
    }
    assert checked(laid_out(tmp_path / "b", "gsm8k", test=questions, train=change(pool)), "gsm8k") == {
        "test": TRUE_ROWS,
        "train": OTHER_ROWS,
    }


def test_rows_that_the_hub_does_not_give_name_the_option_and_the_embedded_suite():
    with pytest.raises(UserError, match=r"allenai/ai2_arc: .*--benchmarks DIR.*--benchmarks mini:"):
        benchmark_rows.load_task_rows(BY_NAME["arc_challenge"], None)
