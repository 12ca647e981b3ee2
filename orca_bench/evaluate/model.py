"""A model folder in, a language model that lm-evaluation-harness can ask out.

`OrcaLM` turns the harness's strings into token ids by the rule of the protocol and hands them to the engine:

- `separate` (Orca): BOS + ids of the context + ids of the continuation, each encoded alone, as in training. A context that
  is too long keeps its head (the system message) and loses tokens behind it.
- `whole` (lm-eval's own prompts): context and continuation encoded together and cut where the context's own ids end, the
  context's trailing spaces moved over; too long, it is cut from the left. As lm_eval 0.4.13, models/huggingface.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from lm_eval.api.model import LM

from orca_bench import model_folder
from orca_bench.errors import UserError
from orca_bench.evaluate.engine import Engine, Ids
from orca_bench.evaluate.protocols import Request

DTYPES = ("auto", "float32", "bfloat16", "float16")
Advance = Callable[[str, int], None]


class OrcaLM(LM):
    """lm-eval's model interface over an `Engine`."""

    def __init__(self, engine: Engine, tokenizer, join: str, max_new_tokens: int = 256):
        super().__init__()
        self.engine, self.tokenizer, self.join = engine, tokenizer, join
        self.max_new_tokens = max_new_tokens
        #: Called as `advance(kind, requests)` while answers come in.
        self.advance: Advance = lambda kind, count: None
        #: How many contexts had to be shortened since the last `take_shortened`.
        self._shortened = 0
        self._heads: dict[str, int] = {}
        # The bytes that a request may keep at its head are known to the protocol; the harness passes strings only.
        self.head_of: dict[str, int] = {}

    def take_shortened(self) -> int:
        """How many contexts were too long for the model and lost tokens, since this was last asked."""
        count, self._shortened = self._shortened, 0
        return count

    # --- lm-eval's interface --------------------------------------------------------------------------------------

    def loglikelihood(self, requests, disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        sequences = [self.sequence(*request.args) for request in requests]
        return self.engine.log_likelihoods(sequences, lambda n: self.advance("loglikelihood", n))

    def generate_until(self, requests, disable_tqdm: bool = True) -> list[str]:
        prompts, stops, limits = [], [], []
        for request in requests:
            context, options = request.args
            stops.append(_stop_list(options))
            limits.append(options.get("max_gen_toks", self.max_new_tokens))
            prompts.append(self.prompt_ids(context, limits[-1]))

        def finished(number: int, ids: list[int]) -> bool:
            if ids[-1] == self.tokenizer.eos_id or len(ids) >= limits[number]:
                return True
            text = self.tokenizer.decode(ids)
            return any(stop in text for stop in stops[number])

        said = self.engine.generate(
            prompts, finished, max(limits, default=0), lambda n: self.advance("generate_until", n)
        )
        return [cut(self.tokenizer.decode(ids), stop) for ids, stop in zip(said, stops, strict=True)]

    def loglikelihood_rolling(self, requests, disable_tqdm: bool = True):
        raise NotImplementedError("no task of the suite asks for a rolling log-likelihood")

    # --- strings to ids -------------------------------------------------------------------------------------------

    def sequence(self, context: str, continuation: str) -> Ids:
        """The ids that are fed and scored for one pair, at most `max_length` of them fed."""
        tokenizer = self.tokenizer
        if self.join == "separate":
            asked, answered = [tokenizer.bos_id, *tokenizer.encode(context)], tokenizer.encode(continuation)
        else:
            spaces = len(context) - len(context.rstrip())
            if spaces:
                context, continuation = context[:-spaces], context[-spaces:] + continuation
            whole = [tokenizer.bos_id, *tokenizer.encode(context + continuation)]
            asked = [tokenizer.bos_id, *tokenizer.encode(context)]
            asked, answered = whole[: len(asked)], whole[len(asked) :]
        room = self.engine.max_length + 1  # the last token is scored, never fed
        if len(answered) >= room:
            raise UserError(
                f"a continuation of {len(answered)} tokens does not fit the context window: {continuation[:60]!r}…"
            )
        asked = self._fit(context, asked, room - len(answered))
        return Ids(asked + answered, len(asked))

    def prompt_ids(self, context: str, new_tokens: int) -> list[int]:
        """The ids that a generation starts from, short enough to leave `new_tokens` of the context window."""
        room = self.engine.max_length - new_tokens
        if room < 1:
            raise UserError(f"{new_tokens} new tokens do not fit a context window of {self.engine.max_length}")
        return self._fit(context, [self.tokenizer.bos_id, *self.tokenizer.encode(context)], room)

    def _fit(self, context: str, ids: list[int], room: int) -> list[int]:
        if len(ids) <= room:
            return ids
        self._shortened += 1
        head = context[: self.head_of.get(context, 0)]
        if not head or self.join != "separate":
            return ids[-room:]
        if head not in self._heads:
            self._heads[head] = 1 + len(self.tokenizer.encode(head))
        kept = min(self._heads[head], room)
        return ids[:kept] + (ids[-(room - kept) :] if room > kept else [])

    def remember_heads(self, requests: list[Request]) -> None:
        """Note how much of each context must stay when it is too long."""
        self.head_of.update((request.context, request.head) for request in requests if request.head)


def _stop_list(options: dict) -> list[str]:
    until = options.get("until") or []
    return [until] if isinstance(until, str) else list(until)


def cut(text: str, stops: list[str]) -> str:
    """A generated text up to the first occurrence of each stop string in turn."""
    for stop in stops:
        if stop:
            text = text.split(stop)[0]
    return text


def load_engine(folder: str, dtype: str = "auto", max_length: int | None = None) -> tuple[Engine, object]:
    """The engine and tokenizer of a model folder or hub id; dtype `auto` is float32 on a CPU, the checkpoint's on a GPU."""
    model, tokenizer = model_folder.load(folder, dtype, gpu_dtype="auto")
    window = getattr(model.config, "max_position_embeddings", 2048)
    return Engine(model, min(window, max_length or window)), tokenizer


def fingerprint(model) -> str:
    """A SHA-256 over the weights' names, shapes and bytes, and the architecture: the same for the same model, anywhere."""
    import torch

    digest = hashlib.sha256(repr(sorted(_architecture(model.config).items())).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def _architecture(config) -> dict:
    keys = (
        "model_type",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "rms_norm_eps",
    )
    return {key: getattr(config, key, None) for key in keys}
