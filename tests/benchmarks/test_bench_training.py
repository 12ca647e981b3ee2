"""The benchmark of training: the lengths of its records, that its contenders train the same, and what its record says."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import bench_training
import bench_training_attention
import bench_training_command
import bench_training_gpu
import bench_training_report as report
import killed_run
import numpy as np
import pytest
from bench_training_attention import AttentionCheck
from bench_training_contenders import Contender, Task, encode
from bench_training_process import ContenderFailed, run_process
from bench_training_rows import LENGTHS_FILE, MAX_LENGTH, length_table, prepare_rows

from orca_bench.recipe import Recipe
from orca_bench.tokenizers import load_tokenizer
from orca_bench.train import packed_attention, student_model
from orca_bench.train.batch_plan import BatchPlan
from orca_bench.train.run_folder import Run

TINY_SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.fixture(scope="module")
def task(tmp_path_factory) -> Task:
    """Three steps of 16 examples of a tiny LLaMA, the first of them not timed; one more is left for orca-bench to begin."""
    rows = prepare_rows(tmp_path_factory.mktemp("rows"), [], None, vocab_size=300, count=4 * 16)
    return Task(TINY_SHAPE, str(rows.records_file), str(rows.tokenizer_source), MAX_LENGTH, 1, 2, threads=1)


def measure(contender: Contender, task: Task) -> dict:
    from dataclasses import asdict

    return run_process({"contender": asdict(contender), "task": asdict(task)}, timeout_s=500)


def test_records_of_generated_words_have_the_lengths_of_the_table(tmp_path):
    table = json.loads(LENGTHS_FILE.read_text(encoding="utf-8"))["lengths"]
    examples = prepare_rows(tmp_path, [], None, vocab_size=500, count=len(table)).examples
    lengths = zip(examples.prompt_lengths.tolist(), examples.trained_token_counts.tolist(), strict=True)
    assert sorted(lengths) == sorted(map(tuple, table))
    assert examples.ids.min() > 0  # no unknown word


def test_records_of_generated_words_have_the_lengths_of_real_ones(tmp_path, mini):
    tokenizer_file, records_file = mini["mini:tokenizer"], mini["mini:records"]
    size = load_tokenizer(tokenizer_file).vocab_size
    real = prepare_rows(tmp_path / "real", [records_file], tokenizer_file, size, count=20).examples
    generated = prepare_rows(tmp_path / "generated", [records_file], tokenizer_file, size + 99, count=20).examples
    assert real.lengths.tolist() == generated.lengths.tolist()
    assert real.prompt_lengths.tolist() == generated.prompt_lengths.tolist()
    assert real.ids.tolist() != generated.ids.tolist()


def test_the_length_table_has_the_mean_of_all_lengths(task):
    examples, _ = encode(task)
    assert np.sum(length_table(examples)) / 256 == pytest.approx(examples.lengths.mean(), rel=0.05)


@pytest.mark.long
def test_contenders_start_from_the_same_loss_and_count_the_same_tokens(task):
    contenders = [
        Contender("padded", "fp32", micro_batch=4),
        Contender("packed", "fp32"),
        Contender("packed", "fp32", row_tokens=600),
        Contender("orca", "fp32", micro_batch=4, packing="none"),
        Contender("orca", "fp32", micro_batch=8, packing="exact", processes=2),
    ]
    measurements = [measure(contender, task) for contender in contenders]
    first = measurements[0]
    for contender, measurement in zip(contenders, measurements, strict=True):
        assert measurement["first_loss"] == pytest.approx(first["first_loss"], rel=1e-6), contender.name
        assert measurement["tokens"] == first["tokens"]
        assert len(measurement["step_seconds"]) == 2
        assert sum(measurement["step_seconds"]) == pytest.approx(measurement["seconds"], abs=0.01)
    assert first["computed_tokens"] > first["tokens"]
    assert measurements[1]["computed_tokens"] == first["tokens"]
    assert measurements[3]["computed_tokens"] == first["computed_tokens"]


@pytest.mark.long
@pytest.mark.parametrize("sampling", ["random", "group_by_length", "batch_rebalance"])
def test_the_trainer_trains_the_same_examples_in_every_order(task, sampling):
    measurement = measure(Contender("trainer", "bf16", micro_batch=4, sampling=sampling), task)
    padded = measure(Contender("padded", "bf16", micro_batch=4), task)
    assert measurement["tokens"] == padded["tokens"]
    assert measurement["computed_tokens"] > measurement["tokens"]
    assert measurement["parameters"] == padded["parameters"]


@pytest.mark.parametrize(("packing", "processes"), [("none", 2), ("exact", 2)])
def test_the_computed_tokens_of_orca_bench_are_those_of_its_passes(task, packing, processes):
    contender = Contender("orca", "fp32", micro_batch=4, packing=packing, processes=processes)
    examples, tokenizer = encode(task)
    recipe = Recipe.model_validate(json.loads(bench_training_command.recipe_text(contender, task, step_count=4)))
    config = student_model.student_config(recipe, tokenizer)
    count = bench_training_command.computed_tokens(examples, recipe, config, task)
    plan = BatchPlan.of_recipe(recipe, examples, config)
    lengths = [examples.lengths[plan.example_indices_of_step(step)] for step in (1, 2)]  # step 0 is not timed
    if packing == "exact":
        assert count == sum(map(np.sum, lengths))
    else:  # the examples of a step are sorted, and each four of them are as wide as the longest
        assert count == sum(4 * np.sort(step_lengths)[3::4].sum() for step_lengths in lengths)


def test_a_contender_that_fails_says_why(task):
    with pytest.raises(ContenderFailed, match="ended early[^$]*train.global_batch"):
        measure(Contender("orca", "fp32", micro_batch=4, processes=3), task)


def test_every_row_of_the_trainer_is_another():
    grid = bench_training.trainer_grid()
    assert len(set(grid)) == len(grid) == 24
    assert {contender.micro_batch for contender in grid} == {1, 2, 4, 8, 16}


def entry(table: str, contender: Contender, rate: float, computed: int = 1000) -> dict:
    measurement = {"seconds": 1000 / rate, "tokens": 1000, "computed_tokens": computed, "parameters": 10**6}
    measurement |= {"threads": 2, "first_loss": 10.5, "peak_gib": None}
    return {"table": table, "contender": vars(contender), "measurement": measurement}


def test_the_rival_is_the_trainers_best_row_of_the_same_number_type():
    slow, fast = Contender("trainer", "fp32", micro_batch=1), Contender("trainer", "fp32", micro_batch=2)
    other = Contender("trainer", "bf16", micro_batch=4)
    entries = [entry("15m screening", contender, rate) for contender, rate in ((slow, 50), (fast, 60), (other, 90))]
    assert report.best_trainer(entries, "fp32") == fast
    assert report.best_trainer(entries, "bf16") == other


def test_a_goal_is_measured_on_medians_and_reached_or_missed():
    trainer, ours = Contender("trainer", "fp32"), Contender("orca", "fp32", packing="exact")
    entries = [entry("15m", trainer, rate) for rate in (100, 10, 101)]
    entries += [entry("15m", ours, rate, computed=1020) for rate in (140, 900, 149)]
    entries += [entry("15m", replace(ours, precision="bf16"), 220)]
    lines = report.training_goals(entries)
    assert any("15M, fp32 | 1.5 | 1.5 | 1.49 (149 / 100) | **missed**" in line for line in lines)
    assert any("bf16 / fp32, 15M | 1.4 | 1.3 | 1.48 (220 / 149) | reached" in line for line in lines)
    assert any("padding" in line and "1.96% | **missed**" in line for line in lines)
    assert not any("8,192" in line for line in lines)


def test_a_table_has_the_ratio_to_the_rival_of_the_same_number_type():
    trainer, ours = Contender("trainer", "fp32"), Contender("orca", "fp32", packing="exact", processes=2)
    entries = [entry("15m", trainer, 100, computed=2000), entry("15m", ours, 150)]
    rows = [
        line for line in report.table_section("T", "15m", entries) if "orca-bench" in line or "Trainer, micro" in line
    ]
    assert "| **100** | 100 | 1.00 |  | 50.0% |" in rows[0]
    assert "2 × 2 | **150** | 150 | 1.50 |  | 0.0% |" in rows[1]


def test_the_check_of_attention_compares_with_float32_and_finds_examples_that_see_one_another(monkeypatch):
    def attend_as_one_example(query, key, value, scaling, sliding_window, boundaries, longest):
        return one_by_one(query, key, value, scaling, sliding_window, [int(boundaries[-1])])

    def attend_alone(query, key, value, scaling, sliding_window, boundaries, longest):
        return one_by_one(query, key, value, scaling, sliding_window, boundaries.diff().tolist())

    one_by_one = packed_attention._attend_one_by_one
    monkeypatch.setattr(bench_training_attention, "_LENGTHS", [7, 1, 30])
    differences = []
    for kernel in (attend_alone, attend_as_one_example):  # no GPU here
        monkeypatch.setattr(packed_attention, "_attend_in_one_kernel", kernel)
        check = bench_training_attention.check_attention(16, device="cpu")
        differences.append((check.output_difference, check.gradient_difference))
    assert 0 < max(differences[0]) < 0.02 and min(differences[1]) > 0.1


def test_on_a_gpu_what_does_not_fit_the_budget_or_fails_is_named_and_the_rest_is_written(tmp_path, monkeypatch):
    def measure_without_gpu(specification: dict, timeout_s: float) -> dict:
        if "head_sizes" in specification:
            checks = [vars(AttentionCheck(head_size, 0.001, 0.002, 1.25, 2.5)) for head_size in (64, 128)]
            return {"checks": checks, "problems": {"100": "head_size must be a multiple of 8"}}
        contender = Contender(**specification["contender"])
        if contender.packing == "dense":
            raise ContenderFailed("torch.OutOfMemoryError: CUDA out of memory")
        if contender.micro_batch == 8:
            raise subprocess.TimeoutExpired("bench", timeout_s)
        return entry("", contender, 5000 if contender.program == "orca" else 2500)["measurement"]

    monkeypatch.setattr(bench_training_gpu, "run_process", measure_without_gpu)
    monkeypatch.setattr(
        bench_training_gpu, "_expected_seconds", lambda shape_name, contender: 10 if shape_name == "1b" else 1e6
    )
    bench_training_gpu.run(["1b", "3b"], 500, tmp_path)
    text = (tmp_path / "training-gpu.md").read_text(encoding="utf-8")
    table, left_out = text.split("Left out:")
    assert "| 1b, 0.00 B | orca-bench, packing exact, 1 process | 16 | 100 | **5,000** | 2.00 |" in table
    assert "3b" not in table
    assert "| 128 | 1.0e-03 | 2.0e-03 | 1.25 ms | 2.50 ms |" in table
    assert "attention with heads of 100: head_size must" in left_out
    assert (
        "1b, orca-bench, packing dense, 1 process, gradient checkpointing, batch 16: torch.OutOfMemoryError" in left_out
    )
    assert "micro batch 8, random, gradient checkpointing, batch 16: was not done after" in left_out
    assert left_out.count("s were left") == len(bench_training_gpu.attempts(["3b"]))
    lines = (tmp_path / "measurements.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == table.count("| 1b,")


def test_a_record_has_every_table_and_a_second_run_goes_on_after_the_measurements_of_the_first(tmp_path, monkeypatch):
    specifications = []

    def measure_nothing(specification: dict) -> dict:
        specifications.append(specification)
        if "loss" in specification:
            return {"peak_gib": 0.1, "gradients_gib": 0.05, "loss": 10.5}
        if specification["contender"]["batch"] != 16:
            raise ContenderFailed("out of memory")
        return entry("", Contender(**specification["contender"]), 1000)["measurement"]

    conditions = {"sources_sha256": "abc", "libraries": {"torch": "2"}, "machine": "m", "warmup_steps": 2}
    monkeypatch.setattr(bench_training, "measurement_conditions", lambda warmup_steps: dict(conditions))
    monkeypatch.setattr(bench_training, "run_process", measure_nothing)
    words = ["--repeats", "2", "--steps", "4", "--measurements", str(tmp_path / "measurements.jsonl")]
    with pytest.raises(SystemExit, match="plain PyTorch, packed, fp32: out of memory"):
        bench_training.main([*words, "--tables", "15m,8k", "--out", str(tmp_path / "a.md")])
    assert not (tmp_path / "a.md").exists()
    first_count = len(specifications) - 1  # without the one that failed
    with open(tmp_path / "measurements.jsonl", "a") as handle:
        handle.write('{"table": "15m", "conten')  # of a run that was killed while it wrote
    del specifications[:]
    bench_training.main([*words, "--tables", "15m,loss", "--out", str(tmp_path / "b.md")])
    text = (tmp_path / "b.md").read_text(encoding="utf-8")
    assert "## 15M parameters, 16 examples a step" in text and "by micro batch and sampling" in text
    assert text.count("| Trainer, micro batch") == 24 + 2
    assert "## Memory of the output head" in text
    assert (first_count, len(specifications)) == (24 + 2 * 14, 4)
    del specifications[:]
    bench_training.main([*words, "--tables", "loss", "--out", str(tmp_path / "c.md")])
    assert not specifications  # the lines after the half one are read
    for changed in [{"warmup_steps": 3}, {"libraries": {"torch": "3"}}, {"sources_sha256": "abd"}]:
        del specifications[:]
        conditions |= changed
        bench_training.main([*words, "--tables", "loss", "--out", str(tmp_path / "c.md")])
        assert len(specifications) == 4


@pytest.mark.slow
def test_the_smallest_benchmark_runs_from_start_to_end_and_measures_nothing_again(tmp_path, capsys):
    words = ["--tables", "tiny", "--repeats", "1", "--steps", "1", "--warmup", "1", "--measurements"]
    words += [str(tmp_path / "m.jsonl"), "--out"]
    bench_training.main([*words, str(tmp_path / "a.md")])
    measurements = (tmp_path / "m.jsonl").read_text(encoding="utf-8")
    assert len(measurements.splitlines()) == 4
    bench_training.main([*words, str(tmp_path / "b.md")])
    assert (tmp_path / "m.jsonl").read_text(encoding="utf-8") == measurements
    tables = [(tmp_path / name).read_text(encoding="utf-8").split("|", 1)[1] for name in ("a.md", "b.md")]
    assert tables[0] == tables[1] and "| orca-bench, packing exact, 1 process | fp32 |" in tables[0]


def test_a_measurement_has_its_conditions():
    conditions = bench_training.measurement_conditions(3)
    assert conditions["warmup_steps"] == 3 and "cores of" in conditions["machine"]
    assert {"torch", "transformers", "deepspeed"} <= set(conditions["libraries"]) and "sources_sha256" in conditions


def test_a_change_of_what_is_measured_changes_the_hash_of_the_sources_and_a_document_does_not(tmp_path):
    for name in ("orca_bench/train/loop.py", "orca_bench/train/README.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    first = bench_training.sources_sha256(tmp_path)
    (tmp_path / "orca_bench/train/README.md").write_text("2")
    assert bench_training.sources_sha256(tmp_path) == first
    (tmp_path / "orca_bench/train/loop.py").write_text("2")
    assert bench_training.sources_sha256(tmp_path) != first


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--records r.jsonl", "--records and --tokenizer belong together"),
        ("--records r.jsonl --tokenizer t.model", "r.jsonl: no such file"),
        ("--tables 15m,9k", "'9k' is not one of 15m, 8k, 135m, loss, tiny"),
        ("--micro-batches 2,3", "'3' is not one of 1, 2, 4, 8, 16"),  # 3 does not divide a step of 16 examples
        ("--warmup 0", "'0' is not a number of 1 or more"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_measured(words, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        bench_training.main(words.split())
    assert message in capsys.readouterr().err


def test_the_benchmark_on_a_gpu_refuses_an_unknown_shape(capsys):
    with pytest.raises(SystemExit, match="2"):
        bench_training_gpu.main(["--shapes", "1b,7b"])
    assert "'7b' is not one of 1b, 3b" in capsys.readouterr().err


def test_a_run_that_is_killed_and_one_that_is_not_begin_in_new_folders(tmp_path, monkeypatch):
    recipe_path = Path(killed_run.__file__).parents[2] / "recipes" / "mini.yaml"
    (tmp_path / "runs" / "mini-killed").mkdir(parents=True)
    words = ["killed_run.py", str(recipe_path), "--runs", str(tmp_path / "runs"), "--kill-at", "3", "-o", "name=mini"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit, match="mini-killed exists already; remove it"):
        killed_run.main()
    assert not (tmp_path / "runs" / "mini").exists()


def test_a_killed_run_that_ended_earlier_is_compared_in_the_steps_that_both_have(tmp_path):
    whole, killed = Run(tmp_path / "whole"), Run(tmp_path / "killed")
    for run, steps, loss in ((whole, [1, 2, 3], 4.0), (killed, [1, 2], 4.5)):
        run.folder.mkdir()
        lines = [{"step": step, "loss": loss, "held_out_loss": 5.0 if step != 2 else loss} for step in steps]
        run.metrics_file.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 4, "lo')
    (whole.model).mkdir()
    (whole.model / "model.safetensors").write_text("weights")
    comparison = killed_run.compare(whole, killed, [1])
    assert (comparison["steps"], comparison["common_steps"]) == (2, 2)
    assert comparison["steps_without_gap_or_double"] and not comparison["same_weights"]
    assert (comparison["largest_loss_difference"], comparison["largest_held_out_difference"]) == (0.5, 0.5)
    killed.metrics_file.write_text(killed.metrics_file.read_text() * 2)
    assert not killed_run.compare(whole, killed, [1])["steps_without_gap_or_double"]
