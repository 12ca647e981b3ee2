"""A model folder in, a language model that lm-evaluation-harness can ask out.

`OrcaLM` hands the harness's strings to an encoding, the ids to the engine, and the engine's ids back through the encoding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

from lm_eval.api.model import LM

from orca_bench import model_folder
from orca_bench.evaluate.encoding import MAX_NEW_TOKENS, Encoding
from orca_bench.evaluate.engine import Engine
from orca_bench.evaluate.protocols import Request

DTYPES = ("auto", "float32", "bfloat16", "float16")
Advance = Callable[[str, int], None]


class OrcaLM(LM):
    """lm-eval's model interface over an `Engine` and an `Encoding`."""

    def __init__(self, engine: Engine, encoding: Encoding):
        super().__init__()
        self.engine, self.encoding = engine, encoding
        #: Called as `advance(kind, requests)` while answers come in.
        self.advance: Advance = lambda kind, count: None
        #: The whole text generated after a context, where the encoding threw the first tokens of it away.
        self.whole: dict[str, str] = {}
        # How much of a context must stay is known to the protocol; the harness passes strings only.
        self._heads: dict[str, int] = {}

    def expect(self, requests: Iterable[Request]) -> None:
        """Be told which requests are coming: forget those before, and note how much of each context must stay."""
        self.whole.clear()
        self._heads = {request.context: request.head for request in requests if request.head}

    # --- lm-eval's interface --------------------------------------------------------------------------------------

    def loglikelihood(self, requests, disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        sequences = [self.encoding.pair(*r.args, head=self._heads.get(r.args[0], 0)) for r in requests]
        return self.engine.log_likelihoods(sequences, lambda n: self.advance("loglikelihood", n))

    def generate_until(self, requests, disable_tqdm: bool = True) -> list[str]:
        encoding = self.encoding
        contexts = [request.args[0] for request in requests]
        stops = [_stop_list(request.args[1]) for request in requests]
        rooms = [request.args[1].get("max_gen_toks", MAX_NEW_TOKENS) for request in requests]
        starts = [
            encoding.start(context, self._heads.get(context, 0), room)
            for context, room in zip(contexts, rooms, strict=True)
        ]

        def finished(number: int, ids: list[int]) -> bool:
            return len(ids) >= starts[number].room or encoding.finished(ids, stops[number])

        said = self.engine.generate(
            [start.ids for start in starts],
            finished,
            max(rooms, default=0),
            lambda n: self.advance("generate_until", n),
        )
        for context, start, ids, stop in zip(contexts, starts, said, stops, strict=True):
            if start.discard:
                self.whole[context] = encoding.text(ids, stop)
        return [encoding.text(ids[s.discard :], stop) for s, ids, stop in zip(starts, said, stops, strict=True)]

    def loglikelihood_rolling(self, requests, disable_tqdm: bool = True):
        raise NotImplementedError("no task of the suite asks for a rolling log-likelihood")


def _stop_list(options: dict) -> list[str]:
    until = options.get("until") or []
    return [until] if isinstance(until, str) else list(until)


def load_engine(folder: str, dtype: str = "auto") -> tuple[Engine, object]:
    """The engine and tokenizer of a model folder or hub id; dtype `auto` is float32 on a CPU, the checkpoint's on a GPU."""
    model, tokenizer = model_folder.load(folder, dtype, gpu_dtype="auto")
    return Engine(model), tokenizer


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
