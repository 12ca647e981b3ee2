"""Which results of two runs are compared with one another: those of one protocol and limit."""

import pytest
from synthetic_results import random_result

from orca_bench.errors import UserError
from orca_bench.report.result_pairing import pair_results
from orca_bench.results.result_lookup import look_up_results


@pytest.fixture
def runs(tmp_path):
    """Runs `a` and `b` with both protocols, of which `a` has one with a limit too; `c` with one; `seeds` with three of one."""
    settings = {
        "a": [("orca", None), ("leaderboard", None), ("orca", 20)],
        "b": [("leaderboard", None), ("orca", None)],
        "c": [("plain", None)],
        "seeds": [("orca", None), ("orca", None), ("orca", None)],
    }
    for name, protocols_and_limits in settings.items():
        folder = tmp_path / name / "results"
        folder.mkdir(parents=True)
        for index, (protocol, limit) in enumerate(protocols_and_limits):
            random_result(folder, f"{protocol}-{index}", 0.5, tasks=["gsm8k"], protocol=protocol, limit=limit)
    return tmp_path


def _pairing(runs, base, *others):
    return pair_results(look_up_results(base, runs), [look_up_results(other, runs) for other in others], runs)


def _names(pairing):
    return [(group.base_path.stem, [path.stem for path in group.other_paths]) for group in pairing.groups]


def test_runs_are_paired_by_protocol_and_limit(runs):
    pairing = _pairing(runs, "a", "b")
    assert _names(pairing) == [("leaderboard-1", ["leaderboard-0"]), ("orca-0", ["orca-1"])]
    assert pairing.notes == ["a/orca-2 has no counterpart"]


def test_one_result_picks_its_counterpart_of_several(runs):
    pairing = _pairing(runs, "a/orca-0", "b")
    assert _names(pairing) == [("orca-0", ["orca-1"])] and pairing.notes == []
    assert _names(_pairing(runs, "b", "a/orca-0")) == [("orca-1", ["orca-0"])]


def test_two_results_that_are_named_are_paired_whatever_they_are(runs):
    assert _names(_pairing(runs, "a/orca-0", "c")) == [("orca-0", ["plain-0"])]


def test_a_folder_of_seeds_is_compared_with_as_a_whole(runs):
    assert _names(_pairing(runs, "a", "seeds")) == [("orca-0", ["orca-0", "orca-1", "orca-2"])]
    with pytest.raises(UserError, match="seeds: 3 results of orca on s; name one of seeds/orca-0, seeds/orca-1"):
        _pairing(runs, "seeds", "a")


def test_a_setting_that_one_of_several_lacks_is_left_out(runs):
    assert _names(_pairing(runs, "a", "b", "seeds"))[0][0] == "orca-0"
    assert len(_pairing(runs, "a", "b", "seeds").groups) == 1


def test_where_nothing_can_be_paired_what_each_has_is_said(runs):
    message = "no protocol that all were evaluated under; b has leaderboard on s and orca on s; c has plain on s"
    with pytest.raises(UserError, match=message):
        _pairing(runs, "b", "c")


def test_without_others_each_result_stands_alone(runs):
    assert _names(_pairing(runs, "b")) == [("leaderboard-0", []), ("orca-1", [])]


def test_a_broken_result_in_a_run_is_named_and_one_that_is_named_itself_is_an_error(runs):
    (runs / "b" / "results" / "broken.json").write_text('{"format": "orca-bench result 3"}')
    pairing = _pairing(runs, "a", "b")
    assert len(pairing.groups) == 2 and "broken.json" in pairing.notes[0]
    with pytest.raises(UserError, match="broken.json"):
        _pairing(runs, "a", "b/broken")


def test_results_of_different_settings_are_not_paired_where_only_equal_ones_may_be(runs):
    base, other = look_up_results("a/orca-0", runs), look_up_results("c", runs)
    with pytest.raises(UserError, match="no protocol that all were evaluated under"):
        pair_results(base, [other], runs, equal_settings_only=True)
    same = look_up_results("b/orca-1", runs)
    assert _names(pair_results(base, [same], runs, equal_settings_only=True)) == [("orca-0", ["orca-1"])]
