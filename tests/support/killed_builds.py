"""A server's address in; a build that is killed again and again at random instants, and what its ledger says, out.

    python tests/support/killed_builds.py BASE_URL LEDGER REQUESTS KILLS [SEED]

Each build is forked, so that no time goes into imports, and gets SIGKILL. After each kill the file is read as it lies on
the disk: an answer that was there once must be there ever after, and no more attempts may be left in flight than
the recipe allows. Then a build runs to its end. Prints a JSON object: how many kills there were, and how many left attempts
in flight.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import sys
import time
from pathlib import Path

import openai  # noqa: F401  here, not in each forked build
from teacher_builds import build, make_requests, teacher_settings
from waiting import eventually

MOST_IN_FLIGHT = 16


def read_ledger(path: Path) -> tuple[dict[str, str], int]:
    """The answers on disk by request, and the number of attempts in flight."""
    database = sqlite3.connect(path)
    try:
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'answers'").fetchone():
            return {}, 0
        answers = dict(database.execute("SELECT request_id, text FROM answers"))
        return answers, database.execute("SELECT count(*) FROM attempts WHERE state = 'in flight'").fetchone()[0]
    finally:
        database.close()


def fork_build(base_url: str, ledger_path: Path, request_count: int) -> int:
    """The process id of a build."""
    process_id = os.fork()
    if process_id == 0:
        try:
            settings = teacher_settings(base_url, most_in_flight=MOST_IN_FLIGHT)
            build(make_requests(request_count), ledger_path, settings)
        finally:
            os._exit(0)
    return process_id


def main() -> None:
    base_url, ledger_path, request_count, kill_count = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:5])
    rng = random.Random(int(sys.argv[5]) if len(sys.argv) > 5 else 0)
    answers: dict[str, str] = {}
    kills = kills_in_flight = 0
    while kills < kill_count:
        process_id = fork_build(base_url, ledger_path, request_count)
        if rng.random() < 0.8:  # while requests are sent; the others hit the start
            for _ in range(2):  # the build opens the ledger, and writes the first attempts
                last_size = _size(ledger_path)
                eventually(lambda: _size(ledger_path) != last_size, poll_s=0.001)  # noqa: B023
        time.sleep(rng.random() * 0.2)
        assert os.waitpid(process_id, os.WNOHANG) == (0, 0), (
            f"the build ended after {kills} kills: ask for more requests"
        )
        os.kill(process_id, signal.SIGKILL)
        os.waitpid(process_id, 0)
        kills += 1
        if ledger_path.exists():
            answers_now, in_flight = read_ledger(ledger_path)
            assert answers.items() <= answers_now.items(), "an answer that was on disk is lost"
            assert in_flight <= MOST_IN_FLIGHT
            answers, kills_in_flight = answers_now, kills_in_flight + bool(in_flight)
    process_id = fork_build(base_url, ledger_path, request_count)
    os.waitpid(process_id, 0)
    answers_now, in_flight = read_ledger(ledger_path)
    assert answers.items() <= answers_now.items() and len(answers_now) == request_count and not in_flight
    print(json.dumps({"kills": kills, "kills_in_flight": kills_in_flight}))


def _size(ledger_path: Path) -> int:
    """Bytes of the ledger and its journal."""
    paths = (ledger_path, ledger_path.with_name(f"{ledger_path.name}-wal"))
    return sum(path.stat().st_size for path in paths if path.exists())


if __name__ == "__main__":
    main()
