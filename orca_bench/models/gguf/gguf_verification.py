"""A GGUF file and the folder that was imported from it in; out: how far llama.cpp, running the file, differs from the folder.

Token ids of adversarial texts are compared, and the probabilities of all next tokens at positions of plain texts. llama.cpp is
the package xllamacpp, an extra of orca-bench; its keys and values are in float32, as here, and its flash attention is off: by
default both are approximate (a float32 file of SmolLM2-135M diverges by 9e-6 nats with flash attention, by 1e-10 without).

For quantised weights llama.cpp rounds activations too, and no option prevents it. How far this moves the probabilities depends
on model and text, so it is computed: the folder's own model with its activations rounded in the same way is the yardstick
(`activation_rounding`). The price: half a second a position, because llama.cpp lists the whole vocabulary for each.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orca_bench import tokenizers
from orca_bench.counts import ReportProgress
from orca_bench.models.gguf import llamacpp_server
from orca_bench.models.gguf.gguf_configuration import EMBEDDING
from orca_bench.models.gguf.gguf_file import GgufFile
from orca_bench.models.gguf.gguf_verification_texts import VERIFICATION_TEXTS
from orca_bench.models.gguf.gguf_weights import state_name
from orca_bench.models.gguf.llamacpp_server import LlamaCppSettings
from orca_bench.models.gguf.next_token_distributions import kl_divergences, next_token_log_probabilities
from orca_bench.models.model_loading import load_on_cpu
from orca_bench.tokenizers.probes import probe_texts

if TYPE_CHECKING:
    import torch

DEFAULT_POSITION_COUNT = 300
DEFAULT_TEXT_COUNT = 2000
#: Largest mean divergence, nats, of a file that rounds nothing: the computation is the same but for its order.
MAX_FLOAT32_KL = 1e-6
#: Largest mean divergence of other files, as a multiple of what the same rounding of activations makes in the folder's own
#: model. Both are means of a random error with a heavy tail: README.md has the multiples that were seen.
MAX_ROUNDING_RATIO = 3.0
#: Two first tokens whose log-probabilities are closer, nats, may change places.
TIE_NATS = 1e-3
#: As exact as llama.cpp computes.
_EXACT_SETTINGS = LlamaCppSettings(context_tokens=1024, cache_type="f32", uses_flash_attention=False)
_MAX_TEXT_TOKENS = 128


@dataclass(frozen=True)
class VerificationReport:
    """What the comparison found: divergence of llama.cpp's next-token distribution from the folder's, nats; differing ids.

    `rounding_kl` is the mean divergence that rounding its activations makes in the folder's own model; 0 for a float32 file.
    """

    position_count: int
    mean_kl: float
    rounding_kl: float
    largest_kl: float
    same_first_token_count: int
    clear_difference_count: int
    text_count: int
    texts_with_other_ids: tuple[str, ...]
    weight_types: frozenset[str]

    @property
    def is_float32(self) -> bool:
        """Whether the file rounds nothing, nor does llama.cpp."""
        return self.weight_types == {"F32"}

    @property
    def kl_limit(self) -> float:
        """The mean divergence, nats, above which the folder is not the file's model."""
        return max(MAX_FLOAT32_KL, MAX_ROUNDING_RATIO * self.rounding_kl)

    @property
    def is_equal(self) -> bool:
        """Whether the folder is the file's model, as far as llama.cpp's own rounding lets one see."""
        first_tokens_agree = not (self.is_float32 and self.clear_difference_count)
        return self.mean_kl <= self.kl_limit and first_tokens_agree and not self.texts_with_other_ids

    def __str__(self) -> str:
        rounding = "" if self.is_float32 else f", {MAX_ROUNDING_RATIO:g} times what rounded activations make here"
        verdict = "verified" if self.is_equal else "NOT the same model"
        lines = [
            f"{verdict}: beside llama.cpp, {self.position_count} positions: mean KL "
            f"{self.mean_kl:.1e} nats (limit {self.kl_limit:.1e}{rounding}), largest {self.largest_kl:.1e}; same first token "
            f"{self.same_first_token_count} times; token ids of {self.text_count - len(self.texts_with_other_ids)} of "
            f"{self.text_count} texts are the same"
        ]
        lines += [f"  other ids: {text!r:.100}" for text in self.texts_with_other_ids[:3]]
        return "\n".join(lines)


@dataclass(frozen=True)
class LlamacppOutput:
    """What llama.cpp, running a file, gave: log-probabilities [positions, vocabulary] of the token after each id of the contexts.

    `texts_with_other_ids` are those of `text_count` texts that it encodes otherwise than the folder's tokenizer.
    """

    contexts: tuple[list[int], ...]
    log_probabilities: torch.Tensor
    text_count: int
    texts_with_other_ids: tuple[str, ...]


def verify(
    gguf_path: Path,
    folder: Path,
    position_count: int = DEFAULT_POSITION_COUNT,
    progress: ReportProgress = lambda done_count, total: None,
) -> VerificationReport:
    """Compare a folder with llama.cpp running the file it comes from; `progress` is told (positions done, all positions)."""
    texts = probe_texts(DEFAULT_TEXT_COUNT, seed=3)
    output = run_llamacpp(gguf_path, tokenizers.load_tokenizer(folder), position_count, texts, progress)
    return compare(gguf_path, folder, output)


