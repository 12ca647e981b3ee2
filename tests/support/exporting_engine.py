"""A real DeepSpeed engine that trains two steps and exports, started by torchrun: see `train/test_model_export.py`.

    torchrun --nproc-per-node N tests/support/exporting_engine.py RECIPE FOLDER

For each case of `CASES` it writes FOLDER/CASE with the logits of the engine, DeepSpeed's checkpoint and a model folder in every
type of `EXPORT_DTYPES`.
"""

from __future__ import annotations

import sys
from pathlib import Path

#: (ZeRO stage, precision)
CASES = [(stage, precision) for stage in (0, 1, 2, 3) for precision in ("fp32", "bf16")]
EXPORT_DTYPES = ("fp32", "bf16", "fp16")
TOKEN_IDS = [[1, 7, 300, 45, 9, 9, 120, 2], [1, 44, 45, 46, 300, 301, 302, 303]]
#: 2 × 64 × 32 numbers of float32 are one MLP of the model: several shards, in all types.
SHARD_GB = 30e-6


def main() -> None:
    import deepspeed
    import torch

    from orca_bench import library_settings, recipe_file, tokenizers
    from orca_bench.train import deepspeed_engine, student_model
    from orca_bench.train.model_export import export_model

    library_settings.prepare_libraries()
    torch.set_num_threads(1)
    recipe = recipe_file.read_recipe_file(Path(sys.argv[1]))
    tokenizer = tokenizers.load_tokenizer(recipe.model.tokenizer_source)
    deepspeed.init_distributed(dist_backend="gloo")
    token_ids = torch.tensor(TOKEN_IDS)
    for stage, precision in CASES:
        folder = Path(sys.argv[2]) / f"{stage}-{precision}"
        train = recipe.train.model_copy(update={"zero_stage": stage, "precision": precision})
        case_recipe = recipe.model_copy(update={"train": train})
        student = student_model.build_random_model(student_model.student_config(recipe, tokenizer), seed=1)
        optimizer = torch.optim.AdamW(student.parameters(), lr=1e-2)
        config = deepspeed_engine.deepspeed_config(case_recipe)
        engine, *_ = deepspeed.initialize(model=student, optimizer=optimizer, config=config)
        for _ in range(2):
            engine.backward(engine(input_ids=token_ids, labels=token_ids, use_cache=False).loss)
            engine.step()
        engine.eval()
        with torch.no_grad():
            logits = engine(input_ids=token_ids, use_cache=False).logits
        if torch.distributed.get_rank() == 0:
            folder.mkdir(parents=True)
            torch.save(logits, folder / "logits.pt")
        engine.save_checkpoint(str(folder / "checkpoint"), tag="last")
        for dtype in EXPORT_DTYPES:
            export_train = train.model_copy(update={"export_dtype": dtype, "export_shard_gb": SHARD_GB})
            export_model(engine, export_train, tokenizer, folder / dtype, {"run": "r", "step": 2})
        engine.destroy()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
