"""GPTQ folders written by hand, round to nearest, in AutoGPTQ's layout: packed apart from the code that reads them."""

import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.torch import load_file, save_file

#: Weights in the formats of other libraries, as they stand beside model.safetensors on the hub.
OTHER_WEIGHT_NAMES = (
    "consolidated.00.pth",
    "pytorch_model.bin",
    "model.onnx",
    "model.onnx_data",
    "tf_model.h5",
    "flax_model.msgpack",
    "flax_model.msgpack.index.json",
    "rust_model.ot",
    "model-Q4_0.gguf",
)


def write_other_weights(folder: Path) -> None:
    """Write a file of each of OTHER_WEIGHT_NAMES."""
    for name in OTHER_WEIGHT_NAMES:
        (folder / name).write_bytes(b"weights")


def pack(numbers, bits):
    """[rows, columns] of whole numbers → int32 words [rows × bits / 32, columns], the first in the lowest bits; -1: all ones."""
    per_word = 32 // bits
    words = np.zeros((numbers.shape[0] // per_word, numbers.shape[1]), dtype=np.uint32)
    for row in range(numbers.shape[0]):
        words[row // per_word] |= (numbers[row] & (2**bits - 1)).astype(np.uint32) << np.uint32(bits * (row % per_word))
    return words.view(np.int32)


def quantize_layer(weight, bits=4, group_size=32, symmetric=True, act_order=False, zeros_less_one=True, seed=0):
    """(tensors by their part's name, the float32 matrix [outputs, inputs] that they stand for) of a weight [outputs, inputs]."""
    import torch

    inputs, top = weight.shape[1], 2**bits - 1
    groups = np.arange(inputs) // group_size
    if act_order:
        groups = np.random.default_rng(seed).permutation(groups)
    numbers, exact = np.zeros((inputs, weight.shape[0]), np.int64), np.zeros((inputs, weight.shape[0]), np.float32)
    scales, zeros = [], []
    for group in range(groups.max() + 1):
        part = weight.T[groups == group]
        lowest, highest = np.minimum(part.min(axis=0), 0), np.maximum(part.max(axis=0), 0)
        if symmetric:
            scale = (2 * np.maximum(-lowest, highest) / top).astype(np.float16)
            zero = np.full(part.shape[1], 2 ** (bits - 1))
        else:
            scale = ((highest - lowest) / top).astype(np.float16)
            zero = np.clip(np.round(-lowest / scale.astype(np.float32)), 0, top).astype(np.int64)
            zero[0] = 0  # of an output without negative weights: stored less one, all its bits are set
        scale32 = scale.astype(np.float32)
        numbers[groups == group] = np.clip(np.round(part / scale32) + zero, 0, top)
        exact[groups == group] = (numbers[groups == group] - zero) * scale32
        scales.append(scale)
        zeros.append(zero)
    stored_zeros = np.stack(zeros) - (1 if zeros_less_one else 0)
    parts = {
        "qweight": pack(numbers, bits),
        "qzeros": np.ascontiguousarray(pack(stored_zeros.T, bits).T),
        "scales": np.stack(scales),
        "g_idx": groups.astype(np.int32),
    }
    return {name: torch.from_numpy(np.ascontiguousarray(part)) for name, part in parts.items()}, exact.T.copy()


def write_gptq(source: Path, folder: Path, settings=None, zero_biases=False, **options) -> dict:
    """A model folder quantised into `folder`; returns the exact state of the model that it stands for, float32 by name.

    `settings` go into the quantization_config, None among them removes a key.
    """
    import torch

    shutil.copytree(source, folder)
    state = {name: tensor.float() for name, tensor in load_file(source / "model.safetensors").items()}
    stored, exact = {}, dict(state)
    for name, tensor in state.items():
        if name.startswith("model.layers.") and name.endswith("_proj.weight"):
            parts, matrix = quantize_layer(tensor.numpy(), **options)
            base = name.removesuffix(".weight")
            stored |= {f"{base}.{part}": numbers for part, numbers in parts.items()}
            exact[name] = torch.from_numpy(matrix)
            if zero_biases:
                stored[f"{base}.bias"] = torch.zeros(tensor.shape[0], dtype=torch.float16)
        else:
            stored[name] = tensor
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    quantization_config = {
        "quant_method": "gptq",
        "bits": options.get("bits", 4),
        "group_size": options.get("group_size", 32),
        "desc_act": options.get("act_order", False),
        "sym": options.get("symmetric", True),
        "checkpoint_format": "gptq" if options.get("zeros_less_one", True) else "gptq_v2",
    } | (settings or {})
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {key: value for key, value in quantization_config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))
    return exact
