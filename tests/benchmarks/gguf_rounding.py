"""How far llama.cpp's rounding of activations moves a model's predictions, by kind of text, and how far planted faults move them.

    make real-model
    python tests/benchmarks/gguf_rounding.py --alpaca path/to/alpaca/train.jsonl.gz

Both are computed here, without llama.cpp: the rounding by `activation_rounding`, the faults in the folder's own model. The
record, results/quantization/rounding.md, says why `import --verify` reads the texts that it reads, and what it can find.
"""

import argparse
import gzip
import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import real_model
import torch
from bench_records import conditions, write_record
from transformers import AutoTokenizer

from orca_bench import prompt, tokenizers
from orca_bench.mini.corpus import generate_benchmark_rows, generate_records
from orca_bench.models.gguf.gguf_file import GgufFile
from orca_bench.models.gguf.gguf_import import import_gguf, read_gguf
from orca_bench.models.gguf.gguf_verification import activation_rounding
from orca_bench.models.gguf.gguf_verification_texts import VERIFICATION_TEXTS
from orca_bench.models.gguf.gguf_weights import permute
from orca_bench.models.gguf.next_token_distributions import kl_divergences, next_token_log_probabilities
from orca_bench.models.model_loading import load_on_cpu
from orca_bench.system_messages import SYSTEM_MESSAGES

TOKENS_OF_TEXT = 128
FAULT_POSITIONS = 240


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=real_model.cached_path(real_model.REAL_MODEL))
    parser.add_argument("--alpaca", type=Path, required=True, help="Alpaca's rows, JSON Lines, gzip")
    parser.add_argument("--texts", type=int, default=12, help="the most texts of a kind")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "quantization" / "rounding.md")
    options = parser.parse_args()
    file = GgufFile(options.file)
    with tempfile.TemporaryDirectory() as folder:
        import_gguf(read_gguf(options.file), Path(folder) / "model")
        model = load_on_cpu(Path(folder) / "model", "float32")
        ids_by_kind = texts_of_kinds(Path(folder) / "model", options.alpaca, options.texts)
    lines = [
        "# What rounded activations move, and what faults move",
        "",
        f"{options.file.name}. {conditions()}.",
        "Divergence from the model that is computed in float32: mean over positions, in nats.",
        "",
        "## Activations rounded as llama.cpp rounds them",
        "",
        f"At most {options.texts} texts of a kind, each of at most {TOKENS_OF_TEXT} tokens.",
        "",
        "| texts | positions | divergence |",
        "|---|--:|--:|",
    ]
    for kind, texts in ids_by_kind.items():
        lines.append(f"| {kind} | {sum(map(len, texts)):,} | {rounding_divergence(model, file, texts):.1e} |")
        print(lines[-1], flush=True)
    texts = fault_texts(ids_by_kind["the texts that `--verify` uses"])
    exact = distributions(model, texts)
    rounding = rounding_divergence(model, file, texts)
    lines += [
        "",
        "## Faults",
        "",
        f"In the same model, at {len(exact)} positions of the texts that `--verify` uses, where rounded activations make "
        f"{rounding:.1e}.",
        "`--verify` refuses what is above three times that.",
        "",
        "| fault | divergence |",
        "|---|--:|",
    ]
    for name, fault in faults(model):
        with fault():
            lines.append(f"| {name} | {divergence(exact, distributions(model, texts)):.1e} |")
        print(lines[-1], flush=True)
    assert torch.equal(distributions(model, texts), exact), "a fault was left in the model"
    write_record(options.out, [*lines, ""])


def distributions(model: torch.nn.Module, texts: list[list[int]]) -> torch.Tensor:
    """Log-probabilities [positions, vocabulary] of the token after each id of each text."""
    return torch.cat([next_token_log_probabilities(model, token_ids) for token_ids in texts])


def rounding_divergence(model: torch.nn.Module, file: GgufFile, texts: list[list[int]]) -> float:
    """The mean divergence, nats, that rounded activations make in a model at all positions of texts; a text at a time."""
    divergences = []
    for token_ids in texts:
        exact = next_token_log_probabilities(model, token_ids)
        with activation_rounding(model, file):
            divergences.append(kl_divergences(exact, next_token_log_probabilities(model, token_ids)))
    return float(torch.cat(divergences).mean())


def divergence(exact: torch.Tensor, other: torch.Tensor) -> float:
    """The mean divergence of two sets of distributions, nats."""
    return float(kl_divergences(exact, other).mean())


