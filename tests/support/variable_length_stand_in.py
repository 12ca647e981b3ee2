"""Stand-ins on the CPU for `torch.nn.attention.varlen.varlen_attn`, with what its kernel requires of its arguments."""

import torch


def attend_each_sequence(
    query, key, value, query_starts, key_starts, max_query, max_key, *, scale, window_size, enable_gqa=False
):
    """The attention of each sequence alone: [tokens, heads, head size], the size in eights, queries at the end of the keys."""
    assert query.is_contiguous() and query.shape[2] == key.shape[2] and query.shape[2] % 8 == 0
    assert key.shape == value.shape and (enable_gqa or query.shape[1] == key.shape[1])
    for starts, longest in ((query_starts, max_query), (key_starts, max_key)):
        assert starts.dtype == torch.int32 and starts.diff().max() == longest
    outputs = []
    for number in range(len(query_starts) - 1):
        queries, keys, values = (
            states[starts[number] : starts[number + 1]].transpose(0, 1)
            for states, starts in ((query, query_starts), (key, key_starts), (value, key_starts))
        )
        depths = torch.arange(keys.shape[1])
        distances = depths[-queries.shape[1] :, None] - depths
        visible = (distances >= -window_size[1]) & ((window_size[0] == -1) | (distances <= window_size[0]))
        attended = torch.nn.functional.scaled_dot_product_attention(
            queries, keys, values, attn_mask=visible, scale=scale, enable_gqa=True
        )
        outputs.append(attended.transpose(0, 1))
    return torch.cat(outputs)


def attend_each_sequence_without_option(*arguments, scale, window_size):
    """As `attend_each_sequence`, as it was in PyTorch 2.11: keys may have fewer heads than queries, and no option says so."""
    return attend_each_sequence(*arguments, scale=scale, window_size=window_size, enable_gqa=True)
