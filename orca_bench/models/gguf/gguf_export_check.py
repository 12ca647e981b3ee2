"""A GGUF file that was just written and its folder in; out: how far their next-token probabilities differ, or the first fault.

Compared are the configuration, every matrix, token ids of adversarial texts, and the logits at positions of the Orca prompt. What
a type rounds makes matrices and logits differ, by how much depends on the model. What must not differ in any file: the logits of
the folder's own model once it has the file's weights. Its own module because it only reads: it knows nothing of how the file was
written.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orca_bench import prompt, tokenizers
from orca_bench.errors import UserError
from orca_bench.models.gguf.gguf_configuration import ROPE_FACTORS, llama_configuration
from orca_bench.models.gguf.gguf_file import GgufFile
from orca_bench.models.gguf.gguf_import import import_gguf, read_gguf
from orca_bench.models.gguf.gguf_weights import state_name
from orca_bench.models.gguf.next_token_distributions import kl_divergences, next_token_log_probabilities
from orca_bench.models.model_folder import ModelFolder
from orca_bench.models.model_loading import load_on_cpu
from orca_bench.system_messages import SYSTEM_MESSAGES

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

#: Largest error of a matrix that the rounding to its type makes, relative to the matrix's norm. Of normally distributed weights
#: 0.0002, 0.002, 0.005, 0.02, 0.04, 0.08, 0.15 and 0.3 were seen. An importance matrix makes it larger: other errors count then.
_MAX_RELATIVE_ERRORS = {"F32": 0.0, "F16": 1e-3, "BF16": 5e-3, "Q8_0": 0.02, "Q6_K": 0.06}
_MAX_RELATIVE_ERRORS |= dict.fromkeys(("Q5_0", "Q5_1", "Q5_K"), 0.12)
_MAX_RELATIVE_ERRORS |= dict.fromkeys(("Q4_0", "Q4_1", "Q4_K", "IQ4_NL", "IQ4_XS"), 0.25)
_MAX_RELATIVE_ERRORS |= {"Q3_K": 0.4, "Q2_K": 0.6}
_SPECIAL_ID_KEYS = ("bos_token_id", "eos_token_id", "pad_token_id")  # the tokenizer's own count
_PROBE_COUNT = 1000  # texts
_PROMPT_TOKENS = 64  # of each of the prompts whose logits are compared
#: Largest mean divergence, nats, of two models that are the same but for the order of float32 additions.
_MAX_SAME_KL = 1e-6


@dataclass(frozen=True)
class ExportReport:
    """What the comparison measured.

    Attributes:
        mean_kl: The mean divergence of the file's next-token distribution from the folder's, nats.
        position_count: At how many positions.
        bits_per_weight: What the file spends, over all tensors.
        types: How many weights there are of each type.
    """

    mean_kl: float
    position_count: int
    bits_per_weight: float
    types: dict[str, int]


def check_written_file(model_folder: ModelFolder, model: PreTrainedModel, gguf_path: Path) -> ExportReport:
    """Read a file back and compare it with its folder, of which `model` is loaded already.

    `model` is in float32 and has the file's weights afterwards. Raises UserError that names the first difference.
    """
    gguf_model = read_gguf(gguf_path, "float32")
    _check_configuration(model_folder, gguf_model.configuration)
    with tempfile.TemporaryDirectory(dir=gguf_path.parent) as temporary_name:
        back_folder = Path(temporary_name) / "model"
        import_gguf(gguf_model, back_folder)
        back_model = load_on_cpu(back_folder, "float32")
        is_exact = _check_state(model_folder, model.state_dict(), back_model.state_dict(), gguf_model.file)
        _check_token_ids(model_folder, tokenizers.load_tokenizer(back_folder))
        mean_kl, position_count = _check_logits(model_folder, model, back_model, is_exact)
    file = gguf_model.file
    return ExportReport(mean_kl, position_count, file.bits_per_weight(), file.types())


def _check_configuration(model_folder: ModelFolder, back_configuration: Mapping[str, Any]) -> None:
    configuration = llama_configuration(model_folder.config, model_folder.path)
    for key, value in back_configuration.items():
        expected_value = configuration.get(key, value)
        if key not in _SPECIAL_ID_KEYS and _stored(value) != _stored(expected_value):
            raise UserError(
                f"{key} is {expected_value}, and {value} in the file that was read back", where=model_folder.path
            )


def _stored(value: Any) -> Any:
    """A value of a configuration as a file holds it: its numbers in float32."""
    import numpy as np

    if isinstance(value, dict):
        return {key: _stored(own_value) for key, own_value in value.items()}
    return np.float32(value) if isinstance(value, float) else value


def _check_state(
    model_folder: ModelFolder,
    state: Mapping[str, torch.Tensor],
    back_state: Mapping[str, torch.Tensor],
    file: GgufFile,
) -> bool:
    """Whether every number is the same; raises UserError for a tensor that differs by more than its type rounds."""
    type_by_name = {state_name(name): tensor.type_name for name, tensor in file.tensors.items() if name != ROPE_FACTORS}
    largest_error = 0.0
    for name, type_name in type_by_name.items():
        tensor = state[name].float()
        error = float((back_state[name].float() - tensor).norm() / tensor.norm().clamp(min=1e-30))
        if not error <= _MAX_RELATIVE_ERRORS[type_name]:
            raise UserError(
                f"{name} differs in the file that was read back by {error:.2g} of its norm, and {type_name} rounds by "
                f"{_MAX_RELATIVE_ERRORS[type_name]:g} at most",
                where=model_folder.path,
            )
        largest_error = max(largest_error, error)
    return largest_error == 0


def _check_token_ids(model_folder: ModelFolder, back_tokenizer: tokenizers.Tokenizer) -> None:
    tokenizer = model_folder.tokenizer
    spellings = [tokenizer.spelling(id_) or "" for id_ in range(tokenizer.vocab_size)]
    texts = [*tokenizers.probe_texts(_PROBE_COUNT, seed=6), *spellings]
    ids_by_tokenizer = (tokenizer.encode_batch(texts), back_tokenizer.encode_batch(texts))
    for text, ids, back_ids in zip(texts, *ids_by_tokenizer, strict=True):
        if ids != back_ids:
            raise UserError(
                f"{text!r:.80} has other token ids in the file: this tokenizer cannot be written as GGUF",
                where=model_folder.path,
            )


def _check_logits(
    model_folder: ModelFolder, model: PreTrainedModel, back_model: PreTrainedModel, is_exact: bool
) -> tuple[float, int]:
    """(mean divergence of the file's model from the folder's, nats; positions).

    Raises UserError where the two differ though their weights are the same: without rounding, or once `model` has the file's.
    """
    prompts = _prompts(model_folder)
    model.float()
    mean_kl = same_kl = _mean_kl(model, back_model, prompts)
    if not is_exact:
        model.load_state_dict(back_model.state_dict())
        same_kl = _mean_kl(model, back_model, prompts)
    if not same_kl <= _MAX_SAME_KL:
        raise UserError(
            f"the logits of the file that was read back differ from the folder's, by a divergence of {same_kl:.2g} nats, though "
            "the weights are the same",
            where=model_folder.path,
        )
    return mean_kl, sum(map(len, prompts))


def _prompts(model_folder: ModelFolder) -> list[list[int]]:
    """The beginnings of prompts with the Orca paper's system messages, in token ids."""
    tokenizer = model_folder.tokenizer
    texts = [prompt.render(system, "What is the capital of France?") for system in SYSTEM_MESSAGES.values()]
    length = min(_PROMPT_TOKENS, model_folder.window_tokens)
    return [[*tokenizer.prefix, *ids][:length] for ids in tokenizer.encode_batch(texts)]


def _mean_kl(model: PreTrainedModel, back_model: PreTrainedModel, prompts: list[list[int]]) -> float:
    """The mean divergence of the second model's next-token distributions from the first's over all positions, nats."""
    import torch

    divergences = [
        kl_divergences(
            next_token_log_probabilities(model, token_ids), next_token_log_probabilities(back_model, token_ids)
        )
        for token_ids in prompts
    ]
    return float(torch.cat(divergences).mean())
