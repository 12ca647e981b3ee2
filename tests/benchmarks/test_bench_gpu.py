"""The benchmark for a GPU, tried on the CPU: what fails, what has no time and what was measured all stand in its record."""

import json
import time

import bench_gpu
import bench_gpu_inputs
import bench_gpu_report
import pytest
from bench_gpu_process import JOBS, Recorder

from orca_bench.evaluate.engine import prefix_tree


def entries_of(folder):
    return [json.loads(line) for line in (folder / "measurements.jsonl").read_text(encoding="utf-8").splitlines()]


def test_every_job_is_one_that_a_process_knows_and_bad_options_are_refused(tmp_path, capsys):
    assert {job.name for job in bench_gpu.JOBS} == set(JOBS)
    assert {job.part for job in bench_gpu.JOBS} == set(bench_gpu.PARTS)
    with pytest.raises(SystemExit):
        bench_gpu.main(["--parts", "checks,nonsense", "--device", "cpu"])
    assert "'nonsense' is not one of" in capsys.readouterr().err
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit):
        bench_gpu.main(["--out", str(tmp_path / "file" / "folder"), "--device", "cpu"])
    assert "argument --out" in capsys.readouterr().err


def test_a_measurement_that_raises_is_named_and_the_next_one_goes_on(tmp_path, capsys):
    recorder = Recorder("some_job", tmp_path, "cpu", "tiny", time.monotonic() + 60)
    assert recorder.measure("first", lambda: 1 / 0) is None
    recorder.measure("second", lambda: [{"kind": "check", "what": "two", "value": 2.0, "bound": 1.0, "passed": False}])
    recorder.measure("third", lambda: {"kind": "check"}, expected_s=100)
    first, second, third = entries_of(tmp_path)
    assert (first["job"], first["name"], first["problem"]) == (
        "some_job",
        "first",
        "ZeroDivisionError: division by zero",
    )
    assert second["value"] == 2.0 and third["left_out"].endswith("s were left")
    assert "Traceback" in capsys.readouterr().err
    bench_gpu_report.write(tmp_path)
    text = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert "| two | 2 | 1 | **NO** |" in text and "1 of 1 are outside their bounds." in text
    assert "- some_job, first: ZeroDivisionError" in text and "- some_job, third: " in text


def test_a_job_without_time_and_a_process_that_ends_with_an_error_stand_in_the_record(tmp_path, monkeypatch):
    monkeypatch.setattr(
        bench_gpu,
        "JOBS",
        (bench_gpu.Job("checks", "no_such_job", 0, 600), bench_gpu.Job("checks", "engine_checks", 10_000, 60)),
    )
    bench_gpu.run(["checks"], 700, tmp_path, "cpu", "full")
    failed, left_out = entries_of(tmp_path)
    assert failed["job"] == "no_such_job" and failed["problem"] == "its process ended with code 1"
    assert "KeyError: 'no_such_job'" in (tmp_path / "logs" / "no_such_job.log").read_text(encoding="utf-8")
    assert left_out["job"] == "engine_checks" and left_out["left_out"].endswith("s were left for it")
    # No job begins, and none is given up, before the processes of all have imported their libraries.
    assert (tmp_path / "logs" / "engine_checks.log").read_text(encoding="utf-8").startswith("imports: ")


def test_a_process_that_still_imports_at_the_limit_is_ended_and_stands_in_the_record(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_gpu, "_IMPORT_LIMIT_S", 0.05)
    bench_gpu.run(["decoding"], 600, tmp_path, "cpu", "full")
    (entry,) = entries_of(tmp_path)
    assert (entry["job"], entry["problem"]) == ("decoding", "had not imported its libraries after 0 s")
    assert "- decoding, decoding: had not imported" in (tmp_path / "gpu.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_whole_script_runs_on_a_cpu_and_what_needs_a_gpu_is_named(tmp_path):
    bench_gpu.main(
        [
            "--device",
            "cpu",
            "--sizes",
            "tiny",
            "--parts",
            "engine_checks,decoding,packing_checks",
            "--out",
            str(tmp_path),
        ]
    )
    text = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert "\n0 of " in text and "texts by mask, float32, three at once" in text
    assert "| tiny, 2 sequences, launched one by one |" in text
    assert "decoding 2, captured: RuntimeError: graphs are captured on GPUs alone" in text
    assert "packing, heads of 16: NotImplementedError" in text


@pytest.mark.long
def test_every_job_and_the_training_run_at_their_smallest_without_a_gpu(tmp_path):
    bench_gpu.main(["--device", "cpu", "--sizes", "tiny", "--budget-seconds", "3000", "--out", str(tmp_path)])
    entries = entries_of(tmp_path)
    assert {entry["job"] for entry in entries if entry.get("kind") == "environment"} == set(JOBS)
    # What is missing is the kernels and the graphs of GPUs, and nothing else.
    problems = [entry["problem"] for entry in entries if "problem" in entry]
    reasons = ("_flash_attention_forward", "No viable backend", "graphs are captured on GPUs alone")
    assert problems and all(any(reason in problem for reason in reasons) for problem in problems), problems
    text = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert "\n0 of " in text and "which try the script and measure nothing" in text
    for title in (*bench_gpu_report.SECTION_TITLES, "Training on one GPU"):
        assert (f"\n## {title}\n" in text) == (title != "Packed attention"), title


def test_a_contender_is_compared_with_the_engine_on_the_same_tasks():
    def entry(contender, seconds, difference):
        return {
            "kind": "log-likelihoods",
            "job": "evaluation_1b",
            "name": contender,
            "shape": "1.1b",
            "contender": contender,
            "task": "mmlu",
            "requests": 40,
            "sent_tokens": 4000,
            "computed_tokens": 1000,
            "seconds": seconds,
            "peak_share": 0.25,
            "peak_gib": 3.0,
            "mean_difference_nats": difference,
        }

    lines = bench_gpu_report._log_likelihood_lines(
        [entry("engine", 2.0, None), entry("lm-eval hf, batch 16", 5.0, 0.01)]
    )
    assert "| 1.1b, engine | 40 | 4,000 | 1,000 | 2.00 | **2,000** | 500 | 25.0% | 1.00 | 3.0 GiB |  |" in lines
    assert (
        "| 1.1b, lm-eval hf, batch 16 | 40 | 4,000 | 1,000 | 5.00 | **800** | 200 | 25.0% | 2.50 | 3.0 GiB | 1.0e-02 |"
        in lines
    )


def test_requests_share_what_the_shape_of_their_task_says():
    tasks = {task.name: task for task in bench_gpu_inputs.scaled_task_shapes(0.2)}
    sequences_by_task = bench_gpu_inputs.sequences_of_tasks(list(tasks.values()), 32_000)
    for name, sequences in sequences_by_task.items():
        task = tasks[name]
        assert len(sequences) == task.question_count * task.choice_count
        assert max(len(sequence.token_ids) for sequence in sequences) <= 2048
        prefix_count = -(-task.question_count // task.questions_per_prefix)
        distinct = prefix_tree.count_distinct_tokens(sequences)
        expected = prefix_count * task.shared_tokens + task.question_count * (
            task.question_tokens + task.choice_count * (task.continuation_tokens - 1)
        )
        assert distinct == pytest.approx(expected, rel=0.15), name
