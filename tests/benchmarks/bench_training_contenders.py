"""One contender of bench_training.py in a process of its own: a specification in, the tokens per second of its steps out.

Contenders are transformers' Trainer, a plain PyTorch loop over padded micro batches, a plain PyTorch loop over packed rows, and
orca-bench by its real command. All train the same random LLaMA on the same examples with AdamW; start-up and the first steps are
not timed. The two plain loops are written here, without a line of orca_bench/train's loop: they are rivals and not copies.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]

#: Of the optimizer, for every contender: those of the model card's training code.
BETAS, EPS, WEIGHT_DECAY, GRADIENT_CLIPPING, LEARNING_RATE = (0.9, 0.95), 1e-8, 0.001, 1.0, 2e-5
_POSITIONS_PER_CHUNK = 512  # of the plain packed loop's output head


@dataclass(frozen=True)
class Contender:
    """What runs in one process, or for orca-bench in `processes`.

    `program` is trainer, padded, packed or orca. `sampling` is the Trainer's train_sampling_strategy, `packing` the recipe's
    train.packing. `batch` is examples per optimizer step (rows for `packing: dense`), `row_tokens` the most that the packed loop
    computes at a time.
    """

    program: str
    precision: str  # fp32 or bf16
    batch: int = 16
    micro_batch: int = 16
    sampling: str = "random"
    packing: str = "none"
    processes: int = 1
    gradient_checkpointing: bool = False
    row_tokens: int = 8192

    @property
    def name(self) -> str:
        """What a table calls it."""
        details = {
            "trainer": f"Trainer, micro batch {self.micro_batch}, {self.sampling}",
            "padded": f"plain PyTorch, padded, micro batch {self.micro_batch}",
            "packed": "plain PyTorch, packed",
            "orca": f"orca-bench, packing {self.packing}, {self.processes} process{'es' if self.processes > 1 else ''}",
        }[self.program]
        if self.program == "orca" and self.packing == "none":
            details += f", micro batch {self.micro_batch}"
        return details + (", gradient checkpointing" if self.gradient_checkpointing else "")


@dataclass(frozen=True)
class Task:
    """What every contender of a table trains: a model's shape, the records with their tokenizer, and how many steps."""

    shape: dict[str, Any]  # of recipe.Architecture
    records_file: str
    tokenizer_source: str
    max_length: int
    warmup_steps: int
    timed_steps: int
    threads: int
    device: str = "cpu"


@dataclass
class Measurement:
    """Of the timed steps: seconds, tokens of the examples, and tokens computed, padding included (None: not known).

    `threads` and `peak_gib`, memory, are those of each process. `first_loss` is that of the first warm-up step (nats per trained
    token), for contenders that compute the same batch.
    """

    seconds: float
    tokens: int
    computed_tokens: int | None
    parameters: int
    threads: int = 0
    first_loss: float | None = None
    peak_gib: float | None = None
    step_seconds: list[float] = field(default_factory=list)


def measure(contender: Contender, task: Task) -> Measurement:
    """Run the contender in this process, or orca-bench's command under it."""
    if contender.program == "orca":
        import bench_training_command

        return bench_training_command.measure_command(contender, task)
    import torch

    if task.device == "cpu":
        torch.set_num_threads(task.threads)
    run = {"trainer": _run_trainer, "padded": _run_plain_loop, "packed": _run_plain_loop}[contender.program]
    measurement = run(contender, task)
    measurement.threads, measurement.peak_gib = torch.get_num_threads(), _peak_gib(task.device)
    return measurement


def encode(task: Task) -> Any:
    """The examples as orca-bench encodes them."""
    from orca_bench import tokenizers
    from orca_bench.train import example_encoding, record_files

    records, _ = record_files.read_records([task.records_file])
    tokenizer = tokenizers.load_tokenizer(task.tokenizer_source)
    return example_encoding.encode_records(records, tokenizer, task.max_length)[0], tokenizer


def _batches(example_count: int, lengths: np.ndarray, contender: Contender, task: Task) -> list[list[int]]:
    """The example numbers of every step: orca-bench's own, so that everybody trains the same batches."""
    from orca_bench.recipe import Train
    from orca_bench.train.batch_plan import BatchPlan

    batch, step_count = contender.batch, task.warmup_steps + task.timed_steps
    train = Train(global_batch=batch, micro_batch=batch, accumulation=1, processes=1, epochs=1, max_steps=step_count)
    plan = BatchPlan(lengths, train)
    return [plan.example_indices_of_step(step).tolist() for step in range(step_count)]


