"""A process that is killed and memory that is full end a training with what happened, to which rank, and what to do."""

import json
import re
import signal

import psutil
import pytest
from waiting import PATIENCE_S, eventually

from orca_bench import child_processes
from orca_bench.recipe import Recipe
from orca_bench.train import memory_errors
from orca_bench.train.run_folder import Run


@pytest.mark.parametrize(
    ("launcher", "rank"),
    [
        ("torchrun", 1),
        pytest.param("torchrun", 0, marks=pytest.mark.long),
        pytest.param("deepspeed", 1, marks=pytest.mark.slow),
    ],
)
def test_a_process_that_is_killed_is_named_and_the_run_goes_on_from_its_checkpoint(orca, launcher, rank):
    words = ("train", "r.yaml", "-o", f"name={launcher}-{rank}", "-o", "train.epochs=5", "--launcher", launcher)
    run = Run(orca.folder / "runs" / f"{launcher}-{rank}")
    command = orca.start(*words)
    eventually(lambda: command.poll() is not None or (run.checkpoints_folder / "latest").is_file())
    assert command.poll() is None, command.communicate()
    process_id = int(run.rank_file(rank).read_text())
    assert psutil.Process(process_id).environ()["RANK"] == str(rank)
    psutil.Process(process_id).send_signal(signal.SIGKILL)
    _, err = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 1 and "Traceback" not in err
    assert f"failed: rank {rank} (process {process_id}) was killed; the same command continues from " in err
    assert "lower train.micro_batch (now 2)" in err
    assert child_processes.running_process_ids(run.process_purpose) == []
    assert Run(run.folder).status == "failed" and not list(run.folder.glob(run.rank_file_pattern))
    assert run.curves_file.is_file()
    process = orca(*words, "-o", "train.checkpoint_every=1000")
    steps = [json.loads(line)["step"] for line in run.metrics_file.read_text().splitlines()]
    assert process.returncode == 0 and steps == list(range(1, len(steps) + 1)), process.stderr


def test_the_error_of_one_process_at_start_up_is_reported_and_not_the_end_of_the_others(orca):
    words = ("train", "r.yaml", "-o", "name=mode", "-o", "train.trackers=[wandb]")
    refusal = orca.refused(*words, env={"WANDB_MODE": "of"})  # the other process waits for the first one, and is ended
    assert "Weights & Biases cannot be used" in refusal and "'offline'" in refusal and "killed" not in refusal
    assert Run(orca.folder / "runs" / "mode").status == "failed"


#: `orca-bench WORDS` with at most LIMIT bytes of addresses. A `preexec_fn` would set them too, but makes subprocess copy the
#: whole process of the tests, for which the memory may not be there.
WITH_LIMITED_MEMORY = """
import resource, sys
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
from orca_bench.cli.main import main
main()
"""


def test_full_memory_names_the_keys_that_need_less(orca):
    # The MLP's first product, 6,927 tokens × 262,144 × 4 bytes, is 6.8 GiB in one allocation: above the limit by itself. With
    # one example a step the same training takes 3.8 GiB of addresses.
    limit = 6 * 2**30
    command = orca.start(
        limit,
        *("train", "r.yaml", "-o", "name=large", "-o", "model.random.intermediate_size=262144"),
        *("-o", "model.random.num_hidden_layers=1", "-o", "train.processes=1", "-o", "train.export_every=null"),
        *("-o", "train.micro_batch=92", "-o", "train.global_batch=92", "-o", "train.accumulation=1"),
        env={"MALLOC_ARENA_MAX": "1"},  # else each thread takes addresses: more on a machine with more cores
        python_words=("-c", WITH_LIMITED_MEMORY),
    )
    _, err = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 2, err
    assert re.match(
        r"error: rank 0: the memory is full \(.*allocate memory.*\); lower train\.micro_batch \(now 92\)", err
    ), err
    assert "train.gradient_checkpointing: true or a lower data.max_length (now 256)" in err
    assert Run(orca.folder / "runs" / "large").status == "failed"


@pytest.mark.parametrize(
    ("error", "is_memory_error"),
    [
        (MemoryError(), True),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you …"
            ),
            True,
        ),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (OSError(12, "Cannot allocate memory"), True),
        (OSError(28, "No space left on device"), False),
        (ValueError("out of memory"), False),
        (RuntimeError("Connection closed by peer"), False),
    ],
)
def test_errors_of_full_memory_are_told_from_others(error, is_memory_error):
    assert memory_errors.is_memory_error(error) == is_memory_error


def test_the_error_of_a_gpu_is_one_of_full_memory():
    import torch

    assert memory_errors.is_memory_error(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))


def test_the_advice_names_only_what_would_help(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    recipe = Recipe.model_validate({"name": "r", "model": {"base": "b"}, "data": {"records": ["r"]}})
    advice = memory_errors.less_memory_advice(recipe)
    assert advice == (
        "lower train.micro_batch (now 2) and raise train.accumulation as much, or raise train.processes (now 8) and lower "
        "train.accumulation or train.micro_batch as much; or start over (--fresh) with a lower data.max_length (now 1024)"
    )
    train = recipe.train.model_copy(update={"micro_batch": 1, "zero_stage": 2, "gradient_checkpointing": False})
    advice = memory_errors.less_memory_advice(recipe.model_copy(update={"train": train}))
    assert "train.micro_batch (now" not in advice and "train.zero_stage: 3" in advice
    assert "train.gradient_checkpointing: true" in advice


def test_the_advice_can_be_followed(monkeypatch):
    import torch

    def advice_for(**train_keys):
        train = {"micro_batch": 1, "accumulation": 1, "processes": 2, "global_batch": 2} | train_keys
        sections = {"model": {"base": "b"}, "data": {"records": ["r"]}, "train": train}
        return memory_errors.less_memory_advice(Recipe.model_validate({"name": "r"} | sections))

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert advice_for().startswith("start over (--fresh) with ")
    assert "train.offload" not in advice_for()  # there, the optimizer states are in main memory already
    assert "train.zero_stage: 3" in advice_for(zero_stage=0)
    assert "train.zero_stage" not in advice_for(zero_stage=0, processes=1, global_batch=1)  # one process has all shards
    assert advice_for(accumulation=2, global_batch=4).startswith("raise train.processes (now 2) and lower")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert advice_for(accumulation=2, global_batch=4).startswith("raise train.processes (now 2) and lower")
    assert "train.processes" not in advice_for(accumulation=2, processes=4, global_batch=8)
    assert "train.processes" not in advice_for(micro_batch=2, processes=4, global_batch=8)
    assert "train.offload: cpu" in advice_for(zero_stage=1)
    assert "train.offload" not in advice_for(zero_stage=0)  # DeepSpeed offloads with ZeRO only
