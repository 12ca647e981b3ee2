"""How many tokens to compute at once, and how many to keep, from the memory that is free.

A model comes in, numbers of tokens go out. Both are powers of two, so that a little more or less free memory gives the same
batches and with them the same rounding. Its own module because these shares are estimates: whoever runs out of memory, or has
measured better, changes them here.
"""

from __future__ import annotations

import psutil
import torch
from transformers import PreTrainedModel

from orca_bench.recipe import CONTEXT_WINDOW

#: The most new tokens in one batch of the prefix tree. Larger batches were no faster on CPUs; not measured on GPUs.
MAX_BATCH_TOKENS_BY_DEVICE = {"cpu": 1024, "gpu": 4096}
#: The most tokens of prompts and answers that generation keeps.
MAX_CACHE_TOKENS_BY_DEVICE = {"cpu": 65_536, "gpu": 262_144}
_MIN_BATCH_TOKENS, _MIN_CACHE_TOKENS = 64, 2048
# Shares of the free memory; the rest is for the output head, the allocator's gaps, and other programs.
_BATCH_SHARE_OF_MEMORY, _CACHE_SHARE_OF_MEMORY = 0.15, 0.4


def max_batch_tokens(model: PreTrainedModel, hidden_size: int, cache_bytes_per_token: int) -> int:
    """New tokens in one batch, whose activations, keys and values fit a share of the free memory.

    `hidden_size` is the size of the hidden state, `cache_bytes_per_token` what the keys and values of one token take in all
    layers.
    """
    intermediate_size = getattr(model.config.get_text_config(), "intermediate_size", None)
    intermediate_size = intermediate_size if isinstance(intermediate_size, int) else 4 * hidden_size
    # Of one layer about eight tensors as wide as the hidden state and three as the inner one live at once.
    activation_bytes_per_token = (8 * hidden_size + 3 * intermediate_size) * model.dtype.itemsize
    mask_bytes_per_token = 4 * CONTEXT_WINDOW  # a float for each of the tokens that a token may attend to
    return _bounded_power_of_two(
        _BATCH_SHARE_OF_MEMORY
        * free_bytes(model)
        / (activation_bytes_per_token + cache_bytes_per_token + mask_bytes_per_token),
        _MIN_BATCH_TOKENS,
        MAX_BATCH_TOKENS_BY_DEVICE[_device_kind(model)],
    )


def max_cache_tokens(model: PreTrainedModel, cache_bytes_per_token: int) -> int:
    """Tokens whose keys and values, `cache_bytes_per_token` a token, generation may keep in a share of the free memory."""
    return _bounded_power_of_two(
        _CACHE_SHARE_OF_MEMORY * free_bytes(model) / cache_bytes_per_token,
        _MIN_CACHE_TOKENS,
        MAX_CACHE_TOKENS_BY_DEVICE[_device_kind(model)],
    )


def free_bytes(model: PreTrainedModel) -> int:
    """The free memory of the model's device in bytes: of its GPUs that with the least, or the machine's."""
    devices = {parameter.device for parameter in model.parameters() if parameter.device.type == "cuda"}
    if devices:
        return min(torch.cuda.mem_get_info(device)[0] for device in devices)
    return psutil.virtual_memory().available


def _device_kind(model: PreTrainedModel) -> str:
    return "gpu" if any(parameter.device.type == "cuda" for parameter in model.parameters()) else "cpu"


def _bounded_power_of_two(token_count: float, min_tokens: int, max_tokens: int) -> int:
    """The largest power of two that is at most `token_count`, within bounds."""
    return max(min_tokens, min(max_tokens, 1 << max(0, int(token_count).bit_length() - 1)))
