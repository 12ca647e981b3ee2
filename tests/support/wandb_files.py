"""The steps in the offline files of Weights & Biases, read without its server.

A file is a header of seven bytes and a log of LevelDB (doc/log_format.md there): blocks of 32 KiB with chunks of checksum (4
bytes), length (2), kind (1: whole, 2: first, 3: middle, 4: last) and content.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path

_HEADER_BYTES, _BLOCK_BYTES, _CHUNK_HEADER_BYTES = 7, 2**15, 7


def logged_steps(run_folder: Path) -> list[dict[str, float]]:
    """The numbers of each step in the folder of an offline run, in the order in which they were logged."""
    from wandb.proto.wandb_internal_pb2 import Record

    steps = []
    for path in sorted(run_folder.glob("*.wandb")):
        for content in _log_entries(path.read_bytes()):
            record = Record.FromString(content)
            if record.WhichOneof("record_type") == "history":
                items = {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}
                steps.append({key: json.loads(value) for key, value in items.items()})
    return steps


def _log_entries(log: bytes) -> Iterator[bytes]:
    position, entry = _HEADER_BYTES, b""
    while position + _CHUNK_HEADER_BYTES <= len(log):
        if _BLOCK_BYTES - position % _BLOCK_BYTES < _CHUNK_HEADER_BYTES:
            position += _BLOCK_BYTES - position % _BLOCK_BYTES
            continue
        length, kind = struct.unpack_from("<HB", log, position + 4)
        start = position + _CHUNK_HEADER_BYTES
        entry = log[start : start + length] if kind in (1, 2) else entry + log[start : start + length]
        if kind in (1, 4):
            yield entry
        position = start + length
