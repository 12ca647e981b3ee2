"""The benchmark of the planner: that its record judges each measurement, and that a training is measured."""

import bench_training_plan_report as report
import pytest
from bench_training_plan import CONFIGURATIONS, Configuration, measure


def entry(configuration, memory_gib, seconds):
    from dataclasses import asdict

    return {"configuration": asdict(configuration), "memory_gib": memory_gib, "step_seconds": [seconds]}


@pytest.fixture(scope="module")
def exact_measurements():
    """Measurements that are what the formulas say: half a GiB for the libraries, two units of time a second."""
    shapes = [configuration for configuration in CONFIGURATIONS if configuration.precision == "fp32"]
    values = [entry(configuration, 0.0, 0.0)["configuration"] for configuration in shapes]
    return [
        {
            "configuration": value,
            "memory_gib": 0.5 + report.memory_of(value).total_gib * (value["shape"] != "tiny"),
            "step_seconds": [report.seconds_of(value) / 2],
        }
        for value in values
    ]


def test_there_are_as_many_configurations_as_the_planner_is_to_be_judged_by():
    judged = [configuration for configuration in CONFIGURATIONS if configuration.shape != "tiny"]
    assert len(set(judged)) == len(judged) >= 24
    for field in ("shape", "length", "gradient_checkpointing", "zero_stage", "processes", "precision", "packing"):
        assert len({getattr(configuration, field) for configuration in judged}) > 1


def test_measurements_that_are_what_the_formulas_say_are_all_within_the_limits(exact_measurements):
    count = len(exact_measurements) - 1
    text = " ".join(report.record(exact_measurements, [], with_times=True).split())
    assert f"{count} of {count} are within 10 %" in text and f"{count} of {count} are within 20 %" in text


def test_a_measurement_that_is_far_off_is_counted_as_such(exact_measurements):
    far_off = exact_measurements[-1] | {"memory_gib": exact_measurements[-1]["memory_gib"] * 1.2}
    text = " ".join(report.record([*exact_measurements[:-1], far_off], [], with_times=False).split())
    count = len(exact_measurements) - 1
    assert f"{count - 1} of {count} are within 10 %" in text and "-17%" in text and "Seconds," not in text


@pytest.mark.slow
def test_a_training_is_measured():
    measurement = measure(Configuration("tiny", 64, 2, 1, 0, "fp32"), 2, {})
    assert 0.1 < measurement["memory_gib"] < 3 and len(measurement["step_seconds"]) == 1
