"""What bench_gpu.py computes with: LLaMAs of random weights that are drawn on the device, and requests of random token ids.

In: names of shapes, and the numbers of tokens that the leaderboard's requests have. Out: models, sequences to score, prompts.
Speed depends on the lengths and on what requests share, not on which tokens there are. Its own module because every part of the
benchmark takes its inputs from here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

#: In the names of transformers' LlamaConfig.
SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    # For the checks in float32: near SmolLM2-135M, with a vocabulary of LLaMA's size.
    "110m": {
        "vocab_size": 32_000,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
    # TinyLlama-1.1B
    "1.1b": {
        "vocab_size": 32_000,
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 22,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
    },
    # LLaMA-7B
    "7b": {
        "vocab_size": 32_000,
        "hidden_size": 4096,
        "intermediate_size": 11_008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
    },
}
#: Of the weights of the checks: with 0.02 random weights give nearly equal probabilities, which hide errors.
CHECK_WEIGHT_SCALE = 0.06
_CONTEXT_WINDOW = 2048


@dataclass(frozen=True)
class TaskShape:
    """The requests of one task: `question_count` questions of `choice_count` choices.

    `shared_tokens` begin the contexts of `questions_per_prefix` questions, `question_tokens` follow in all requests of one
    question, and `continuation_tokens` are scored.
    """

    name: str
    question_count: int
    questions_per_prefix: int
    shared_tokens: int
    question_tokens: int
    choice_count: int
    continuation_tokens: int


#: Mean numbers of tokens of the requests of protocol `leaderboard`, LLaMA's tokenizer. The examples before a question are drawn
#: anew for each question, but for MMLU, which has those of its subject, and TruthfulQA, which has the same for all.
TASK_SHAPES = (
    TaskShape("arc_challenge", 60, 1, 0, 1085, 4, 7),
    TaskShape("hellaswag", 100, 1, 0, 560, 4, 33),
    TaskShape("mmlu", 150, 25, 450, 110, 4, 1),
    TaskShape("truthful_qa", 60, 60, 178, 22, 11, 12),
    TaskShape("winogrande", 100, 1, 0, 155, 2, 7),
)


def scaled_task_shapes(share: float, token_share: float = 1.0) -> list[TaskShape]:
    """The tasks with a share of their questions, and with shorter contexts for tiny tries."""
    return [
        replace(
            task,
            question_count=max(2, round(task.question_count * share)),
            shared_tokens=round(task.shared_tokens * token_share),
            question_tokens=max(2, round(task.question_tokens * token_share)),
        )
        for task in TASK_SHAPES
    ]


def build_model(shape_name: str, dtype_name: str, device: str, weight_scale: float = 0.02, seed: int = 0) -> Any:
    """A LlamaForCausalLM whose weights are drawn on the device in the type that they have there."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = LlamaConfig(
        **SHAPES[shape_name],
        max_position_embeddings=_CONTEXT_WINDOW,
        initializer_range=weight_scale,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=None,
        tie_word_embeddings=False,
        attn_implementation="sdpa",
    )
    torch.manual_seed(seed)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype_name))
    return model.to(device).eval()


def product_parameter_count(model: Any) -> int:
    """The parameters that a token is multiplied with: all but the input embedding, which is a look-up."""
    all_count = sum(parameter.numel() for parameter in model.parameters())
    return all_count - model.get_input_embeddings().weight.numel()


def sequences_of_tasks(tasks: list[TaskShape], vocabulary_size: int, seed: int = 0) -> dict[str, list[Any]]:
    """By task the `ScoredSequence` of each request."""
    from orca_bench.evaluate.request_encoding import ScoredSequence

    generator = np.random.default_rng(seed)

    def random_ids(count: int) -> list[int]:
        return generator.integers(3, vocabulary_size, count).tolist()

    sequences_by_task: dict[str, list[Any]] = {}
    for task in tasks:
        sequences, prefix_ids = [], []
        for question_index in range(task.question_count):
            if question_index % task.questions_per_prefix == 0:
                prefix_ids = random_ids(task.shared_tokens)
            # Questions are of unequal lengths: from half to one and a half times the mean.
            own_count = round(task.question_tokens * generator.uniform(0.5, 1.5))
            context_ids = prefix_ids + random_ids(max(1, min(own_count, _CONTEXT_WINDOW - len(prefix_ids) - 64)))
            sequences += [
                ScoredSequence(context_ids + random_ids(task.continuation_tokens), len(context_ids))
                for _ in range(task.choice_count)
            ]
        sequences_by_task[task.name] = sequences
    return sequences_by_task


def prompts(count: int, mean_tokens: int, vocabulary_size: int, seed: int = 0) -> list[list[int]]:
    """Prompts of random ids, from half to one and a half times `mean_tokens` long; nothing is shared."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(max(1, mean_tokens // 2), max(2, mean_tokens * 3 // 2), count)
    return [generator.integers(3, vocabulary_size, length).tolist() for length in lengths]


def word_tokenizer(folder: Path, vocabulary_size: int) -> Any:
    """transformers' tokenizer of generated words, for what wants one: no token of it is computed with."""
    from bench_training_rows import make_tokenizer
    from transformers import PreTrainedTokenizerFast

    make_tokenizer(folder, vocabulary_size)
    return PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
