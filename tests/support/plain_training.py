"""The training of a run once more in plain PyTorch, and the losses of a training by the command: what they are compared with."""

import json

import torch

from orca_bench import recipe_file
from orca_bench.train.batch_plan import BatchPlan
from orca_bench.train.run_folder import Run
from orca_bench.train.token_files import load_run_examples


def plain_losses(run_folder, model):
    """The losses of each step of the run's recipe, float32, one example at a time; trains the model's weights with gradients."""
    run = Run(run_folder)
    train = recipe_file.read_recipe_file(run.recipe_file).train
    examples = load_run_examples(run.tokens_folder, run.earlier_tokens_file).training
    plan = BatchPlan(examples.lengths, train)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=0, betas=tuple(train.betas), eps=train.eps, weight_decay=train.weight_decay
    )
    step_losses = []
    for step in range(plan.step_count):
        optimizer.param_groups[0]["lr"] = plan.learning_rate(step)
        batch, step_loss = plan.example_indices_of_step(step), 0.0
        token_count = int(examples.trained_token_counts[batch].sum())
        for index in batch:
            ids, start = torch.tensor(examples.example(index), dtype=torch.long), int(examples.prompt_lengths[index])
            logits = model(input_ids=ids[None], use_cache=False).logits[0, start - 1 : -1]
            loss = torch.nn.functional.cross_entropy(logits, ids[start:], reduction="sum") / token_count
            loss.backward()
            step_loss += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(parameters, train.grad_clip)
        optimizer.step()
        optimizer.zero_grad()
        step_losses.append(step_loss)
    return step_losses


def command_losses(orca, keys):
    """The losses of a training by the command with these overrides of r.yaml, of which the first is the run's name."""
    process = orca("train", "r.yaml", *(word for key in keys for word in ("-o", key)))
    run_folder = orca.folder / "runs" / keys[0].partition("=")[2]
    assert process.returncode == 0, process.stderr + (run_folder / "train.log").read_text()
    return [json.loads(line)["loss"] for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
