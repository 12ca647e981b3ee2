"""A GGUF file in, its metadata with checked types and its tensors out; or an error that says what the file is.

The file's layout is read by llama.cpp's own package `gguf` (an extra of orca-bench). A model in shards is read whole, whichever
of its shards is named. Its own module because all that is known of the container is here; what a LLaMA's keys and tensors
mean is in the modules beside it.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from orca_bench.errors import UserError, Where
from orca_bench.files import catch_read_errors, file_sha256, lfs_pointer_hint

if TYPE_CHECKING:
    import gguf
    import numpy as np
    from numpy.typing import NDArray

#: What a GGUF file is called, and what it begins with.
SUFFIX = ".gguf"
_MAGIC = b"GGUF"
_SHARD_NAME = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
#: What gguf 0.19 says of the number of a type that it does not know.
_UNKNOWN_TYPE = re.compile(r"(\d+)\)? is not a valid GGMLQuantizationType")

_Value = TypeVar("_Value", str, int, float, bool, "list[Any]")
_REQUIRED: Any = object()


@dataclass(frozen=True)
class StoredTensor:
    """One tensor as it lies in the file: shape [outputs, inputs] as PyTorch has it, and the type of its numbers."""

    name: str
    shape: tuple[int, ...]
    type_name: str
    byte_count: int
    _tensor: gguf.ReaderTensor

    def dequantize(self) -> NDArray[np.float32]:
        """Its numbers in float32, `shape`: exact, for a block's numbers are a product of float16 and small integers."""
        import gguf
        import numpy as np

        if self.type_name == "F32":
            return np.asarray(self._tensor.data).reshape(self.shape)
        return gguf.dequantize(self._tensor.data, self._tensor.tensor_type).reshape(self.shape)

    def check(self, path: Path) -> None:
        """Raise UserError where the numbers are of a type that `gguf` cannot dequantise."""
        import gguf

        if self.type_name == "F32":
            return
        try:
            gguf.dequantize(self._tensor.data[:1], self._tensor.tensor_type)
        except NotImplementedError:
            raise UserError(
                f"tensor {self.name} is of type {self.type_name}, which cannot be dequantised",
                where=path,
                hint="another quantisation of the model (Q4_K_M, Q8_0, F16, …) can be read",
            ) from None


class GgufFile:
    """A GGUF model: `metadata` by key, and `tensors` by name, of all its shards."""

    def __init__(self, path: Path):
        """Read the headers; the tensors' numbers stay on the disk. Raises UserError for what is no whole GGUF model."""
        self.path = path
        self.shard_paths = shard_paths(path)
        self.metadata: dict[str, Any] = {}
        self.tensors: dict[str, StoredTensor] = {}
        for shard_path in self.shard_paths:
            metadata, tensors = _read(shard_path)
            self.metadata = metadata | self.metadata
            self.tensors |= {tensor.name: tensor for tensor in tensors}
        shard_count = self.metadata.get("split.count", 1)
        if shard_count not in (0, len(self.shard_paths)):
            raise UserError(
                f"a model of {shard_count} shards, of which {len(self.shard_paths)} was read",
                where=path,
                hint="its shards are called NAME-00001-of-00003.gguf, …; give them their names back",
            )

    def get(self, key: str, kind: type[_Value], default: _Value | None = _REQUIRED) -> _Value:
        """The metadata of a key. Raises UserError where it is missing and has no default, or is not a `kind`."""
        value = self.metadata.get(key)
        if value is None:
            if default is _REQUIRED:
                raise UserError(f"the metadata lack {key}", where=self.path)
            return default  # type: ignore[return-value]
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)  # type: ignore[return-value]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise UserError(f"{key} is {value!r:.60}, expected {_KIND_NAMES[kind]}", where=self.path)
        return value

    def decimal(self, key: str, default: float | None = _REQUIRED) -> float:
        """A number that stands in float32, as the shortest decimal that is the same float32: 1e-05, not 9.999999747e-06."""
        import numpy as np

        value = self.get(key, float, default)
        return value if value is None else float(str(np.float32(value)))

    def types(self) -> dict[str, int]:
        """How many weights there are of each type: {'Q4_1': 134479872, 'F32': 35136}, the most frequent first."""
        counts: Counter[str] = Counter()
        for tensor in self.tensors.values():
            counts[tensor.type_name] += math.prod(tensor.shape)
        return dict(counts.most_common())

    def bits_per_weight(self) -> float:
        """Bits that the file spends on a weight, over all tensors."""
        byte_count = sum(tensor.byte_count for tensor in self.tensors.values())
        return 8 * byte_count / sum(self.types().values())


