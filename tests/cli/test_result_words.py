"""A run's name, its folder, its results and a result file, wherever a command reads results."""

import json
import shlex
import shutil

import pytest
from synthetic_results import random_result


@pytest.fixture(scope="module")
def in_runs(tmp_path_factory, command_in):
    """The command in a folder with runs `old` and `new`, each with results of two protocols."""
    folder = tmp_path_factory.mktemp("runs_by_name")
    for name, share in (("old", 0.2), ("new", 0.8)):
        results = folder / "runs" / name / "results"
        results.mkdir(parents=True)
        for protocol in ("orca", "leaderboard"):
            random_result(results, name, share, tasks=["gsm8k"], file=f"{protocol}.json", protocol=protocol)
    return command_in(folder)


@pytest.mark.parametrize("word", ["old", "runs/old", "runs/old/results", "old/orca", "runs/old/results/orca.json"])
@pytest.mark.parametrize("words", [("table",), ("plot",), ("page",), ("publish",)])
def test_every_report_takes_every_word_for_a_result(in_runs, words, word):
    process = in_runs(*words, word)
    assert process.returncode == 0, process.stderr
    for folder in ("plots", "results", "page.html"):
        path = in_runs.folder / folder
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def test_compare_pairs_two_runs_by_protocol(in_runs):
    process = in_runs("compare", "old", "new", "--format", "markdown")
    assert process.returncode == 0, process.stderr
    assert process.stdout.count("| GSM8K |") == 2
    for protocol in ("leaderboard", "orca"):
        assert f"new {protocol} is better than old {protocol}" in process.stdout
    assert in_runs("compare", "old/orca", "new", "--format", "markdown").stdout.count("| GSM8K |") == 1


def test_one_result_is_needed_where_one_is_judged(in_runs):
    line = in_runs.refused("check", "old", "--baseline", "new")
    assert "2 results, and one is needed; name old/leaderboard" in line
    assert "runs/old/results/orca.json" in in_runs("check", "new/orca", "--baseline", "old").stdout
    assert "GSM8K: acc 72.50, 80 questions" in in_runs("verify", "new/orca", "--no-rescore").stdout


def test_no_reported_scores_may_be_wanted_of_every_report(in_runs):
    assert in_runs("compare", "old", "new", "--reported", "none").returncode == 0
    assert "nothing to compare with" in in_runs.refused("compare", "old/orca", "--reported", "none")
    for words in (("table", "old"), ("plot", "old"), ("page", "old"), ("publish", "old")):
        assert in_runs(*words, "--reported", "none").returncode == 0
        assert "known: orca_mini_13b" in in_runs.refused(*words, "--reported", "orca")


def test_every_result_of_a_run_is_verified(in_runs):
    process = in_runs("verify", "old", "new/orca", "--no-rescore")
    names = ["runs/old/results/leaderboard.json", "runs/old/results/orca.json", "runs/new/results/orca.json"]
    assert [line.rstrip(":") for line in process.stdout.splitlines() if line.startswith("runs/")] == names
    contents = json.loads(in_runs("verify", "old", "new/orca", "--no-rescore", "--format", "json").stdout)
    assert [content["result"] for content in contents] == names
    assert "findings" in json.loads(in_runs("verify", "old/orca", "--no-rescore", "--format", "json").stdout)


@pytest.mark.parametrize("command_name", ["table", "plot", "page", "publish", "compare", "check", "verify"])
def test_a_name_that_no_run_has_is_refused_with_the_nearest(in_runs, command_name):
    options = ["--baseline", "new"] if command_name == "check" else ["new"] if command_name == "compare" else []
    line = in_runs.refused(command_name, "odl", *options)
    assert line == "error: odl: no such run, folder or file; did you mean 'old'?; runs in runs: new, old"


def test_runs_elsewhere_are_named_with_their_folder(in_runs):
    (in_runs.folder / "runs").rename(in_runs.folder / "elsewhere")
    try:
        assert in_runs("table", "old", "--runs", "elsewhere").returncode == 0
        assert "no such run" in in_runs.refused("table", "old")
    finally:
        (in_runs.folder / "elsewhere").rename(in_runs.folder / "runs")


@pytest.mark.parametrize(
    ("words", "next_words"),
    [(("table", "old", "new"), "compare old new"), (("table", "old/orca", "new/orca"), "compare old/orca new/orca")]
    + [(("compare", "old", "new"), "page old new")],
)
def test_the_next_command_finds_what_this_one_has_read(in_runs, words, next_words):
    (in_runs.folder / "runs").rename(in_runs.folder / "else where")
    try:
        next_line = in_runs(*words, "--runs", "else where").stderr.splitlines()[-1]
        assert next_line == f"next: orca-bench {next_words} --runs 'else where'"
        assert in_runs(*shlex.split(next_line)[2:]).returncode == 0
    finally:
        (in_runs.folder / "else where").rename(in_runs.folder / "runs")
        (in_runs.folder / "page.html").unlink(missing_ok=True)


