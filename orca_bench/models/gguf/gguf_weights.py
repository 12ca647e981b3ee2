"""The tensors of a GGUF file in, the state of transformers' LLaMA out: its names, shapes and order of rows, shard by shard.

llama.cpp turns neighbouring pairs of a head's numbers by the rotary embedding, transformers turns the first half of a head with
the second. Files therefore hold the rows of the query and key matrices in another order (`permute` in llama.cpp's
convert_hf_to_gguf.py), which is undone here. One tensor is in memory in float32 at a time, and one shard in its final type.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orca_bench.errors import UserError
from orca_bench.models.gguf.gguf_configuration import ROPE_FACTORS
from orca_bench.models.gguf.gguf_file import GgufFile, StoredTensor
from orca_bench.models.weight_shards import write_shards

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

_FILE_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_BLOCK_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
#: Types that a torch dtype holds as they are.
_DTYPES_BY_TYPE = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}


def exact_dtype(file: GgufFile) -> str:
    """The smallest torch dtype that holds the weights as they are: float16 or bfloat16 for files of it, else float32."""
    matrix_types = {tensor.type_name for tensor in file.tensors.values() if len(tensor.shape) > 1}
    if len(matrix_types) == 1:
        return _DTYPES_BY_TYPE.get(matrix_types.pop(), "float32")
    return "float32"


def check_tensors(file: GgufFile, configuration: dict[str, Any]) -> None:
    """Raise UserError, naming the tensor, for one that is missing, unknown, of another shape or type than the LLaMA's."""
    shapes = expected_shapes(configuration)
    for tensor in file.tensors.values():
        if tensor.name == ROPE_FACTORS:
            continue
        expected_shape = shapes.get(tensor.name)
        if expected_shape is None:
            raise UserError(f"tensor {tensor.name} is none of a LLaMA", where=file.path)
        if tensor.shape != expected_shape:
            raise UserError(
                f"tensor {tensor.name} has the shape {list(tensor.shape)}, expected {list(expected_shape)}",
                where=file.path,
            )
        tensor.check(file.path)
    missing_names = [name for name in shapes if name not in file.tensors]
    if missing_names:
        raise UserError(f"{len(missing_names)} tensors are missing, the first is {missing_names[0]}", where=file.path)


def expected_shapes(configuration: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shape [outputs, inputs] of each tensor by its name in the file."""
    hidden, inner = configuration["hidden_size"], configuration["intermediate_size"]
    queries = configuration["num_attention_heads"] * configuration["head_dim"]
    keys = configuration["num_key_value_heads"] * configuration["head_dim"]
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (configuration["vocab_size"], hidden),
        "output_norm.weight": (hidden,),
    }
    if not configuration["tie_word_embeddings"]:
        shapes["output.weight"] = (configuration["vocab_size"], hidden)
    matrices = {
        "attn_q": (queries, hidden),
        "attn_k": (keys, hidden),
        "attn_v": (keys, hidden),
        "attn_output": (hidden, queries),
        "ffn_gate": (inner, hidden),
        "ffn_up": (inner, hidden),
        "ffn_down": (hidden, inner),
    }
    for layer_index in range(configuration["num_hidden_layers"]):
        for name in ("attn_norm", "ffn_norm"):
            shapes[f"blk.{layer_index}.{name}.weight"] = (hidden,)
        for name, shape in matrices.items():
            shapes[f"blk.{layer_index}.{name}.weight"] = shape
            has_bias = configuration["attention_bias" if name.startswith("attn") else "mlp_bias"]
            if has_bias:
                shapes[f"blk.{layer_index}.{name}.bias"] = shape[:1]
    return shapes


def write_weights(file: GgufFile, configuration: dict[str, Any], dtype_name: str, folder: Path) -> None:
    """Write the weights to `folder` as safetensors, in shards of at most 4 GiB with an index where there are several."""
    bytes_per_weight = 4 if dtype_name == "float32" else 2
    tensor_by_name = {
        state_name(tensor.name): tensor for tensor in file.tensors.values() if tensor.name != ROPE_FACTORS
    }
    write_shards(
        {name: bytes_per_weight * math.prod(tensor.shape) for name, tensor in tensor_by_name.items()},
        ((name, _to_torch(tensor, configuration, dtype_name)) for name, tensor in tensor_by_name.items()),
        folder,
    )


def state_name(tensor_name: str) -> str:
    """The name in transformers' LLaMA of a tensor of the file: blk.0.attn_q.weight → model.layers.0.self_attn.q_proj.weight."""
    base, _, kind = tensor_name.rpartition(".")
    if base.startswith("blk."):
        _, layer_index, name = base.split(".", 2)
        return f"model.layers.{layer_index}.{_BLOCK_NAMES[name]}.{kind}"
    return f"{_FILE_NAMES[base]}.{kind}"


def _to_torch(tensor: StoredTensor, configuration: dict[str, Any], dtype_name: str) -> torch.Tensor:
    """A tensor in transformers' order of rows; in `dtype_name`, but in float32 where that would change its numbers.

    Norms stand in float32 in every file, and most are float16 or bfloat16 numbers.
    """
    import numpy as np
    import torch

    numbers = tensor.dequantize()
    name = tensor.name.split(".")[-2]
    if name in ("attn_q", "attn_k"):
        heads = configuration["num_attention_heads" if name == "attn_q" else "num_key_value_heads"]
        numbers = unpermute(numbers, heads)
    exact = torch.from_numpy(np.array(numbers, dtype=np.float32))  # a copy: the file's own memory cannot be written to
    rounded = exact.to(getattr(torch, dtype_name))
    is_vector = exact.dim() == 1
    return exact if is_vector and not torch.equal(rounded.float(), exact) else rounded


def unpermute(numbers: NDArray[np.float32], head_count: int) -> NDArray[np.float32]:
    """Rows [heads × head size, …] from llama.cpp's order, pairs side by side, to transformers': first halves, then second."""
    row_count = numbers.shape[0]
    pairs = numbers.reshape(head_count, row_count // head_count // 2, 2, *numbers.shape[1:])
    return pairs.swapaxes(1, 2).reshape(numbers.shape)


def permute(numbers: NDArray[np.float32], head_count: int) -> NDArray[np.float32]:
    """The inverse of `unpermute`: rows as llama.cpp has them."""
    row_count = numbers.shape[0]
    halves = numbers.reshape(head_count, 2, row_count // head_count // 2, *numbers.shape[1:])
    return halves.swapaxes(1, 2).reshape(numbers.shape)
