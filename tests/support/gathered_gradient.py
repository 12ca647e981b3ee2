"""Started by a launcher in each process of a prepared run: the gradient of its first step, gathered, into FILE.

`python gathered_gradient.py RUN FILE [--mean-of-means]`. The last computes what is wrong: each forward pass's mean loss, and
the mean of these.
"""

import sys
from pathlib import Path

import torch
from deepspeed.utils import safe_get_full_grad

from orca_bench import child_processes, library_settings, recipe_file, tokenizers
from orca_bench.train import deepspeed_engine as engines
from orca_bench.train import student_model, training_loop
from orca_bench.train.batch_plan import BatchPlan
from orca_bench.train.run_folder import Run
from orca_bench.train.token_files import load_run_examples


def main(folder: str, file: str, *options: str) -> None:
    library_settings.prepare_libraries()
    torch.set_num_threads(1)
    run = Run(Path(folder))
    recipe = recipe_file.read_recipe_file(run.recipe_file)
    tokenizer = tokenizers.load_tokenizer(recipe.model.tokenizer_source)
    examples = load_run_examples(run.tokens_folder, run.earlier_tokens_file).training
    plan = BatchPlan.of_recipe(recipe, examples, student_model.student_config(recipe, tokenizer))
    engine = engines.start_engine(recipe, tokenizer)
    token_count = int(examples.trained_token_counts[plan.example_indices_of_step(0)].sum())
    micro_batches = list(training_loop._micro_batches(engine, examples, plan, 0))
    for index, micro_batch in enumerate(micro_batches):
        loss = engines.sum_of_losses(engine, micro_batch)
        if "--mean-of-means" in options:
            loss = loss / max(1, len(micro_batch.targets))
        else:
            loss = loss * (recipe.train.processes * recipe.train.accumulation / token_count)
        engine.backward(loss)
        if index < len(micro_batches) - 1:
            engine.step()
    gradient = torch.cat([safe_get_full_grad(parameter).flatten() for parameter in engine.module.parameters()])
    if torch.distributed.get_rank() == 0:
        torch.save(gradient, file)
    torch.distributed.barrier()  # a process whose peer has gone may abort in the threads of gloo
    child_processes.end_at_once(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
