"""`data build --dry-run`: what would be asked, what is answered in the output's ledger; nothing is sent, nothing is written."""

import re

from data_recipes import SilentBuildDisplay, manifest_of, write_build_inputs
from teacher_server import running_teacher_server
from waiting import eventually

from orca_bench.data.build.build_plan import plan_build
from orca_bench.data.build.data_recipe_file import read_data_recipe
from orca_bench.data.build.ledger import open_ledger


def test_a_dry_run_sends_and_writes_nothing(build, command):
    with running_teacher_server() as server:
        process = build(server, "--dry-run")
        assert not server.received
    assert process.returncode == 0 and "20 requests, " in process.stdout and "at most $0.0" in process.stdout
    assert re.search(r"alpaca +12 +12 ", process.stdout) and not (command.folder / "out").exists()


def test_a_dry_run_says_what_is_answered_and_what_is_still_to_be_asked(build, command):
    with running_teacher_server(lambda number, text: "cut" if text.startswith("Name 7 ") else None) as server:
        build(server, "-o", "sources.dolly.sample=3", "-o", "teacher.attempts=1")
        received = len(server.received)
        folder = {file.name: file.read_bytes() for file in (command.folder / "out").iterdir()}
        process = build(server, "--dry-run")
        assert process.returncode == 0 and len(server.received) == received, process.stderr
        assert folder == {file.name: file.read_bytes() for file in (command.folder / "out").iterdir()}
        assert re.search(r"alpaca +12 +12 +[\d,]+ +11 +1\n", process.stdout)
        assert re.search(r"dolly +8 +8 +[\d,]+ +3 +5\n", process.stdout)
        line = "out/ledger.sqlite: 14 requests answered, for at most $DOLLARS in all; 6 requests still to be asked, for at most "
        match = re.search(re.escape(line).replace("DOLLARS", r"([\d.]+)") + r"\$([\d.]+)", process.stdout)
        bill, rest = map(float, match.groups())
        assert bill > 0 and rest > 0
        assert "the budget of $0.0001 may not be enough" in build(server, "--dry-run", "-o", "budget=0.0001").stdout
        server.fault_of = lambda number, text: None
        spent = manifest_of(command.folder)["spending"]["dollars"]
        build(server)
        assert manifest_of(command.folder)["spending"]["dollars"] - spent <= rest + 1e-4
        process = build(server, "--dry-run")
        assert (
            "20 requests answered" in process.stdout
            and "0 requests still to be asked, for at most $0.00" in process.stdout
        )


def test_a_dry_run_reads_the_ledger_of_a_killed_build_and_changes_nothing(build, command):
    with running_teacher_server(lambda number, text: "hang" if number > 4 else None) as server:
        process = build(server, "-o", "teacher.most_in_flight=1", runner=command.start)
        eventually(lambda: len(server.received) > 4)
        during = build(server, "--dry-run")
        assert during.returncode == 0 and "a build is writing it" in during.stderr, during.stderr
        process.kill()
        process.communicate()
        folder = {file.name: file.read_bytes() for file in (command.folder / "out").iterdir()}
        assert folder["ledger.sqlite-wal"]
        process = build(server, "--dry-run")
        assert folder == {file.name: file.read_bytes() for file in (command.folder / "out").iterdir()}
    answered, to_ask = map(
        int, re.search(r": (\d+) requests? answered.*; (\d+) requests? still", process.stdout).groups()
    )
    assert (answered, to_ask) == (4, 16)


def test_a_build_may_begin_while_a_dry_run_reads_the_sources(command):
    recipe = read_data_recipe(write_build_inputs(command.folder), [f"output={command.folder / 'out'}"])
    ledger_path = command.folder / "out" / "ledger.sqlite"
    with open_ledger(ledger_path):
        pass

    class BeginningDisplay(SilentBuildDisplay):
        def counting(self, title):
            with open_ledger(ledger_path):
                self.lines.append("a build has begun")
            return super().counting(title)

    display = BeginningDisplay()
    plan = plan_build(recipe, display)
    assert "a build has begun" in display.lines and plan.ledger_counts.to_ask_by_source.total() == 20


def test_a_dry_run_reads_a_ledger_whose_lock_it_cannot_hold(build, command):
    with running_teacher_server() as server:
        build(server, "-o", "sources.dolly.sample=3")
        lock = command.folder / "out" / ".ledger.sqlite.lock"
        lock.unlink()
        lock.mkdir()  # cannot be opened by root either
        process = build(server, "--dry-run")
    assert process.returncode == 0 and "15 requests answered" in process.stdout, process.stderr
    assert "out/ledger.sqlite: a build may be writing it, its lock cannot be held (" in process.stderr


def test_a_dry_run_counts_tokens_with_a_tokenizer(build, mini):
    with running_teacher_server() as server:
        process = build(server, "--dry-run", "--tokenizer", mini["mini:tokenizer"])
    characters, tokens = re.search(r"20 requests, ([\d,]+) characters, ([\d,]+) prompt tokens", process.stdout).groups()
    assert 0 < int(tokens.replace(",", "")) < int(characters.replace(",", ""))
