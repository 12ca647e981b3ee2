"""A GGUF file and the folder that was imported from it in; out: how far llama.cpp, running the file, differs from the folder.

Token ids of adversarial texts are compared, and the probabilities of all next tokens at positions of real texts. llama.cpp is
the package xllamacpp, an extra of orca-bench; its keys and values are in float32, as here, and its flash attention is off: by
default both are approximate (a float32 file of SmolLM2-135M diverges by 9e-6 nats with flash attention, by 1e-10 without). The
price: half a second a position, because llama.cpp lists the whole vocabulary for each.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orca_bench import library_settings, tokenizers
from orca_bench.models.gguf import llamacpp_server
from orca_bench.models.gguf.gguf_file import GgufFile
from orca_bench.models.gguf.llamacpp_server import LlamaCppServer, LlamaCppSettings
from orca_bench.models.weights import catch_loading_errors
from orca_bench.system_messages import SYSTEM_MESSAGES
from orca_bench.tokenizers.probes import probe_texts

if TYPE_CHECKING:
    import torch

DEFAULT_POSITION_COUNT = 300
DEFAULT_TEXT_COUNT = 2000
#: Largest mean divergence, nats, that is no fault: of a float32 file, whose computation is the same but for its order; of a
#: float16 or bfloat16 file, for which llama.cpp rounds activations to 16 bits; and of others, to 8 bits. For a Q4_1 file of
#: SmolLM2-135M 0.004 to 0.014 were seen, by the texts; the same weights as a float32 file diverged by 1e-10.
MAX_FLOAT32_KL = 1e-6
MAX_16_BIT_KL = 1e-4
MAX_ROUNDED_KL = 0.03
#: Two first tokens whose log-probabilities are closer, nats, may change places.
TIE_NATS = 1e-3
#: As exact as llama.cpp computes.
_EXACT_SETTINGS = LlamaCppSettings(context_tokens=1024, cache_type="f32", uses_flash_attention=False)
_MAX_TEXT_TOKENS = 128


@dataclass(frozen=True)
class VerificationReport:
    """What the comparison found: divergence of llama.cpp's next-token distribution from the folder's, nats; differing ids."""

    position_count: int
    mean_kl: float
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
        if self.is_float32:
            return MAX_FLOAT32_KL
        return MAX_16_BIT_KL if self.weight_types <= {"F32", "F16", "BF16"} else MAX_ROUNDED_KL

    @property
    def is_equal(self) -> bool:
        """Whether the folder is the file's model, as far as llama.cpp's own rounding lets one see."""
        first_tokens_agree = not (self.is_float32 and self.clear_difference_count)
        return self.mean_kl <= self.kl_limit and first_tokens_agree and not self.texts_with_other_ids

    def __str__(self) -> str:
        verdict = "verified" if self.is_equal else "NOT the same model"
        lines = [
            f"{verdict}: beside llama.cpp, {self.position_count} positions: mean KL "
            f"{self.mean_kl:.1e} nats (limit {self.kl_limit:.0e}), largest {self.largest_kl:.1e}; same first token "
            f"{self.same_first_token_count} times; token ids of {self.text_count - len(self.texts_with_other_ids)} of "
            f"{self.text_count} texts are the same"
        ]
        lines += [f"  other ids: {text!r:.100}" for text in self.texts_with_other_ids[:3]]
        return "\n".join(lines)


def verify(
    gguf_path: Path,
    folder: Path,
    position_count: int = DEFAULT_POSITION_COUNT,
    tokenizer_texts: Sequence[str] = (),
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> VerificationReport:
    """Compare a folder with llama.cpp running the file it comes from.

    `tokenizer_texts` are encoded by both besides the adversarial ones; `progress` is told (positions done, all positions).
    """
    file = GgufFile(gguf_path)
    tokenizer = tokenizers.load_tokenizer(folder)
    letter_id = tokenizer.encode("a")[-1]
    model = _load_float32(folder)
    texts = [*probe_texts(DEFAULT_TEXT_COUNT, seed=3), *tokenizer_texts]
    divergences: list[float] = []
    same_first_token_count = clear_difference_count = 0
    with llamacpp_server.serve(gguf_path, _EXACT_SETTINGS) as server:
        differing_texts = []
        bos_ids = [tokenizer.bos_id] if tokenizer.adds_bos else []
        for text in texts:
            request = {"content": text, "add_special": True, "parse_special": False}
            if server.post("/tokenize", request)["tokens"] != [*bos_ids, *tokenizer.encode(text)]:
                differing_texts.append(text)
        for token_ids in _contexts(tokenizer, position_count):
            log_probabilities = _next_token_log_probabilities(model, token_ids)
            for position in range(len(token_ids)):
                if len(divergences) == position_count:
                    break
                llamacpp = _llamacpp_log_probabilities(
                    server, token_ids[: position + 1], log_probabilities.shape[1], letter_id
                )
                ours = log_probabilities[position]
                divergences.append(float((ours.exp() * (ours - llamacpp)).sum()))
                first, llamacpp_first = int(ours.argmax()), int(llamacpp.argmax())
                same_first_token_count += first == llamacpp_first
                clear_difference_count += float(ours[first] - ours[llamacpp_first]) > TIE_NATS
                progress(len(divergences), position_count)
    return VerificationReport(
        len(divergences),
        sum(divergences) / len(divergences),
        max(divergences),
        same_first_token_count,
        clear_difference_count,
        len(texts),
        tuple(differing_texts),
        frozenset(file.types()),
    )


def _contexts(tokenizer: tokenizers.Tokenizer, position_count: int) -> Iterator[list[int]]:
    """Token ids of texts until their positions suffice: the Orca paper's system messages, in turns from each of them on."""
    system_texts = [text for text in SYSTEM_MESSAGES.values() if text]
    yielded_count = 0
    for first_index in itertools.count():
        turn = [system_texts[(first_index + index) % len(system_texts)] for index in range(len(system_texts))]
        token_ids = [*tokenizer.prefix, *tokenizer.encode(" ".join(turn))][:_MAX_TEXT_TOKENS]
        yield token_ids
        yielded_count += len(token_ids)
        if yielded_count >= position_count:
            return


