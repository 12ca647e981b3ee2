"""Two models that compute at the same time: neither changes the other's numbers."""

import random
import time

import pytest
import torch
from token_receivers import random_ids, submit

from orca_bench.evaluate.engine.matrix_products import OneDnnProducts
from orca_bench.serve.sampling import Sampling


@pytest.fixture
def slow_bfloat16(monkeypatch):
    """Products for which the whole process is set to bfloat16 take 50 ms, in which others could compute."""
    linear = OneDnnProducts.linear

    def slow_linear(*arguments):
        product = linear(*arguments)
        if torch.backends.mkldnn.matmul.fp32_precision == "bf16":
            time.sleep(0.05)
        return product

    monkeypatch.setattr(OneDnnProducts, "linear", slow_linear)


@pytest.mark.skipif(not torch.cpu._is_amx_tile_supported(), reason="only AMX multiplies float32 numbers in bfloat16")
def test_a_model_in_float32_is_as_exact_beside_one_in_bfloat16_as_alone(open_scheduler, slow_bfloat16):
    schedulers = [open_scheduler(dtype=dtype) for dtype in ("bfloat16", "float32")]
    prompt_ids = random_ids(random.Random(5), 250)

    def submit_to(scheduler):
        # Scores with six likeliest tokens are not cached: the prompt is computed each time.
        return submit(scheduler, prompt_ids, 3, Sampling(greedy=True), top_count=6, scores_prompt=True)

    def scores(receiver):
        assert receiver.wait().error is None
        return [*receiver.prompt_scores, *receiver.scores]

    alone = [scores(submit_to(scheduler)) for scheduler in schedulers]
    together = [scores(receiver) for receiver in [submit_to(scheduler) for scheduler in schedulers]]
    assert together == alone