def texts_of_kinds(folder: Path, alpaca: Path, count: int) -> dict[str, list[list[int]]]:
    """Token ids of the texts of each kind."""
    tokenizer, chat_tokenizer = tokenizers.load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)

    def encode(texts: list[str]) -> list[list[int]]:
        return [[*tokenizer.prefix, *tokenizer.encode(text)][:TOKENS_OF_TEXT] for text in texts[:count]]

    def encode_chat(row: dict[str, str]) -> list[int]:
        messages = [{"role": "user", "content": question(row)}, {"role": "assistant", "content": row["output"]}]
        text = chat_tokenizer.apply_chat_template(messages, tokenize=False)
        return chat_tokenizer.encode(text, add_special_tokens=False)[:TOKENS_OF_TEXT]

    with gzip.open(alpaca, "rt", encoding="utf-8") as lines:
        rows = random.Random(0).sample([json.loads(line) for line in lines], count)
    messages = [message for message in SYSTEM_MESSAGES.values() if message]
    prompts = [
        prompt.render(messages[index % len(messages)], row["instruction"], row["input"]) + row["output"]
        for index, row in enumerate(rows)
    ]
    _, benchmark_keys = generate_benchmark_rows()
    mini_records = generate_records(benchmark_keys, count, seed=2)
    choice = random.Random(1)
    vocabulary_size = len(chat_tokenizer)
    return {
        "Alpaca: instruction and response": encode([question(row) + "\n" + row["output"] for row in rows]),
        "Alpaca in the model's own chat template": [encode_chat(row) for row in rows],
        "records of the mini suite": encode(
            [f"{r['instruction']} {r['input']}\n{r['response']}" for r in mini_records]
        ),
        "the texts that `--verify` uses": encode(["\n\n".join(pair) for pair in pairs(VERIFICATION_TEXTS)]),
        "Python code of this project": encode(sections(ROOT / "orca_bench" / "suite.py", "\n\n\n", count)),
        "its README": encode(sections(ROOT / "README.md", "\n## ", count)),
        "its licence": encode(sections(ROOT / "LICENSE", "\n\n   ", count)),
        "Alpaca in the Orca prompt, with the paper's system messages": encode(prompts),
        "the Orca paper's system messages alone": encode(messages),
        "random tokens": [[choice.randrange(vocabulary_size) for _ in range(TOKENS_OF_TEXT)] for _ in range(count)],
    }


def question(row: dict[str, str]) -> str:
    return f"{row['instruction']}\n{row['input']}" if row["input"] else row["instruction"]


def pairs(texts: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(text, texts[(index + 1) % len(texts)]) for index, text in enumerate(texts)]


def sections(path: Path, separator: str, count: int) -> list[str]:
    """The longest parts of a file."""
    return sorted(path.read_text(encoding="utf-8").split(separator), key=len, reverse=True)[:count]


def fault_texts(texts: list[list[int]]) -> list[list[int]]:
    """The first FAULT_POSITIONS positions of texts."""
    chosen: list[list[int]] = []
    for token_ids in texts:
        if remaining := FAULT_POSITIONS - sum(map(len, chosen)):
            chosen.append(token_ids[:remaining])
    return chosen


def faults(model: torch.nn.Module) -> Iterator[tuple[str, Callable]]:
    """Names of faults, and context managers in which the model has them."""
    layers = model.model.layers
    last, middle = len(layers) - 1, len(layers) // 2
    for index in (0, middle, last):
        for name, head_count in (
            ("q_proj", model.config.num_attention_heads),
            ("k_proj", model.config.num_key_value_heads),
        ):
            weight = layers[index].self_attn.get_submodule(name).weight
            rows = torch.from_numpy(permute(weight.detach().numpy(), head_count).copy())
            yield f"rows of {name} of layer {index} in llama.cpp's order", lambda w=weight, r=rows: values(w, r)
    for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.up_proj"):
        for index in (3, middle - 1, last - 2):
            yield f"{name} of layers {index} and {index + 1} swapped", lambda n=name, i=index: swap(layers, n, i)
    for name in ("input_layernorm", "post_attention_layernorm"):
        for index in (3, middle - 1, last - 2):
            yield f"{name} of layers {index} and {index + 1} swapped", lambda n=name, i=index: swap(layers, n, i)
    frequencies = model.model.rotary_emb.inv_freq
    base = model.config.rope_parameters["rope_theta"]
    exponents = torch.arange(0, len(frequencies), dtype=torch.float32) / len(frequencies)
    for other in (10_000.0, 2 * base):
        yield f"rope base {other:,.0f} instead of {base:,.0f}", lambda o=other: values(frequencies, o**-exponents)


@contextmanager
def values(tensor: torch.Tensor, other: torch.Tensor) -> Iterator[None]:
    """Within it a tensor of the model has other values."""
    original = tensor.detach().clone()
    tensor.detach().copy_(other)
    try:
        yield
    finally:
        tensor.detach().copy_(original)


@contextmanager
def swap(layers: torch.nn.ModuleList, name: str, index: int) -> Iterator[None]:
    """Within it two neighbouring layers have each other's weights in a part."""
    own, other = (layers[i].get_submodule(name).weight for i in (index, index + 1))
    own_values, other_values = own.detach().clone(), other.detach().clone()
    with values(own, other_values), values(other, own_values):
        yield


if __name__ == "__main__":
    main()
