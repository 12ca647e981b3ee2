"""Batch schedulers of a tiny model: one for the tests of a file, and some of their own."""

import pytest

from orca_bench.models.model_folder import ModelFolder
from orca_bench.serve.batch_scheduler import BatchScheduler


@pytest.fixture(scope="module")
def scheduler(tiny_model):
    scheduler = BatchScheduler(ModelFolder(str(tiny_model)))
    yield scheduler
    scheduler.close()


@pytest.fixture
def open_scheduler(tiny_model):
    """Opens schedulers of their own for a test that fills them, and closes them at its end."""
    schedulers = []

    def open_one(**options):
        schedulers.append(BatchScheduler(ModelFolder(str(tiny_model)), **options))
        return schedulers[-1]

    yield open_one
    for scheduler in schedulers:
        scheduler.close()
