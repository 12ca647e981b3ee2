"""All protocols send, feed and score on the real rows what tests/support/golden.json says, to the last byte."""

import json

import golden
import pytest

from orca_bench import tokenizers
from orca_bench.evaluate import protocols
from orca_bench.evaluate.tasks import SUITE
from orca_bench.system_messages import system_message

EXPECTED = json.loads(golden.FILE.read_text(encoding="utf-8"))


#: The tasks of most requests, which take most of the time.
LARGE = ("hellaswag", "mmlu", "drop")
TASKS = [pytest.param(task, marks=[pytest.mark.slow] if task.name in LARGE else [], id=task.name) for task in SUITE]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", protocols.REQUEST_PROTOCOLS)
def test_requests_token_ids_and_scores_are_the_golden_ones(shared, name, task):
    tokenizer = tokenizers.load_tokenizer(shared / "tokenizer" / "tokenizer.model")
    protocol = protocols.protocol_by_name(name, system_message(5))
    assert golden.figures(protocol, task, shared / "benchmarks", tokenizer) == EXPECTED[name][task.name]
