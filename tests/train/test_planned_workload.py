"""The lengths of examples whose mean alone is known."""

import json
from pathlib import Path

import numpy as np
import pytest

from orca_bench.errors import UserError
from orca_bench.recipe import Data, Model, Recipe
from orca_bench.train.planned_workload import described_workload

RECIPE = Recipe(name="card", model=Model(base="openlm-research/open_llama_13b"), data=Data(records=["r"]))
LENGTHS_FILE = Path(__file__).resolve().parents[1] / "benchmarks" / "training_lengths.json"


@pytest.mark.parametrize("mean", [20, 307, 900, 1024])
def test_the_lengths_have_the_mean_and_none_is_above_the_greatest(mean):
    workload = described_workload(RECIPE, 20_000, mean)
    assert workload.lengths.mean() == pytest.approx(mean, rel=0.01)
    assert workload.lengths.min() >= 1 and workload.lengths.max() <= workload.longest == 1024


def test_their_spread_is_that_of_alpaca_and_dolly():
    measured_lengths = np.array(json.loads(LENGTHS_FILE.read_text(encoding="utf-8"))["lengths"]).sum(axis=1)
    lengths = described_workload(RECIPE, 20_000, round(measured_lengths.mean())).lengths
    assert np.log(lengths).std() == pytest.approx(np.log(measured_lengths).std(), rel=0.05)
    assert np.quantile(lengths, [0.1, 0.5, 0.9]) == pytest.approx(
        np.quantile(measured_lengths, [0.1, 0.5, 0.9]), rel=0.15
    )


def test_without_a_mean_every_example_has_the_greatest_length():
    assert set(described_workload(RECIPE, 10, None).lengths) == {1024}


def test_a_base_whose_shape_is_not_known_and_whose_folder_is_not_here_is_refused():
    recipe = RECIPE.model_copy(update={"model": Model(base="nobody/nothing")})
    with pytest.raises(UserError):
        described_workload(recipe, 10, 100)
