"""Causal attention as two matrix products and a softmax: queries, keys and values in, the attended values out.

For large blocks in float32 this takes two thirds of the time of PyTorch's fused attention on CPUs, whose products do not reach
the rate of those of `matrix_products`; PyTorch is faster for small blocks. Its own module because it knows neither trees nor
models.
"""

from __future__ import annotations

import torch

from orca_bench.evaluate.engine import matrix_products

#: Rows of the score matrix of a key head (queries times the heads that share its keys), and keys, from which on this is faster.
_MIN_ROWS, _MIN_KEYS = 256, 192


def is_faster(query: torch.Tensor, key: torch.Tensor) -> bool:
    """Whether a block is attended faster by products; shapes as in `causal_attention`."""
    return (
        query.dtype == torch.float32
        and query.device.type == "cpu"
        and not torch.is_grad_enabled()
        and query.shape[0] == 1
        and query.shape[1] // key.shape[1] * query.shape[2] >= _MIN_ROWS
        and key.shape[2] >= _MIN_KEYS
        and isinstance(matrix_products.products_of_this_cpu(), matrix_products.OneDnnProducts)
    )


def causal_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, score_scaling: float | None
) -> torch.Tensor:
    """Attention of float32 queries [1, heads, queries, head size], which are the last of the keys; each attends to all before it.

    Keys and values are [1, key heads, keys, head size]; values may have another size, which is the output's.
    `score_scaling` is the factor of the scores (None: 1/sqrt(head size)).
    """
    products = matrix_products.products_of_this_cpu()
    head_count, query_count, head_size = query.shape[1:]
    key_head_count, key_count = key.shape[1:3]
    scaled_queries = query[0] * (head_size**-0.5 if score_scaling is None else score_scaling)
    queries = scaled_queries.reshape(key_head_count, -1, head_size)
    keys, transposed_values = key[0].contiguous(), value[0].transpose(1, 2).contiguous()
    later_tokens = torch.full((query_count, query_count), float("-inf")).triu_(1)
    outputs = []
    for key_head in range(key_head_count):
        scores = products.linear(queries[key_head], keys[key_head], None)
        scores.view(-1, query_count, key_count)[:, :, key_count - query_count :].add_(later_tokens)
        outputs.append(products.linear(scores.softmax(dim=-1), transposed_values[key_head], None))
    return torch.stack(outputs).view(1, head_count, query_count, -1)
