"""The ledger on disk: kills at random instants, a second builder, a full disk, a clock that is set back, files that are none."""

import asyncio
import json
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from teacher_builds import build, make_requests, teacher_settings, unknown_attempts
from teacher_server import answer_text, count_tokens, running_teacher_server

from orca_bench.data.build.ledger import _abandon_statement, open_ledger
from orca_bench.data.build.prices import PICODOLLARS
from orca_bench.data.build.teacher import AskProgress
from orca_bench.errors import UserError, WriteError

SUPPORT = Path(__file__).resolve().parents[2] / "support"


@pytest.mark.parametrize(("request_count", "kill_count"), [(500, 5), pytest.param(6000, 100, marks=pytest.mark.long)])
def test_kills_at_random_instants_lose_no_answer_and_no_dollar(tmp_path, request_count, kill_count):
    ledger_path = tmp_path / "ledger.sqlite"
    with running_teacher_server(
        delay_s=0.05, keeps_bodies=False
    ) as server:  # longer in all than the time between kills
        arguments = [server.base_url, ledger_path, request_count, kill_count]
        command = [sys.executable, SUPPORT / "killed_builds.py", *arguments]
        output = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout
        assert json.loads(output)["kills"] == kill_count
        assert json.loads(output)["kills_in_flight"] >= kill_count / 5
        received, billed = Counter(server.received), server.billed
        server_tokens = (server.prompt_tokens, server.completion_tokens)
    requests = {request.request_id: request for request in make_requests(request_count)}
    with open_ledger(ledger_path) as ledger:
        spending = ledger.spending_by_source()["numbers"]
        for request_id, request in requests.items():
            assert ledger.answer_of(request_id).text == answer_text(request.messages)
    unknown = Counter(request_id for request_id, _ in unknown_attempts(ledger_path))
    assert spending.unknown_attempts == sum(unknown.values())
    assert {attempt for attempt in unknown} <= set(requests)
    unknown_tokens = [0, 0]
    for request_id, request in requests.items():
        text = request.messages[-1]["content"]
        # Nothing was sent that the ledger does not have; all that was billed besides its answer is listed as unknown.
        assert 1 <= billed[text] <= received[text] <= 1 + unknown[request_id]
        for part, count in enumerate(count_tokens(request.messages)):
            unknown_tokens[part] += (billed[text] - 1) * count
    assert (spending.prompt_tokens + unknown_tokens[0], spending.completion_tokens + unknown_tokens[1]) == server_tokens
    server_picodollars = 1_500_000 * server_tokens[0] + 2_000_000 * server_tokens[1]
    unknown_picodollars = 1_500_000 * unknown_tokens[0] + 2_000_000 * unknown_tokens[1]
    assert round(spending.dollars * PICODOLLARS) + unknown_picodollars == server_picodollars
    assert unknown_picodollars <= spending.unknown_dollars * PICODOLLARS


def test_a_second_builder_is_refused_while_the_first_has_the_ledger(tmp_path):
    path = tmp_path / "ledger.sqlite"
    import_line = "from pathlib import Path; from orca_bench.data.build.ledger import open_ledger"
    script = f"{import_line}; open_ledger(Path({str(path)!r})).__enter__()"
    with open_ledger(path):
        with pytest.raises(UserError, match="another build is writing this ledger"), open_ledger(path):
            pass
        second = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert "UserError" in second.stderr and "another build is writing this ledger" in second.stderr
    with open_ledger(path):
        pass


def test_a_full_disk_ends_the_build_and_the_same_command_goes_on(tmp_path):
    requests = list(make_requests(400))
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000));"
        f"sys.path.insert(0, {str(SUPPORT)!r}); from pathlib import Path;"
        "from teacher_builds import build, make_requests, teacher_settings;"
        "build(make_requests(400), Path(sys.argv[2]), teacher_settings(sys.argv[1]))"
    )
    path = tmp_path / "ledger.sqlite"
    with running_teacher_server() as server:
        first = subprocess.run(
            [sys.executable, "-c", script, server.base_url, str(path)], capture_output=True, text=True
        )
        assert "WriteError" in first.stderr and "cannot write the ledger" in first.stderr and "is kept" in first.stderr
        with open_ledger(path) as ledger:
            answered = ledger.final_ids([request.request_id for request in requests])
        assert 0 < len(answered) < 400
        build(requests, path, teacher_settings(server.base_url))
        texts_of_answered = {request.messages[-1]["content"] for request in requests if request.request_id in answered}
        received = Counter(server.received)
        assert all(received[text] == 1 for text in texts_of_answered)
    with open_ledger(path) as ledger:
        assert len(ledger.final_ids([request.request_id for request in requests])) == 400


