"""One answer from a model folder, in the Orca prompt, token by token as it is computed.

The settings are those of the card's example: temperature 0.7, top_p 1.0, top_k 50, 1024 new tokens, sampled, float16 on a
GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from inspect import signature

from orca_bench import prompt
from orca_bench.errors import UserError
from orca_bench.models import architecture, model_folder
from orca_bench.serve.sampling import Sampler, Sampling
from orca_bench.tokenizers.streaming import TextStream


class Generator:
    """A model and its tokenizer, ready to answer."""

    def __init__(self, folder: str):
        self.model, self.tokenizer = model_folder.load(folder, dtype="auto", gpu_dtype="float16")
        self.window = architecture.window(self.model.config)

    def answer(
        self, system: str, instruction: str, input: str | None = None, sampling: Sampling = Sampling()
    ) -> Iterator[str]:
        """Yield the response in pieces of text. Ends at EOS, at another turn's header, or when the room is used up.

        Raises UserError where the prompt fills the model's context window.
        """
        token_ids = [*self.tokenizer.prefix, *self.tokenizer.encode(prompt.render(system, instruction, input))]
        room = min(sampling.max_new_tokens, self.window - len(token_ids))
        if room < 1:
            raise UserError(
                f"the prompt has {len(token_ids)} tokens and the model's context window {self.window}",
                where="--instruction",
            )
        stream = TextStream(self.tokenizer)
        text, length = "", 0  # all that is certain, and how much of it was given out
        for token in self._tokens(token_ids, room, sampling):
            text += stream.push(token)
            ready = _ready(text)
            if len(ready) > length:
                yield ready[length:]
                length = len(ready)
            if any(header in text for header in prompt.TURN_HEADERS):
                return
        rest = _before_header(text + stream.end())[length:]
        if rest:
            yield rest

    def _tokens(self, token_ids: list[int], room: int, sampling: Sampling) -> Iterator[int]:
        import torch

        sampler = Sampler(sampling, self.model.device)
        last = {"logits_to_keep": 1} if "logits_to_keep" in signature(self.model.forward).parameters else {}
        whole = ids = torch.tensor([token_ids], device=self.model.device)
        cache: dict = {}
        for _ in range(room):
            with torch.inference_mode():
                out = self.model(input_ids=ids, use_cache=True, **cache, **last)
                token = sampler(out.logits[0, -1])
            if token in self.tokenizer.stop_ids:
                return
            yield token
            new = torch.tensor([[token]], device=self.model.device)
            whole = torch.cat([whole, new], dim=1)
            # Recurrent models keep their state under other names; they are fed the whole again.
            past = getattr(out, "past_key_values", None)
            cache, ids = ({}, whole) if past is None else ({"past_key_values": past}, new)


def _before_header(text: str) -> str:
    """A text up to the first header of another turn."""
    for header in prompt.TURN_HEADERS:
        text = text.split(header)[0]
    return text


def _ready(text: str) -> str:
    """What of a text can be given out already: what may be the beginning of a header waits."""
    text = _before_header(text)
    for header in prompt.TURN_HEADERS:
        for length in range(len(header) - 1, 0, -1):
            if text.endswith(header[:length]):
                return text[:-length]
    return text