_KIND_NAMES = {str: "a text", int: "an integer", float: "a number", bool: "true or false", list: "a list"}


def is_gguf(path: str | Path) -> bool:
    """Whether a path is that of a GGUF file: by its name, or by its first bytes."""
    file = Path(path)
    if not file.is_file():
        return False
    if file.name.endswith(SUFFIX):
        return True
    with file.open("rb") as stream:
        return stream.read(len(_MAGIC)) == _MAGIC


def sha256_of_shards(paths: Sequence[Path]) -> str:
    """One SHA-256 for a file in one or several shards, over the JSON list of the shards' own.

    Raises UserError where one cannot be read.
    """
    return hashlib.sha256(json.dumps([file_sha256(path) for path in paths]).encode()).hexdigest()


def shard_paths(path: Path) -> list[Path]:
    """All files of a model of which one is named, in order. Raises UserError that names the missing ones."""
    shard_name = _SHARD_NAME.fullmatch(path.name)
    if shard_name is None:
        return [path]
    count = int(shard_name["count"])
    paths = [path.with_name(f"{shard_name['stem']}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)]
    missing_names = [shard_path.name for shard_path in paths if not shard_path.is_file()]
    if missing_names:
        raise UserError(f"{len(missing_names)} of {count} shards are missing: {', '.join(missing_names)}", where=path)
    return paths


def check_gguf_installed(where: Where) -> None:
    """Raise UserError where the package gguf is not installed."""
    try:
        import gguf  # noqa: F401
    except ImportError:
        raise UserError(
            "a GGUF file needs the package gguf", where=where, hint="install it: pip install 'orca-bench[gguf]'"
        ) from None


def _read(path: Path) -> tuple[dict[str, Any], list[StoredTensor]]:
    """The metadata and the tensors of one file, of which only the headers are read."""
    check_gguf_installed(path)
    import gguf

    with catch_read_errors(path):
        _check_head(path)
        try:
            reader = gguf.GGUFReader(path)
            metadata = {key: field.contents() for key, field in reader.fields.items()}
            tensors = [
                StoredTensor(
                    tensor.name,
                    tuple(int(size) for size in reversed(tensor.shape)),
                    tensor.tensor_type.name,
                    int(tensor.n_bytes),
                    tensor,
                )
                for tensor in reader.tensors
            ]
        except Exception as error:  # the reader trusts the file: a short or damaged one fails wherever it ends
            if unknown_type := _UNKNOWN_TYPE.search(str(error)):
                raise UserError(
                    f"weights of type {unknown_type[1]}, which the package gguf does not know",
                    where=path,
                    hint="a newer gguf may know it, else the file is damaged; another quantisation of the model (Q4_K_M, Q8_0, "
                    "F16, …) can be read",
                ) from None
            detail = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise UserError(
                f"a GGUF file that is truncated or damaged ({detail:.120})", where=path, hint="fetch it again"
            ) from None
    return metadata, tensors


def _check_head(path: Path) -> None:
    with path.open("rb") as stream:
        head = stream.read(8)
    if head[:4] != _MAGIC:
        raise UserError("not a GGUF file", where=path, hint=lfs_pointer_hint(path))
    version, swapped_version = int.from_bytes(head[4:], "little"), int.from_bytes(head[4:], "big")
    if not 0 < version < 2**16 and 0 < swapped_version < 2**16:
        raise UserError(
            "a big-endian GGUF file",
            where=path,
            hint="llama.cpp's gguf-convert-endian makes a little-endian one of it",
        )
    if version not in (2, 3):
        raise UserError(f"GGUF of version {version}; versions 2 and 3 can be read", where=path)
