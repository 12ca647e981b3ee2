"""A model folder and an instruction in, the answer in the Orca prompt out, piece by piece as it is computed.

The settings of the card's example are the defaults: temperature 0.7, top_p 1.0, top_k 50, 1024 new tokens, sampled, float16
on a GPU. Its own module because an answer is streamed here, one sequence at a time; evaluation computes many answers at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from inspect import signature
from typing import Any

from orca_bench import prompt
from orca_bench.errors import UserError
from orca_bench.models.model_folder import ModelFolder
from orca_bench.models.model_loading import load_model
from orca_bench.serve.sampling import Sampler, Sampling
from orca_bench.serve.stop_texts import StopTexts
from orca_bench.tokenizers.streaming import TextStream


class Generator:
    """A model and its tokenizer, loaded once, that answers instructions.

    `has_run_out` says whether the last answer was cut, after `max_new_tokens` or at the end of the window.
    """

    def __init__(self, model_folder: ModelFolder):
        self.model = load_model(model_folder, dtype="auto", gpu_dtype="float16")
        self.tokenizer, self.window = model_folder.tokenizer, model_folder.window_tokens
        self.has_run_out = False

    def prompt_ids(
        self, system: str, instruction: str, input: str | None = None, earlier_turns: Sequence[prompt.Turn] = ()
    ) -> list[int]:
        """The token ids of the prompt, what the model is fed before an answer."""
        text = prompt.render(system, instruction, input, earlier_turns)
        return [*self.tokenizer.prefix, *self.tokenizer.encode(text)]

    def answer(
        self,
        system: str,
        instruction: str,
        input: str | None = None,
        sampling: Sampling = Sampling(),
        earlier_turns: Sequence[prompt.Turn] = (),
    ) -> Iterator[str]:
        """Yield the response in pieces of text. It ends at a stop token, at the header of another turn, or at `max_new_tokens`.

        Raises UserError where the prompt fills the model's context window.
        """
        prompt_ids = self.prompt_ids(system, instruction, input, earlier_turns)
        max_new_tokens = min(sampling.max_new_tokens, self.window - len(prompt_ids))
        if max_new_tokens < 1:
            raise UserError(
                f"the prompt has {len(prompt_ids)} tokens and the model's context window {self.window}",
                where="INSTRUCTION",
            )
        self.has_run_out = False
        stream, stop_texts = TextStream(self.tokenizer), StopTexts(prompt.TURN_HEADERS)
        for token_id in self._generate_token_ids(prompt_ids, max_new_tokens, sampling):
            if text := stop_texts.push(stream.push(token_id)):
                yield text
            if stop_texts.is_stopped:
                return
        if remaining_text := stop_texts.push(stream.end()) + stop_texts.end():
            yield remaining_text

    def _generate_token_ids(self, prompt_ids: list[int], max_new_tokens: int, sampling: Sampling) -> Iterator[int]:
        """Yield the ids of the response, one forward pass each, up to a stop token or `max_new_tokens`."""
        import torch

        sampler = Sampler(sampling, self.model.device)
        logits_options = {"logits_to_keep": 1} if "logits_to_keep" in signature(self.model.forward).parameters else {}
        sequence = input_ids = torch.tensor([prompt_ids], device=self.model.device)  # [1, length]
        cache_inputs: dict[str, Any] = {}
        for _ in range(max_new_tokens):
            with torch.inference_mode():
                output = self.model(input_ids=input_ids, use_cache=True, **cache_inputs, **logits_options)
                token_id = sampler(output.logits[0, -1])
            if token_id in self.tokenizer.stop_ids:
                return
            yield token_id
            next_ids = torch.tensor([[token_id]], device=self.model.device)
            sequence = torch.cat([sequence, next_ids], dim=1)
            # Recurrent models name their state otherwise: they get the whole sequence each time.
            key_values = getattr(output, "past_key_values", None)
            cache_inputs = {} if key_values is None else {"past_key_values": key_values}
            input_ids = sequence if key_values is None else next_ids
        self.has_run_out = True
