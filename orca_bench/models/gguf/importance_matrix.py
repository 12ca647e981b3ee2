"""A model folder and token sequences in, the importance of every input of its linear layers out: llama.cpp's importance matrix.

A quantiser that knows how large a matrix's inputs are, rounds the columns with large inputs more exactly. The importance of a
column is the mean square of its input over the tokens (llama.cpp, tools/imatrix). As there, only the matrices of the blocks have
one, not the embedding and the output head. The price: a forward pass in float32 over the tokens, one sequence after another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orca_bench.counts import ReportProgress
from orca_bench.errors import UserError
from orca_bench.models.gguf.gguf_configuration import llama_configuration
from orca_bench.models.gguf.gguf_weights import expected_shapes, state_name
from orca_bench.models.model_folder import ModelFolder
from orca_bench.models.model_loading import load_model

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

DEFAULT_TOKEN_COUNT = 32_768
#: Fewer tokens say little of a column: llama.cpp's own users take 50,000 and more.
MIN_TOKEN_COUNT = 2048


@dataclass(frozen=True)
class ImportanceMatrix:
    """The importance of each input of a matrix, float32 [inputs], by the tensor's name in the file.

    Attributes:
        importance_by_tensor: The mean squares.
        token_count: Over how many tokens.
        sequence_count: In how many sequences.
        source: The name of what they are from.
    """

    importance_by_tensor: dict[str, NDArray[np.float32]]
    token_count: int
    sequence_count: int
    source: str

    def metadata(self) -> dict[str, str | int]:
        """What a file says of it, in the keys that llama-quantize writes (src/llama-quant.cpp, tools/quantize)."""
        return {
            "quantize.imatrix.dataset": self.source,
            "quantize.imatrix.entries_count": len(self.importance_by_tensor),
            "quantize.imatrix.chunks_count": self.sequence_count,
        }


def check_token_count(token_count: int, where: str) -> None:
    """Raise UserError for too few tokens."""
    if token_count < MIN_TOKEN_COUNT:
        raise UserError(
            f"{token_count:,} tokens are too few for an importance matrix; at least {MIN_TOKEN_COUNT:,} are needed",
            where=where,
        )


def measure_importance(
    model_folder: ModelFolder,
    sequences: Sequence[Sequence[int]],
    source: str,
    progress: ReportProgress = lambda done_count, total: None,
) -> ImportanceMatrix:
    """The importance matrix of a LLaMA over sequences of token ids.

    `progress` is told (tokens done, all tokens). Raises UserError for another model, where there are too few tokens, and where
    an activation is no finite number.
    """
    import torch

    token_count = sum(map(len, sequences))
    check_token_count(token_count, source)
    configuration = llama_configuration(model_folder.config, model_folder.path)
    model = load_model(model_folder, "float32", "float32")
    tensor_by_state_name = {state_name(name): name for name in expected_shapes(configuration)}
    sums: dict[str, torch.Tensor] = {}
    hooks = [
        module.register_forward_pre_hook(_adder(sums, tensor_by_state_name[f"{name}.weight"]))
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name.startswith("model.layers.")
    ]
    done_count = 0
    with torch.inference_mode():
        for sequence in sequences:
            model.base_model(torch.tensor([list(sequence)], device=model.device), use_cache=False)  # without the head
            done_count += len(sequence)
            progress(done_count, token_count)
    for hook in hooks:
        hook.remove()
    importance_by_tensor = {name: (total / token_count).float().cpu().numpy() for name, total in sums.items()}
    for name, total in sums.items():
        if not bool(torch.isfinite(total).all()):
            raise UserError(f"inputs of {name} are not finite numbers", where=model_folder.path)
    return ImportanceMatrix(importance_by_tensor, token_count, len(sequences), source)


def _adder(sums: dict[str, torch.Tensor], tensor_name: str) -> Callable[[Any, tuple[Any, ...]], None]:
    """A hook that adds the squares of a layer's inputs [1, length, inputs] to its sum [inputs], float64."""

    def add_squares(module: Any, arguments: tuple[Any, ...]) -> None:
        squares = arguments[0].flatten(0, -2).square().double().sum(0)
        sums[tensor_name] = sums[tensor_name] + squares if tensor_name in sums else squares

    return add_squares
