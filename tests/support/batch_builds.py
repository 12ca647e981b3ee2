"""Builds in batches against the test server, and what must hold after them."""

import asyncio

from batch_server import BatchServer
from teacher_builds import make_requests, teacher_settings
from teacher_server import answer_text, running_teacher_server

from orca_bench.data.build.batch_ledger import open_batches
from orca_bench.data.build.batch_teacher import ask_in_batches
from orca_bench.data.build.data_recipe import BatchSettings
from orca_bench.data.build.ledger import open_ledger

COUNT = 10


def serving(**settings):
    return running_teacher_server(server_class=BatchServer, **settings)


def batch_settings(base_url, teacher=None, **changes):
    batch = BatchSettings(**{"poll_seconds": 0.01, "most_requests": 4, **changes})
    return teacher_settings(base_url, batch=batch, **(teacher or {}))


def build(ledger_path, settings, budget=100.0, progress=None, report=lambda line: None, count=COUNT, **options):
    """One build; returns whether the budget ended it."""
    requests = list(make_requests(count))
    with open_ledger(ledger_path) as ledger:
        return asyncio.run(ask_in_batches(requests, ledger, settings, budget, progress, report, **options))


def check_answers(ledger_path, count=COUNT):
    """Each request has its own answer, and no batch is left."""
    with open_ledger(ledger_path) as ledger:
        for request in make_requests(count):
            assert ledger.answer_of(request.request_id).text == answer_text(request.messages)
        assert not open_batches(ledger) and not ledger.picodollars_in_batches
    assert not ledger_path.with_name(".batches").exists()


def fault_once(call, fault, number=1):
    return lambda this_call, this_number: fault if (this_call, this_number) == (call, number) else None