def _build_model(task: Task, tokenizer: Any, packed: bool = False) -> Any:
    """The LLaMA of random weights that a run of orca-bench with seed 0 starts from."""
    import torch
    from transformers import AttentionInterface, LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        **task.shape,
        vocab_size=tokenizer.vocab_size,
        bos_token_id=tokenizer.bos_id,
        eos_token_id=tokenizer.eos_id,
        pad_token_id=None,
        use_cache=False,
    )
    if packed:
        AttentionInterface.register("each_alone", _attend_each_alone)
        config._attn_implementation = "each_alone"
    torch.manual_seed(0)
    with torch.device(task.device):
        return LlamaForCausalLM(config)


def _run_trainer(contender: Contender, task: Task) -> Measurement:
    """transformers' Trainer with its own optimizer (torch's fused AdamW), sampler, autocast and gradient accumulation."""
    import tempfile

    import torch
    import transformers

    examples, tokenizer = encode(task)
    batches = _batches(len(examples), examples.lengths, contender, task)
    model = _build_model(task, tokenizer)
    token_counts = {"real": 0, "computed": 0}  # of the batches that the Trainer takes, not of the plan

    def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = _pad([row["input_ids"] for row in rows], [row["labels"] for row in rows])
        token_counts["real"] += int(batch["attention_mask"].sum())
        token_counts["computed"] += batch["input_ids"].numel()
        return batch

    class StepClock(transformers.TrainerCallback):
        """The times at which steps begin and end."""

        def __init__(self) -> None:
            self.start = self.end = 0.0

        def on_step_begin(self, arguments: Any, state: Any, control: Any, **others: Any) -> None:
            if not state.global_step:
                self.start = _now(task.device)

        def on_step_end(self, arguments: Any, state: Any, control: Any, **others: Any) -> None:
            self.end = _now(task.device)

    clock = StepClock()
    for steps in (batches[: task.warmup_steps], batches[task.warmup_steps :]):
        numbers = [number for batch in steps for number in batch]
        rows = [{"input_ids": examples.example(n).tolist(), "labels": _labels(examples, n)} for n in numbers]
        token_counts.update(real=0, computed=0)
        with tempfile.TemporaryDirectory() as folder:
            arguments = transformers.TrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=contender.micro_batch,
                gradient_accumulation_steps=contender.batch // contender.micro_batch,
                num_train_epochs=1,
                learning_rate=LEARNING_RATE,
                adam_beta1=BETAS[0],
                adam_beta2=BETAS[1],
                adam_epsilon=EPS,
                weight_decay=WEIGHT_DECAY,
                max_grad_norm=GRADIENT_CLIPPING,
                train_sampling_strategy=contender.sampling,
                bf16=contender.precision == "bf16",
                use_cpu=task.device == "cpu",
                gradient_checkpointing=contender.gradient_checkpointing,
                gradient_checkpointing_kwargs={"use_reentrant": False},
                logging_strategy="no",
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                dataloader_pin_memory=task.device != "cpu",
            )
            trainer = transformers.Trainer(
                model=model, args=arguments, train_dataset=rows, data_collator=collate, callbacks=[clock]
            )
            trainer.train()
    return Measurement(clock.end - clock.start, token_counts["real"], token_counts["computed"], _count(model))


def _run_plain_loop(contender: Contender, task: Task) -> Measurement:
    """A PyTorch loop without a framework, one process: padded micro batches, or the whole step in one row of examples."""
    import torch

    examples, tokenizer = encode(task)
    batches = _batches(len(examples), examples.lengths, contender, task)
    model = _build_model(task, tokenizer, packed=contender.program == "packed")
    model.train()
    if contender.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=BETAS, eps=EPS, weight_decay=WEIGHT_DECAY, fused=True
    )
    backward = _packed_backward if contender.program == "packed" else _padded_backward
    losses, times, computed_tokens = [], [], 0
    for step, batch in enumerate(batches):
        times.append(_now(task.device))
        trained_count = int(examples.trained_token_counts[batch].sum())
        loss = 0.0
        for numbers in _micro_batches(batch, contender, examples.lengths):
            with torch.autocast(task.device, torch.bfloat16, enabled=contender.precision == "bf16"):
                micro_loss, token_count = backward(model, examples, numbers, trained_count, task.device)
            loss += micro_loss
            computed_tokens += token_count if step >= task.warmup_steps else 0
        torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_CLIPPING)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss)
    times.append(_now(task.device))
    timed = times[task.warmup_steps :]
    tokens = sum(int(examples.lengths[batch].sum()) for batch in batches[task.warmup_steps :])
    return Measurement(
        timed[-1] - timed[0],
        tokens,
        computed_tokens,
        _count(model),
        first_loss=losses[0],
        step_seconds=[round(seconds, 3) for seconds in np.diff(timed)],
    )


