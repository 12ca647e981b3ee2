"""Which rows a report of results takes where none are named: those of each result, never the hub's."""

import shutil

from synthetic_results import random_result

from orca_bench.cli.default_benchmarks import requests_lookup
from orca_bench.results.reading import read_result


def test_each_of_several_results_gets_its_own_rows(command, tiny_model, mini, monkeypatch):
    monkeypatch.chdir(command.folder)
    shutil.copytree(mini["mini:benchmarks"], "rows")
    (command.folder / "rows" / "suite.json").write_text('{"name": "own", "note": ""}')
    for benchmarks, file in (("rows", "own.json"), ("mini:", "mini.json")):
        words = ("--benchmarks", benchmarks, "--tasks", "winogrande", "--limit", "2", "--out", file)
        assert command("eval", "--model", tiny_model, *words).returncode == 0
    random_result(command.folder, "hub", 0.5, tasks=["winogrande"])
    own, mini_suite, hub = (read_result(command.folder / f"{name}.json") for name in ("own", "mini", "hub"))
    requests_of = requests_lookup(None, command.folder / "runs")
    for result in (own, mini_suite):
        lookup, notes = requests_of(result)
        assert sum(lookup("winogrande", row) is not None for row in range(1000)) == 2 and not notes
    assert requests_of(hub) == (None, [])
    assert requests_lookup(command.folder / "rows", command.folder / "runs")(hub)[0] is not None
    for words in (("page", "own.json", "mini.json", "hub.json"), ("publish", "hub.json")):
        assert command(*words).returncode == 0
    (command.folder / "rows").rename("elsewhere")
    assert requests_lookup(None, command.folder / "runs")(own) == (None, [])