def test_what_is_taken_by_default_is_named_on_standard_error(in_runs):
    process = in_runs("table", "--format", "json")
    assert process.stderr.startswith("result: runs/") and process.stderr.endswith(".json (the newest)\n")
    assert process.stdout.startswith(("[", "{"))
    for words in (("plot",), ("page",), ("verify", "--no-rescore")):
        process = in_runs(*words)
        assert "(the newest)" in process.stderr and "error" not in process.stderr
    assert "give one of the two" in in_runs.refused("verify", "old", "--check-rows", "x")


def test_a_word_that_could_mean_a_folder_here_is_explained(in_runs):
    random_result(in_runs.folder, "x", 0.5, tasks=["gsm8k"])
    (in_runs.folder / "old").mkdir()
    try:
        for words in (("table", "old"), ("compare", "old", "new")):
            assert "note: old is the run runs/old; write ./old for what is here" in in_runs(*words).stderr
    finally:
        (in_runs.folder / "old").rmdir()


def test_a_first_try_of_a_few_questions_stands_aside_for_the_full_result(command):
    for name, share in (("old", 0.2), ("new", 0.8)):
        results = command.folder / "runs" / name / "results"
        results.mkdir(parents=True)
        random_result(results, name, share, tasks=["gsm8k"], file="orca.json", protocol="orca")
    random_result(results, "new", 0.5, tasks=["gsm8k"], file="orca-limit3.json", protocol="orca", limit=3)
    note = "note: left out new/orca-limit3 (first 3 questions); name it to see it"
    for words in (("table", "new", "old"), ("page", "new", "old"), ("plot", "new", "old"), ("publish", "new")):
        process = command(*words)
        assert process.returncode == 0 and process.stderr.splitlines().count(note) == 1, process.stderr
    assert "differences.png" in command("plot", "new", "old").stdout
    assert "first 3" not in (command.folder / "runs" / "new" / "published" / "index.html").read_text()
    tables = command("table", "new", "old"), command("table", "new/orca", "old/orca")
    assert tables[0].stdout == tables[1].stdout
    named = command("table", "new/orca-limit3")
    assert "first 3 questions" in named.stdout and "left out" not in named.stderr
    for word in ("new/orca-limit3", "runs/new/results/orca-limit3.json"):
        assert "left out" not in command("table", "new", word).stderr
    assert "orca-limit3" in command("runs").stdout


def test_the_model_that_is_taken_by_default_is_named_and_a_run_stands_for_its_model(command, tiny_model):
    run = command.folder / "runs" / "t"
    run.mkdir(parents=True)
    (run / "model").symlink_to(tiny_model)
    (run / "manifest.json").write_text('{"status": "finished", "orca_bench": "0", "finished": 1}')
    words = ["--benchmarks", "mini:", "--tasks", "winogrande", "--limit", "1", "--format", "json"]
    process = command("eval", *words)
    assert "model: runs/t/model (the newest finished run)" in process.stderr and process.stdout.startswith("{")
    table = command("eval", "--model", "t", *words[:-2], "--reported", "none")
    assert "Winogrande" in table.stdout and "Reported" not in table.stdout
    assert "known: orca_mini_13b" in command.refused("eval", *words, "--reported", "x")
    named = command("eval", "--model", "t", *words)
    assert named.returncode == 0 and "the newest finished run" not in named.stderr
    assert "no such run or model folder; did you mean 't'" in command.refused("eval", "--model", "tt", *words)
    process = command("generate", "hi", "--max-new-tokens", "1")
    assert process.stderr == "model: runs/t/model (the newest finished run)\n"


def _completions(command, *words):
    """What a shell offers for the last of these words, without the file names that it adds itself."""
    environment = {
        "_ORCA_BENCH_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(("orca-bench", *words)),
        "COMP_CWORD": str(len(words)),
    }
    lines = command(*[], env=environment).stdout.splitlines()
    return [line.removeprefix("plain,") for line in lines if line.startswith("plain,")]


def test_a_shell_completes_the_names_of_runs(in_runs):
    (in_runs.folder / "runs" / "old" / "model").mkdir()
    try:
        assert _completions(in_runs, "compare", "o") == ["old"]
        assert _completions(in_runs, "check", "old", "--baseline", "n") == ["new"]
        for words in (("eval", "--model"), ("requests", "--model"), ("export",)):
            assert _completions(in_runs, *words, "") == ["old"]
        assert _completions(in_runs, "comp") == ["compare"]
    finally:
        (in_runs.folder / "runs" / "old" / "model").rmdir()
