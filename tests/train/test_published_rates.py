"""The time of a step beside published rates of training: fitted on five of them, judged by the others."""

import math
from dataclasses import replace

import numpy as np
import pytest
from published_rates import CONSTANT_MFU, RATES_FILE, error, error_of_constant, is_fitted, name_of, read_rates

from orca_bench.train import step_estimate
from orca_bench.train.gpus import find_gpu

pytestmark = pytest.mark.skipif(not RATES_FILE.is_file(), reason="no published training rates on this machine")


def test_the_formulas_are_nearer_to_the_rates_they_were_not_fitted_to_than_two_constants_fitted_to_all():
    judged = [rate for rate in read_rates() if not is_fitted(rate) and rate["gpu"] in CONSTANT_MFU]
    assert len(judged) >= 16
    print()
    for rate in judged:
        print(f"{name_of(rate):34} formulas {error(rate):+6.1%}  constants {error_of_constant(rate):+6.1%}")
    errors, errors_of_constants = ([abs(kind(rate)) for rate in judged] for kind in (error, error_of_constant))
    assert max(errors) < max(errors_of_constants)
    assert np.mean(errors) < 0.85 * np.mean(errors_of_constants)


def test_rates_of_other_cards_and_of_several_nodes_are_within_a_fifth():
    others = [rate for rate in read_rates() if rate["gpus"] != "8" or rate["gpu"] not in CONSTANT_MFU]
    assert others and max(abs(error(rate)) for rate in others) < 0.2


def test_the_constants_are_the_least_squares_of_the_five_rates_they_are_fitted_to(monkeypatch):
    fitted_rates = [rate for rate in read_rates() if is_fitted(rate)]
    assert len(fitted_rates) == 5
    a100 = find_gpu("a100-80g", {})

    def loss(attention_factor=1.0, traffic_factor=1.0, collective_factor=1.0):
        changed = replace(a100, attention_share=a100.attention_share * attention_factor)
        with monkeypatch.context() as patch:
            patch.setattr(step_estimate, "TRAFFIC_BYTES", step_estimate.TRAFFIC_BYTES * traffic_factor)
            patch.setattr(step_estimate, "COLLECTIVE_SHARE", step_estimate.COLLECTIVE_SHARE * collective_factor)
            return sum(math.log1p(error(rate, changed)) ** 2 for rate in fitted_rates)

    best = loss()
    assert best < 5 * 0.02**2
    for factor in (0.9, 1.1):
        assert loss(attention_factor=factor) > best
        assert loss(traffic_factor=factor) > best
        assert loss(collective_factor=factor) > best
