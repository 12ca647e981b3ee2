"""When a result of a part of the questions stands aside for a full one of the same word, and what is said of it."""

import pytest
from synthetic_results import random_result

from orca_bench.question_limit import QuestionLimit
from orca_bench.results.limited_results import limits_beside_full, main_paths_without_limited
from orca_bench.results.result_lookup import look_up_results

_IDENTITY = {"sha256": "1", "weights": "w", "device": "cpu", "engine": "e"}


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A folder of runs: `a` with a full result and two limited ones of it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "a" / "results").mkdir(parents=True)
    for stem, limit in (("orca", None), ("orca-limit3", 3), ("orca-limit5", 5)):
        _write(tmp_path / "runs", stem, limit=limit)
    return tmp_path.joinpath("runs").relative_to(tmp_path)


def _write(runs, stem, label="a", tasks=("gsm8k",), **heading):
    return random_result(runs / "a" / "results", label, 0.5, tasks=tasks, file=f"{stem}.json", **heading)


def _stems(runs, *words):
    paths, notes = main_paths_without_limited([look_up_results(word, runs) for word in words], runs)
    return [path.stem for path in paths], notes


@pytest.mark.parametrize(
    ("full_heading", "stands_aside"),
    [
        ({}, True),
        ({"limit": 80}, False),
        ({"label": "b"}, False),
        ({"suite": "other"}, False),
        ({"protocol": "orca"}, False),
        ({"tasks": ("hellaswag",)}, False),
        ({"tasks": ("hellaswag", "gsm8k")}, True),
        ({"fingerprint": "f"}, False),
        ({"step": 3}, False),
        ({"identity": _IDENTITY | {"sha256": "2", "engine": "f", "device": "cuda"}}, True),
        ({"identity": _IDENTITY | {"sha256": "2", "weights": "v"}}, False),
    ],
)
def test_only_a_full_result_of_the_same_kind_and_tasks_replaces_a_limited_one(tmp_path, full_heading, stands_aside):
    (tmp_path / "a" / "results").mkdir(parents=True)
    limited_heading = {"identity": _IDENTITY} if "identity" in full_heading else {}
    limited_file = _write(tmp_path, "limited", limit=3, **limited_heading)
    full_file = _write(tmp_path, "full", **full_heading)
    limits = limits_beside_full({file.path: file.result for file in (limited_file, full_file)})
    assert limits == ({limited_file.path: QuestionLimit(3)} if stands_aside else {})


def test_results_of_two_system_messages_do_not_stand_for_one_another(tmp_path):
    (tmp_path / "a" / "results").mkdir(parents=True)
    limited_file, full_file = _write(tmp_path, "limited", limit=3), _write(tmp_path, "full")
    limited_file.result.protocol.system = "Be brief."
    assert not limits_beside_full({file.path: file.result for file in (limited_file, full_file)})


def test_a_limited_result_is_left_out_of_a_run_and_named_in_one_note(runs):
    stems, notes = _stems(runs, "a")
    assert stems == ["orca"]
    assert notes == [
        "left out a/orca-limit3 (first 3 questions), a/orca-limit5 (first 5 questions); name one to see it"
    ]


def test_a_limited_result_that_is_named_itself_is_taken(runs):
    assert _stems(runs, "a/orca-limit3") == (["orca-limit3"], [])
    stems, notes = _stems(runs, "a", "runs/a/results/orca-limit3.json")
    assert stems == ["orca-limit3", "orca"]
    assert notes == ["left out a/orca-limit5 (first 5 questions); name it to see it"]


def test_limited_results_without_a_full_one_are_taken(runs):
    (runs / "a" / "results" / "orca.json").unlink()
    assert _stems(runs, "a") == (["orca-limit3", "orca-limit5"], [])


def test_a_file_that_cannot_be_read_stays_for_what_reads_it(runs):
    (runs / "a" / "results" / "broken.json").write_text('{"format": "orca-bench result 3"}')
    assert _stems(runs, "a")[0] == ["broken", "orca"]
