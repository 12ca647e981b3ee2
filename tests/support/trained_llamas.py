"""A tiny LLaMA that has learned to answer: what it generates depends on its prompt, as random weights' texts hardly do."""

import torch
from tiny_llamas import make_model
from transformers import AutoModelForCausalLM

from orca_bench import tokenizers
from orca_bench.train.example_encoding import encode_records
from orca_bench.train.record_files import Record

_STEPS, _BATCH_SIZE, _MAX_LENGTH = 250, 16, 160


def make_trained_model(folder, tokenizer_file, records, **shape):
    """Train a tiny LLaMA for some 250 steps on records, rows of a file of them; returns its folder."""
    make_model(folder, tokenizer_file, **shape)
    torch.manual_seed(0)
    rows = [Record(row["system"], row["instruction"], row.get("input") or "", row["response"]) for row in records]
    examples, _ = encode_records(rows, tokenizers.load_tokenizer(folder), _MAX_LENGTH)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.div_(4)  # tiny_llamas makes them larger than one begins with
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(_STEPS):
        batch = [(step * _BATCH_SIZE + number) % len(examples) for number in range(_BATCH_SIZE)]
        ids = torch.zeros(_BATCH_SIZE, _MAX_LENGTH, dtype=torch.long)
        labels = torch.full_like(ids, -100)
        for row, index in enumerate(batch):
            example, prompt_length = torch.tensor(examples.example(index)).long(), int(examples.prompt_lengths[index])
            ids[row, : len(example)] = example
            labels[row, prompt_length : len(example)] = example[prompt_length:]
        loss = model(ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    return folder