def run_llamacpp(
    gguf_path: Path,
    tokenizer: tokenizers.Tokenizer,
    position_count: int,
    texts: Sequence[str],
    progress: ReportProgress = lambda done_count, total: None,
) -> LlamacppOutput:
    """llama.cpp's distributions at `position_count` positions of the verification texts, and its ids of `texts`.

    Both are in the ids of the folder's tokenizer. Raises UserError where llama.cpp cannot load the file.
    """
    import torch

    contexts = tuple(_contexts(tokenizer, position_count))
    file = GgufFile(gguf_path)
    vocabulary_size = file.tensors[EMBEDDING].shape[0]
    rows = []
    with llamacpp_server.serve(file.shard_paths[0], _EXACT_SETTINGS) as server:  # llama.cpp finds the others
        differing_texts = tuple(text for text in texts if not server.has_same_ids(tokenizer, text, with_bos=True))
        for token_ids in contexts:
            for length in range(1, len(token_ids) + 1):
                listed = server.next_token_log_probabilities(token_ids[:length], tokenizer, vocabulary_size)
                rows.append(_whole_distribution(listed, vocabulary_size))
                progress(len(rows), position_count)
    return LlamacppOutput(contexts, torch.stack(rows), len(texts), differing_texts)


def compare(gguf_path: Path, folder: Path, output: LlamacppOutput) -> VerificationReport:
    """A folder's model beside what llama.cpp gave for the file."""
    import torch

    file, model = GgufFile(gguf_path), load_on_cpu(folder, "float32")
    ours = torch.cat([next_token_log_probabilities(model, token_ids) for token_ids in output.contexts])
    with activation_rounding(model, file):
        rounded = torch.cat([next_token_log_probabilities(model, token_ids) for token_ids in output.contexts])
    divergences = kl_divergences(ours, output.log_probabilities)
    first_tokens, llamacpp_first_tokens = ours.argmax(-1, True), output.log_probabilities.argmax(-1, True)
    differences = ours.gather(-1, first_tokens) - ours.gather(-1, llamacpp_first_tokens)
    return VerificationReport(
        position_count=len(divergences),
        mean_kl=float(divergences.mean()),
        rounding_kl=float(kl_divergences(ours, rounded).mean()),
        largest_kl=float(divergences.max()),
        same_first_token_count=int((first_tokens == llamacpp_first_tokens).sum()),
        clear_difference_count=int((differences > TIE_NATS).sum()),
        text_count=output.text_count,
        texts_with_other_ids=output.texts_with_other_ids,
        weight_types=frozenset(file.types()),
    )


def _contexts(tokenizer: tokenizers.Tokenizer, position_count: int) -> Iterator[list[int]]:
    """Token ids of texts with `position_count` positions in all: the verification texts, in turns from each of them on."""
    remaining_count = position_count
    for first_index in itertools.count():
        turn = [VERIFICATION_TEXTS[(first_index + index) % len(VERIFICATION_TEXTS)] for index in range(2)]
        token_ids = [*tokenizer.prefix, *tokenizer.encode("\n\n".join(turn))][: min(_MAX_TEXT_TOKENS, remaining_count)]
        yield token_ids
        remaining_count -= len(token_ids)
        if remaining_count <= 0:
            return


@contextlib.contextmanager
def activation_rounding(model: torch.nn.Module, file: GgufFile) -> Iterator[None]:
    """Within it the inputs of a folder's matrices are rounded as llama.cpp rounds them for the types of the file's weights.

    Source: the `vec_dot_type` of each type in ggml-cpu.c. Float16 and bfloat16 weights are multiplied with activations of their
    own type; quantised ones with 8-bit integers, one factor for a block of 32 (quantize_row_q8_0_ref in ggml-quants.c), or of
    256 where the weights' blocks have 256 (quantize_row_q8_K_ref).
    """
    import torch

    type_names = {
        state_name(tensor.name): tensor.type_name for tensor in file.tensors.values() if len(tensor.shape) > 1
    }
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            # A head without a tensor of its own is the embedding's.
            type_name = type_names.get(f"{name}.weight") or type_names[state_name(EMBEDDING)]
            handles.append(module.register_forward_pre_hook(_rounding_hook(type_name)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _rounding_hook(type_name: str) -> Callable[[torch.nn.Module, tuple[torch.Tensor]], tuple[torch.Tensor]]:
    """A hook that rounds the input [batch, length, inputs] of a matrix whose weights are of a type."""
    import gguf
    import torch

    block_size, _ = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[type_name]]

    def round_input(module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        (activations,) = inputs
        if type_name == "F32":
            return inputs
        if type_name in ("F16", "BF16"):
            dtype = torch.float16 if type_name == "F16" else torch.bfloat16
            return (activations.to(dtype).float(),)
        blocks = activations.unflatten(-1, (-1, block_size))
        factors = blocks.abs().amax(-1, keepdim=True) / 127
        integers = torch.where(factors > 0, blocks / factors, 0.0).round()
        return ((integers * factors.half().float()).flatten(-2),)

    return round_input


def _whole_distribution(log_probability_by_id: Mapping[int, float], vocabulary_size: int) -> torch.Tensor:
    """llama.cpp's log-probabilities as [vocabulary], in float64; tokens that it does not list have none."""
    import torch

    log_probabilities = torch.full((vocabulary_size,), float("-inf"), dtype=torch.float64)
    ids = torch.tensor(list(log_probability_by_id))
    log_probabilities[ids] = torch.tensor(list(log_probability_by_id.values()), dtype=torch.float64)
    # Its softmax is in float32, and its JSON has the lowest float32 for a probability of zero.
    return log_probabilities.clamp(min=-1e4).log_softmax(-1)