def _micro_batches(batch: list[int], contender: Contender, lengths: np.ndarray) -> Iterator[list[int]]:
    """The padded loop's micro batches, of similar lengths; the packed loop's rows of at most `row_tokens`."""
    if contender.program == "padded":
        yield from (
            batch[start : start + contender.micro_batch] for start in range(0, len(batch), contender.micro_batch)
        )
        return
    row: list[int] = []
    for number in batch:
        if row and lengths[[*row, number]].sum() > contender.row_tokens:
            yield row
            row = []
        row.append(number)
    yield row


def _padded_backward(
    model: Any, examples: Any, numbers: list[int], trained_count: int, device: str
) -> tuple[float, int]:
    """Forward and backward of a padded micro batch as everybody writes it; returns (its share of the loss, computed tokens)."""
    batch = _pad([examples.example(n).tolist() for n in numbers], [_labels(examples, n) for n in numbers])
    batch = {name: values.to(device) for name, values in batch.items()}
    loss = model(**batch, num_items_in_batch=trained_count).loss
    loss.backward()
    return float(loss.detach()), batch["input_ids"].numel()


def _packed_backward(
    model: Any, examples: Any, numbers: list[int], trained_count: int, device: str
) -> tuple[float, int]:
    """Forward and backward of examples in one row: each attended by itself, the output head on scored positions in chunks."""
    import torch

    lengths = examples.lengths[numbers].tolist()
    token_ids = torch.from_numpy(np.concatenate([examples.example(n) for n in numbers]).astype(np.int64)).to(device)
    position_ids = torch.cat([torch.arange(length) for length in lengths]).to(device)
    ends = np.cumsum(lengths)
    scored = np.concatenate(
        [
            np.arange(end - length + examples.prompt_lengths[number] - 1, end - 1)
            for number, length, end in zip(numbers, lengths, ends, strict=True)
        ]
    )
    scored_positions = torch.from_numpy(scored).to(device)
    hidden = model.model(
        input_ids=token_ids[None], position_ids=position_ids[None], use_cache=False, example_lengths=lengths
    ).last_hidden_state[0]
    states = hidden[scored_positions]
    detached = states.detach().requires_grad_()
    targets, loss = token_ids[scored_positions + 1], 0.0
    for start in range(0, len(scored), _POSITIONS_PER_CHUNK):
        part = slice(start, start + _POSITIONS_PER_CHUNK)
        logits = model.lm_head(detached[part]).float()
        part_loss = torch.nn.functional.cross_entropy(logits, targets[part], reduction="sum") / trained_count
        part_loss.backward()
        loss += float(part_loss.detach())
    states.backward(detached.grad)
    return loss, len(token_ids)


def _attend_each_alone(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    scaling: float,
    example_lengths: list[int],
    **others: Any,
) -> tuple[Any, None]:
    """Attention of the plain packed loop: a call of sdpa for each example of the row."""
    import torch

    grouped = query.shape[1] != key.shape[1]
    parts = [
        torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=grouped)
        for q, k, v in zip(*(states.split(example_lengths, dim=2) for states in (query, key, value)), strict=True)
    ]
    return torch.cat(parts, dim=2).transpose(1, 2), None


def _pad(sequences: list[list[int]], labels: list[list[int]]) -> dict[str, Any]:
    """Ids, labels and attention mask, int64 [sequences, longest], padded on the right."""
    import torch

    width = max(map(len, sequences))
    rows = {
        "input_ids": [[*sequence, *[0] * (width - len(sequence))] for sequence in sequences],
        "labels": [[*row, *[-100] * (width - len(row))] for row in labels],
        "attention_mask": [[1] * len(sequence) + [0] * (width - len(sequence)) for sequence in sequences],
    }
    return {name: torch.tensor(values) for name, values in rows.items()}


def _labels(examples: Any, number: int) -> list[int]:
    prompt_length = int(examples.prompt_lengths[number])
    return [-100] * prompt_length + examples.example(number)[prompt_length:].tolist()


def _now(device: str) -> float:
    """Seconds, after all work on the device is done."""
    import torch

    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


def _peak_gib(device: str) -> float:
    import resource

    import torch

    if device != "cpu":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts KiB


def _count(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