def _load_float32(folder: Path) -> torch.nn.Module:
    library_settings.prepare_libraries()
    import torch
    from transformers import AutoModelForCausalLM

    with catch_loading_errors(folder):
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def _next_token_log_probabilities(model: torch.nn.Module, token_ids: list[int]) -> torch.Tensor:
    """Log-probabilities [length, vocabulary] of the token after each of `token_ids`, in float64."""
    import torch

    with torch.no_grad():
        logits = model(torch.tensor([token_ids])).logits[0]
    return logits.double().log_softmax(-1)


def _llamacpp_log_probabilities(
    server: LlamaCppServer, token_ids: list[int], vocabulary_size: int, forced_token_id: int
) -> torch.Tensor:
    """Log-probabilities [vocabulary] of the token after `token_ids`, as llama.cpp has them while it takes `forced_token_id`."""
    import torch

    request = {
        "prompt": token_ids,
        "n_predict": 1,
        "n_probs": vocabulary_size,
        "temperature": 0,
        "cache_prompt": True,
        # It lists none where it takes EOS or part of a character, and those that it lists are before the bias.
        "logit_bias": [[forced_token_id, 1e9]],
    }
    entries = server.post("/completion", request)["completion_probabilities"][0]["top_logprobs"]
    log_probabilities = torch.full((vocabulary_size,), float("-inf"), dtype=torch.float64)
    ids = torch.tensor([entry["id"] for entry in entries])
    log_probabilities[ids] = torch.tensor([entry["logprob"] for entry in entries], dtype=torch.float64)
    # Its softmax is in float32, and its JSON has the lowest float32 for a probability of zero.
    return log_probabilities.clamp(min=-1e4).log_softmax(-1)