def test_a_clock_that_is_set_back_between_two_builds_changes_nothing(tmp_path):
    path = tmp_path / "ledger.sqlite"
    requests = list(make_requests(6))
    with running_teacher_server() as server:
        build(requests[:3], path, teacher_settings(server.base_url))
        database = sqlite3.connect(path)  # as if the first build had been in another century
        database.execute("UPDATE attempts SET sent_at = '2126-01-01T00:00:00+00:00'")
        database.commit()
        database.close()
        progress = AskProgress()
        build(requests, path, teacher_settings(server.base_url), progress=progress)
        assert progress.answered_before == 3 and progress.answered == 3 and len(server.received) == 6


@pytest.mark.parametrize("content", [b"no database at all, but a text that is long enough to be one" * 20, None])
def test_a_file_that_is_no_ledger_is_refused_and_left_as_it_is(tmp_path, content):
    path = tmp_path / "ledger.sqlite"
    if content is None:
        database = sqlite3.connect(path)
        database.execute("CREATE TABLE recipes_of_a_cook (name)")
        database.commit()
        database.close()
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match="not a ledger"), open_ledger(path):
        pass
    assert content is None or path.read_bytes() == content


def test_a_ledger_that_another_program_has_open_is_refused(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with open_ledger(path):
        pass
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("BEGIN EXCLUSIVE")
    with pytest.raises(UserError, match="another program has this ledger open"), open_ledger(path):
        pass
    database.close()


def test_a_folder_that_cannot_be_written_is_an_error_of_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError), open_ledger(tmp_path / "file" / "ledger.sqlite"):
        pass


def test_a_ledger_that_is_opened_again_stays_as_it_is(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with open_ledger(path):
        pass
    content = path.read_bytes()
    with open_ledger(path):
        assert not path.with_name("ledger.sqlite-wal").stat().st_size
    assert path.read_bytes() == content


def test_prices_of_attempts_add_up_exactly(tmp_path):
    async def spend():
        with open_ledger(tmp_path / "ledger.sqlite") as ledger:
            for request in make_requests(200):
                attempt = await ledger.begin_attempt(request, 5)
                await ledger.end_attempt(attempt, request.request_id, "failed", 1, 1, 0, "a reason")
            return ledger.committed_picodollars, ledger.spending_by_source()["numbers"]

    committed, spending = asyncio.run(spend())
    assert committed == spending.prompt_tokens == round(spending.dollars * PICODOLLARS) == 200


def test_what_waits_for_the_disk_together_is_written_by_few_commits(tmp_path):
    commits = []

    async def begin_together():
        with open_ledger(tmp_path / "ledger.sqlite") as ledger:
            ledger._database.set_trace_callback(lambda statement: commits.append(statement == "COMMIT"))
            await asyncio.gather(*(ledger.begin_attempt(request, 5) for request in make_requests(64)))
            ledger._database.set_trace_callback(None)

    asyncio.run(begin_together())
    assert 1 <= sum(commits) <= 16  # 64 in flight


def test_the_disk_is_waited_for_at_each_commit(tmp_path):
    with open_ledger(tmp_path / "ledger.sqlite") as ledger:
        assert ledger._database.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert ledger._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_number_that_the_file_cannot_hold_is_an_error_and_no_endless_wait(tmp_path):
    async def begin(worst_cases):
        with open_ledger(tmp_path / "ledger.sqlite") as ledger:
            attempts = zip(make_requests(len(worst_cases)), worst_cases, strict=True)
            return await asyncio.wait_for(
                asyncio.gather(*(ledger.begin_attempt(*attempt) for attempt in attempts), return_exceptions=True), 60
            )

    outcomes = asyncio.run(begin([2**70, 5]))
    assert all(isinstance(outcome, UserError) and "cannot write the ledger" in str(outcome) for outcome in outcomes)
    assert asyncio.run(begin([5])) == [1]


def test_what_was_in_flight_is_looked_up_by_the_index(tmp_path):
    with open_ledger(tmp_path / "ledger.sqlite") as ledger:
        statement, parameters = _abandon_statement("a reason")
        plan = ledger._database.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
    assert "attempts_in_flight" in str(plan)
