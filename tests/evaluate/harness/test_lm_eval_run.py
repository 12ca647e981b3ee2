"""What lm-eval's evaluator does besides, and is switched off."""

import random

import lm_eval.api.task
import pytest
from harness_models import NumberedAnswers

from orca_bench.errors import UserError
from orca_bench.evaluate.harness import lm_eval_run
from orca_bench.evaluate.harness.lm_eval_run import explain_task_errors
from orca_bench.evaluate.harness.protocol_tasks import protocol_tasks


def test_lm_eval_still_draws_bars_of_its_own_and_we_still_hide_them(mini, capsys):
    """Fails when `lm_eval.api.task.tqdm` moves, and when lm-eval draws no bar any more (lm_eval_run._without_bars)."""
    (task,) = protocol_tasks("arc_challenge", "leaderboard", mini["mini:benchmarks"], 2)
    task.build_all_requests()
    assert "2/2" in capsys.readouterr().err
    bar = lm_eval.api.task.tqdm
    lm_eval_run.evaluate_tasks(NumberedAnswers(), [task])
    assert "2/2" not in capsys.readouterr().err and lm_eval.api.task.tqdm is bar


def test_an_error_of_a_tasks_code_names_the_task_and_a_small_pool_of_examples():
    few_rows = "swag: the code of lm-eval's task fails .*ValueError.*fewer rows than it takes"
    with pytest.raises(UserError, match=few_rows), explain_task_errors("swag"):
        random.Random(0).sample([1], 2)
    with pytest.raises(UserError, match="KeyError: 'label'.*schema"), explain_task_errors("swag"):
        {}["label"]
