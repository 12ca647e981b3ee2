"""The typed parts of a result: what they take."""

from orca_bench.results.models import ModelDescription


def test_a_model_of_trillions_of_parameters_has_a_description():
    assert ModelDescription(name="m", parameters=2 * 10**12).parameters == 2 * 10**12
