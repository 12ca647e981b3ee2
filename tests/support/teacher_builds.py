"""Requests, a teacher's settings and one build, for tests of `data/build` without a recipe's files."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from orca_bench.data.build.answers import UNKNOWN_STATE
from orca_bench.data.build.data_recipe import Price, Teacher
from orca_bench.data.build.ledger import open_ledger
from orca_bench.data.build.teacher import AskProgress, ask
from orca_bench.data.build.teacher_requests import TeacherRequest, hash_request, request_messages

PARAMETERS = {"temperature": 0.7, "max_tokens": 32}


def teacher_settings(base_url: str, **changes) -> Teacher:
    settings = {
        "base_url": base_url,
        "model": "teacher",
        "parameters": PARAMETERS,
        "price": Price(input=1.5, output=2.0),
    }
    return Teacher(**{**settings, "timeout": 20.0, **changes})


def make_requests(count: int, source: str = "numbers") -> Iterator[TeacherRequest]:
    for number in range(1, count + 1):
        instruction = f"Say something about the number {number}."
        messages = request_messages("Be brief.", instruction, "")
        request_id = hash_request(messages, "teacher", PARAMETERS)
        yield TeacherRequest(request_id, source, number, f"{source}-{number}", 2, "Be brief.", instruction, "")


def build(
    requests: Iterable[TeacherRequest],
    ledger_path: Path,
    settings: Teacher,
    budget: float = 100.0,
    progress: AskProgress | None = None,
    **options,
) -> bool:
    """One build; returns whether the budget ended it."""
    with open_ledger(ledger_path) as ledger:
        return asyncio.run(ask(requests, ledger, settings, budget, progress, **options))


def unknown_attempts(ledger_path: Path) -> list[tuple[str, str]]:
    """Request and reason of every attempt that a closed ledger lists as `unknown, possibly paid`."""
    with contextlib.closing(sqlite3.connect(ledger_path)) as database:
        return database.execute(
            "SELECT request_id, reason FROM attempts WHERE state = ? ORDER BY attempt", [UNKNOWN_STATE]
        ).fetchall()
