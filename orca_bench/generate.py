"""One answer from a model folder, in the Orca prompt, token by token as it is made.

The settings are those of the card's example: temperature 0.7, top_p 1.0, top_k 50, 1024 new tokens, sampled, float16 on a
GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from orca_bench import prompt
from orca_bench.errors import UserError
from orca_bench.models import folder as model_folder


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen; defaults are the card's. `greedy` takes the likeliest and ignores the rest."""

    temperature: float = 0.7
    top_p: float = 1.0
    top_k: int = 50
    max_new_tokens: int = 1024
    greedy: bool = False
    seed: int | None = None


class Generator:
    """A model and its tokenizer, ready to answer."""

    def __init__(self, folder: str):
        self.model, self.tokenizer = model_folder.load(folder, dtype="auto", gpu_dtype="float16")
        self.window = getattr(self.model.config, "max_position_embeddings", 2048)

    def answer(
        self, system: str, instruction: str, input: str | None = None, sampling: Sampling = Sampling()
    ) -> Iterator[str]:
        """Yield the response in pieces of text. Ends at EOS, at another turn's header, or when the room is used up.

        Raises UserError where the prompt fills the model's context window.
        """
        import torch

        asked = [self.tokenizer.bos_id, *self.tokenizer.encode(prompt.render(system, instruction, input))]
        room = min(sampling.max_new_tokens, self.window - len(asked))
        if room < 1:
            raise UserError(
                f"the prompt has {len(asked)} tokens and the model's context window {self.window}",
                where="--instruction",
            )
        random = torch.Generator(device=self.model.device)
        random.manual_seed(sampling.seed) if sampling.seed is not None else random.seed()
        said: list[int] = []
        shown = ""
        for token in self._tokens(asked, room, sampling, random):
            said.append(token)
            text = self.tokenizer.decode(said)
            ready = _ready(text)
            if len(ready) > len(shown):
                yield ready[len(shown) :]
                shown = ready
            if any(header in text for header in prompt.TURN_HEADERS):
                return
        whole = self.tokenizer.decode(said)
        if len(whole) > len(shown):
            yield whole[len(shown) :]

    def _tokens(self, asked: list[int], room: int, sampling: Sampling, random) -> Iterator[int]:
        import torch

        ids, cache = torch.tensor([asked], device=self.model.device), None
        for _ in range(room):
            with torch.inference_mode():
                out = self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
                token = int(choose(out.logits[0, -1].float(), sampling, random))
            if token == self.tokenizer.eos_id:
                return
            yield token
            cache, ids = out.past_key_values, torch.tensor([[token]], device=self.model.device)


def choose(logits, sampling: Sampling, random):
    """The next token of float32 logits [vocabulary]: greedy, or sampled after temperature, top-k and top-p, in that order.

    The order and the rules are transformers' (generation/logits_process.py).
    """
    import torch

    if sampling.greedy or sampling.temperature == 0:
        return logits.argmax()
    logits = logits / sampling.temperature
    if 0 < sampling.top_k < len(logits):
        logits = logits.masked_fill(logits < logits.topk(sampling.top_k).values[-1], float("-inf"))
    if sampling.top_p < 1:
        ordered, places = logits.sort(descending=True)
        before = ordered.softmax(dim=-1).cumsum(dim=-1) - ordered.softmax(dim=-1)
        logits = logits.index_fill(0, places[before >= sampling.top_p], float("-inf"))
    return torch.multinomial(logits.softmax(dim=-1), 1, generator=random)[0]


def _ready(text: str) -> str:
    """What of a text can be shown already: half a character and a possible beginning of a header wait."""
    text = text.removesuffix("\ufffd")
    for header in prompt.TURN_HEADERS:
        if header in text:
            return text.split(header)[0]
    for header in prompt.TURN_HEADERS:
        for length in range(len(header) - 1, 0, -1):
            if text.endswith(header[:length]):
                return text[:-length]
    return text
