"""Real DeepSpeed engines that export, started by torchrun: see `train/test_model_export.py`.

    torchrun --nproc-per-node N tests/support/exporting_engine.py cases|lora|full_disk|overflow|memory RECIPE FOLDER

`cases` trains two steps for each case of `CASES` and writes FOLDER/CASE with the engine's logits, DeepSpeed's checkpoint and
a model folder in every type of `EXPORT_DTYPES`. `lora` does so with LoRA, and without the other types.
`full_disk` exports twice, the second time with a limit on the size of a file.
`overflow` exports a weight as fp16 that is too large for it.
`memory` writes FOLDER/memory.json: what exports in small and in large shards add to the peak memory of process 0.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

#: (ZeRO stage, precision)
CASES = [(stage, precision) for stage in (0, 1, 2, 3) for precision in ("fp32", "bf16")]
EXPORT_DTYPES = ("fp32", "bf16", "fp16")
TOKEN_IDS = [[1, 7, 300, 45, 9, 9, 120, 2], [1, 44, 45, 46, 300, 301, 302, 303]]
LEARNING_RATE = 1e-2
#: Several shards in all types: 30,000 bytes are one or two MLPs of the model.
SHARD_GB = 30e-6
#: 5.2 million weights in each layer of 11 MB in bf16 and 21 MB in fp32, ten layers.
LARGE_SHAPE = {"hidden_size": 512, "intermediate_size": 2752, "num_hidden_layers": 10, "num_attention_heads": 8}
LARGE_MODEL_SHARD_GB = 0.02


def run_engines(mode, processes, folder, mini):
    """Start `exporting_engine.py` in so many processes; returns the finished launcher.

    glibc gives every tensor of the large model memory of its own, which it gives back: what is measured is what is held.
    """
    from recipes import RECIPE

    text = RECIPE.format(name="e", tokenizer=mini["mini:tokenizer"])
    for old, new in (
        ("processes: 2", f"processes: {processes}"),
        ("micro_batch: 2", f"micro_batch: {4 // processes}"),
        ("accumulation: 2", "accumulation: 1"),
        ("global_batch: 8", "global_batch: 4"),
    ):
        assert old in text
        text = text.replace(old, new)
    (folder / "r.yaml").write_text(text)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.run(
        [*launcher, __file__, mode, str(folder / "r.yaml"), str(folder)],
        env=os.environ | {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "131072"},
        capture_output=True,
        text=True,
    )


def logits_of(folder, dtype):
    """What a model folder gives for TOKEN_IDS, computed in this type."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    with torch.no_grad():
        return model(input_ids=torch.tensor(TOKEN_IDS), use_cache=False).logits


def main() -> None:
    import deepspeed
    import torch

    from orca_bench import child_processes, library_settings, recipe_file, tokenizers
    from orca_bench.train import deepspeed_engine

    mode, recipe_path, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    library_settings.prepare_libraries()
    torch.set_num_threads(1)
    recipe = recipe_file.read_recipe_file(recipe_path)
    tokenizer = tokenizers.load_tokenizer(recipe.model.tokenizer_source)
    with deepspeed_engine.without_shared_memory_operator():
        deepspeed.init_distributed(dist_backend="gloo")
    run_mode = {
        "cases": write_cases,
        "lora": write_lora_cases,
        "full_disk": fill_disk,
        "overflow": export_large_weight,
        "memory": measure_memory,
    }
    run_mode[mode](recipe, tokenizer, folder)
    torch.distributed.barrier()
    child_processes.end_at_once(0)


def engine_of(recipe, tokenizer, stage: int, precision: str, lora_section=None):
    """An engine around a model with random weights, and its section of the recipe."""
    import deepspeed
    import torch

    from orca_bench.train import deepspeed_engine, lora, student_model

    train = recipe.train.model_copy(update={"zero_stage": stage, "precision": precision, "lora": lora_section})
    student = student_model.build_random_model(student_model.student_config(recipe, tokenizer), seed=1)
    if lora_section is not None:
        lora.inject_adapter(student, lora_section, seed=2)
    engine, *_ = deepspeed.initialize(
        model=student,
        optimizer=torch.optim.AdamW([p for p in student.parameters() if p.requires_grad], lr=LEARNING_RATE),
        config=deepspeed_engine.deepspeed_config(recipe.model_copy(update={"train": train})),
    )
    return engine, train


def export(engine, train, tokenizer, folder: Path, dtype: str, shard_gb: float) -> None:
    from orca_bench.train.model_export import export_model

    section = train.model_copy(update={"export_dtype": dtype, "export_shard_gb": shard_gb})
    export_model(engine, section, tokenizer, folder, {"run": "r", "step": 2})


