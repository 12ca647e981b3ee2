"""What names a result: a run's name, one of its results, a folder, a file; and what is said of a word that names none."""

import pytest
from synthetic_results import random_result

from orca_bench.errors import UserError
from orca_bench.results.result_lookup import look_up_results, newest_result, result_name, single_result


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A folder of runs: `a` with two results and one of an export, `me--b` with one, `empty` with none."""
    monkeypatch.chdir(tmp_path)
    for folder, labels in (("a/results", ("orca", "leaderboard")), ("a/results/step-10", ("orca",))):
        (tmp_path / "runs" / folder).mkdir(parents=True)
        for label in labels:
            random_result(tmp_path / "runs" / folder, label, 0.5)
    (tmp_path / "runs" / "me--b" / "results").mkdir(parents=True)
    random_result(tmp_path / "runs" / "me--b" / "results", "orca", 0.5)
    (tmp_path / "runs" / "empty").mkdir()
    (tmp_path / "runs" / "empty" / "manifest.json").write_text("{}")
    return tmp_path.joinpath("runs").relative_to(tmp_path)


@pytest.mark.parametrize("word", ["a", "runs/a", "runs/a/", "runs/a/results"])
def test_a_run_s_name_its_folder_and_its_results_folder_are_the_same(runs, word):
    named = look_up_results(word, runs)
    assert [str(path) for path in named.paths] == [
        "runs/a/results/leaderboard.json",
        "runs/a/results/orca.json",
        "runs/a/results/step-10/orca.json",
    ]
    assert [path.name for path in named.main_paths] == ["leaderboard.json", "orca.json"]
    assert named.note is None


def test_the_name_of_a_model_of_the_hub_is_its_run_s(runs):
    assert look_up_results("me/b", runs).paths == look_up_results("me--b", runs).paths


@pytest.mark.parametrize(
    ("word", "path"),
    [
        ("a/orca", "runs/a/results/orca.json"),
        ("a/step-10/orca", "runs/a/results/step-10/orca.json"),
        ("me/b/orca", "runs/me--b/results/orca.json"),
        ("runs/a/results/orca.json", "runs/a/results/orca.json"),
    ],
)
def test_one_result_has_a_name_of_its_own(runs, word, path):
    named = look_up_results(word, runs)
    assert [str(each) for each in named.paths] == [path] and named.folder is None


def test_the_short_name_of_a_result_names_it(runs):
    for path in look_up_results("runs", runs).paths:
        assert look_up_results(result_name(path, runs), runs).paths == (path,)


def test_several_results_where_one_is_needed_are_listed(runs):
    assert str(single_result(look_up_results("me/b", runs), runs)) == "runs/me--b/results/orca.json"
    with pytest.raises(UserError, match=r"^a: 2 results, and one is needed; name a/leaderboard, a/orca$"):
        single_result(look_up_results("a", runs), runs)


def test_a_result_that_made_room_for_another_is_not_a_run_s_main_one(runs):
    folder = runs / "me--b" / "results"
    (folder / "orca-0123abcd.json").write_bytes((folder / "orca.json").read_bytes())
    named = look_up_results("me/b", runs)
    assert len(named.paths) == 2 and single_result(named, runs).name == "orca.json"


def test_published_copies_are_not_results_of_their_own(runs):
    (runs / "a" / "published").mkdir()
    (runs / "a" / "published" / "orca.json").write_bytes((runs / "a" / "results" / "orca.json").read_bytes())
    assert len(look_up_results("a", runs).paths) == 3 and len(look_up_results("runs", runs).paths) == 4
    assert len(look_up_results("runs/a/published", runs).paths) == 1


def test_a_name_that_is_a_run_and_a_folder_here_is_the_run_and_that_is_said(runs, tmp_path):
    (tmp_path / "a").mkdir()
    random_result(tmp_path / "a", "other", 0.5)
    named = look_up_results("a", runs)
    assert len(named.paths) == 3 and named.note == "a is the run runs/a; write ./a for what is here"
    for word in ("./a", "a/", tmp_path / "a"):
        named = look_up_results(word, runs)
        assert [path.name for path in named.paths] == ["other.json"] and named.note is None


def test_a_word_that_is_a_run_and_a_result_of_another_is_the_run_and_that_is_said(runs):
    result_path = runs / "a" / "results" / "b.json"
    (runs / "a--b" / "results").mkdir(parents=True)
    random_result(runs / "a" / "results", "b", 0.5)
    assert look_up_results("a/b", runs).paths == (result_path,)  # the run has no result yet
    random_result(runs / "a--b" / "results", "orca", 0.5)
    named = look_up_results("a/b", runs)
    assert named.paths == (runs / "a--b" / "results" / "orca.json",)
    assert named.note == "a/b is the run runs/a--b; write runs/a/results/b.json for that result"
    assert result_name(result_path, runs) == str(result_path)
    assert look_up_results(str(result_path), runs).note is None


def test_results_of_two_runs_with_one_name_are_told_apart(runs):
    for folder in (runs / "a" / "results" / "b", runs / "a--b" / "results"):
        folder.mkdir(parents=True)
        random_result(folder, "orca", 0.5)
    named = look_up_results("a/b/orca", runs)
    assert named.paths == (runs / "a" / "results" / "b" / "orca.json",)
    assert named.note == (
        "a/b/orca is the result runs/a/results/b/orca.json; write runs/a--b/results/orca.json for that one"
    )
    for path in look_up_results("runs", runs).paths:
        assert look_up_results(result_name(path, runs), runs).paths == (path,)


def test_a_folder_here_stands_before_a_result_of_a_run_and_that_is_said(runs, tmp_path):
    (tmp_path / "a" / "orca").mkdir(parents=True)
    random_result(tmp_path / "a" / "orca", "other", 0.5)
    named = look_up_results("a/orca", runs)
    assert [path.name for path in named.paths] == ["other.json"]
    assert named.note == "a/orca is what is here; write runs/a/results/orca.json for the run's result"


def test_a_folder_here_is_taken_where_the_run_of_that_name_has_no_result(runs, tmp_path):
    (tmp_path / "empty").mkdir()
    random_result(tmp_path / "empty", "other", 0.5)
    assert [path.name for path in look_up_results("empty", runs).paths] == ["other.json"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("me-b", "me-b: no such run, folder or file; did you mean 'me--b'?; runs in runs: a, me--b"),
        ("xyz", "xyz: no such run, folder or file; runs in runs: a, me--b"),
        ("runs/a/results/orka.json", "no such file; did you mean 'runs/a/results/orca.json'?"),
        ("runs/aa", r"no such file or folder; did you mean 'runs/a'\?"),
        ("empty", "the run runs/empty has no result; orca-bench eval writes one"),
        ("runs/empty", "no result in this folder"),
        ("a/../me--b/orca", "no such"),
        (" ", "an empty name of a result"),
    ],
)
def test_a_word_that_names_nothing_is_refused_with_what_is_there(runs, word, message):
    with pytest.raises(UserError, match=message.replace("?;", r"\?;")) as error:
        look_up_results(word, runs)
    assert "\n" not in str(error.value)


def test_without_any_run_that_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no run in runs has results"):
        look_up_results("a", tmp_path.joinpath("runs").relative_to(tmp_path))
    with pytest.raises(UserError, match="no result below runs"):
        newest_result(tmp_path.joinpath("runs").relative_to(tmp_path))