def logits_after_steps(engine, step_count):
    """The logits of TOKEN_IDS after so many steps of training on them."""
    import torch

    token_ids = torch.tensor(TOKEN_IDS)
    for _ in range(step_count):
        engine.backward(engine(input_ids=token_ids, labels=token_ids, use_cache=False).loss)
        engine.step()
    engine.eval()
    with torch.no_grad():
        return engine(input_ids=token_ids, use_cache=False).logits


def write_cases(recipe, tokenizer, folder: Path) -> None:
    import torch

    for stage, precision in CASES:
        case_folder = folder / f"{stage}-{precision}"
        engine, train = engine_of(recipe, tokenizer, stage, precision)
        logits = logits_after_steps(engine, 2)
        if torch.distributed.get_rank() == 0:
            case_folder.mkdir(parents=True)
            torch.save(logits, case_folder / "logits.pt")
        engine.save_checkpoint(str(case_folder / "checkpoint"), tag="last")
        for dtype in EXPORT_DTYPES:
            export(engine, train, tokenizer, case_folder / dtype, dtype, SHARD_GB)
        engine.destroy()


def write_lora_cases(recipe, tokenizer, folder: Path) -> None:
    import torch

    from orca_bench.recipe import Lora
    from orca_bench.train.lora import BaseModel
    from orca_bench.train.model_export import export_model

    for stage, precision in CASES:
        case_folder = folder / f"{stage}-{precision}"
        engine, train = engine_of(recipe, tokenizer, stage, precision, Lora(rank=4, alpha=12.0))
        export_model(engine, train, tokenizer, case_folder / "untrained", {"run": "r", "step": 0}, None, BaseModel())
        logits = logits_after_steps(engine, 3)
        if torch.distributed.get_rank() == 0:
            torch.save(logits, case_folder / "logits.pt")
        export_model(
            engine,
            train,
            tokenizer,
            case_folder / "trained",
            {"run": "r", "step": 3},
            None,
            BaseModel("owner/name", "c0"),
        )
        engine.destroy()


def fill_disk(recipe, tokenizer, folder: Path) -> None:
    engine, train = engine_of(recipe, tokenizer, 3, "bf16")
    export(engine, train, tokenizer, folder / "model", "bf16", SHARD_GB)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    export(engine, train, tokenizer, folder / "model", "fp32", SHARD_GB)


def export_large_weight(recipe, tokenizer, folder: Path) -> None:
    import torch

    engine, train = engine_of(recipe, tokenizer, 0, "fp32")
    with torch.no_grad():
        engine.module.model.norm.weight[3] = -1e6
    export(engine, train, tokenizer, folder / "model", "bf16", SHARD_GB)
    export(engine, train, tokenizer, folder / "model", "fp16", SHARD_GB)


def measure_memory(recipe, tokenizer, folder: Path) -> None:
    import torch

    shape = recipe.model.random.model_copy(update=LARGE_SHAPE)
    large_recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"random": shape})})
    engine, train = engine_of(large_recipe, tokenizer, 3, "fp32")
    export(engine, train, tokenizer, folder / "model", "bf16", LARGE_MODEL_SHARD_GB)  # libraries load what they need
    added_bytes = {}
    for name, shard_gb in (("small shards", LARGE_MODEL_SHARD_GB), ("one file", 5.0)):
        with PeakMemory() as memory:
            export(engine, train, tokenizer, folder / "model", "fp32", shard_gb)
        added_bytes[name] = memory.added_bytes
    if torch.distributed.get_rank() == 0:
        sizes = [path.stat().st_size for path in (folder / "model").glob("*.safetensors")]
        (folder / "memory.json").write_text(json.dumps({"model": sum(sizes), "added": added_bytes}))


class PeakMemory:
    """What a block adds to this process's memory at most, in bytes, swapped out or not; measured every millisecond.

    Linux's own peak, VmHWM, counts shared memory and pages of files too.
    """

    def __enter__(self) -> PeakMemory:
        self._before = self._peak = memory_bytes()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *exception) -> None:
        self._is_over.set()
        self._thread.join()
        self.added_bytes = self._peak - self._before

    def _watch(self) -> None:
        while not self._is_over.wait(0.001):
            self._peak = max(self._peak, memory_bytes())


def memory_bytes() -> int:
    """The private memory of this process."""
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return sum(1024 * int(fields[name].split()[0]) for name in ("RssAnon", "VmSwap"))


if __name__ == "__main__":
    main()
