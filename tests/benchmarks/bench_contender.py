"""One contender of bench_evaluation.py: an engine, in a process of its own, answers requests when it is its turn.

Its own module because each contender runs in its own process, so that its peak memory is its own, and waits between its turns.
"""

import dataclasses
import resource
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from orca_bench.recipe import CONTEXT_WINDOW

#: Requests of one document: pairs of context and continuation, or one request that generates.
Documents = list[list[Any]]

TASKS = "arc_challenge,hellaswag,mmlu,truthful_qa,winogrande"
#: Documents of each task that generates.
GENERATED = {"gsm8k": 48, "drop": 48}
_RATE_TOKENS = 1024


def documents_of(benchmarks: Path, fraction: float) -> dict[str, Documents]:
    """The (context, continuation) of a share of the documents of each task, of MMLU of each subject; at least 1 of each."""
    from orca_bench.evaluate import benchmark_rows, protocols
    from orca_bench.evaluate.tasks import select

    protocol, documents_by_task = protocols.Leaderboard(), {}
    for task in select(TASKS):
        documents = list(protocol.documents(task, benchmark_rows.load_task_rows(task, benchmarks), None))
        by_part: dict[str, Documents] = {}
        for document in documents:
            by_part.setdefault(document.part_name, []).append([(r.context, r.continuation) for r in document.requests])
        documents_by_task[task.name] = [
            requests for part in by_part.values() for requests in part[: max(1, round(len(part) * fraction))]
        ]
    return documents_by_task


def prompts_of(benchmarks: Path, fraction: float, protocol: str) -> dict[str, Documents]:
    """The request of each document of the tasks that generate; `fraction` is of `GENERATED`."""
    from orca_bench.evaluate import benchmark_rows, protocols
    from orca_bench.evaluate.tasks import select
    from orca_bench.system_messages import system_message

    named = protocols.protocol_by_name(protocol, system_message("5"))
    return {
        task.name: [
            [dataclasses.replace(document.requests[0], max_new_tokens=256)]
            for document in named.documents(
                task, benchmark_rows.load_task_rows(task, benchmarks), max(2, round(GENERATED[task.name] * fraction))
            )
        ]
        for task in select(",".join(GENERATED))
    }


def load(contender: str, model: Path, protocol: str, dtype: str) -> tuple[Any, Any, Any]:
    """(lm-eval's interface over a contender, its transformers model, its encoding where it is ours, else None)."""
    if contender == "ours":
        from orca_bench.evaluate import request_encoding
        from orca_bench.evaluate.engine import tree_engine
        from orca_bench.evaluate.harness.language_model import HarnessModel
        from orca_bench.models.model_folder import ModelFolder

        folder = ModelFolder(str(model))
        engine, tokenizer = tree_engine.load_engine(folder, dtype), folder.tokenizer
        encoding = request_encoding.encoding_of_protocol(protocol, tokenizer, CONTEXT_WINDOW)
        return HarnessModel(engine, encoding), engine.model, encoding
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(
        pretrained=str(model),
        device="cpu",
        dtype=dtype,
        batch_size=int(contender.removeprefix("hf") or 1),
        add_bos_token=protocol == "orca",
        max_length=CONTEXT_WINDOW,  # else a model with a larger window computes longer contexts
    )
    return lm, lm.model, None


def serve(connection: Connection, contender: str, model: Path, protocol: str, dtype: str) -> None:
    """Answer what comes through a connection, (task, batch size, documents), until it is None; a record goes back for each."""
    lm, body, encoding = load(contender, model, protocol, dtype)
    work = _Work(body, None if encoding is None else lm.engine.tree_forward)
    connection.send("ready")
    while (turn := connection.recv()) is not None:
        task, batch_size, documents = turn
        if encoding is None:
            lm.batch_size_per_gpu = batch_size
        requests = [request for document in documents for request in document]
        rates = [_matrix_rate(body)]
        work.clear()
        record = (_score if isinstance(requests[0], tuple) else _generate)(lm, encoding, task, requests)
        rates.append(_matrix_rate(body))
        record |= dataclasses.asdict(work.counts) | {"rate": sum(rates) / 2}
        record["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        connection.send(record)


@dataclasses.dataclass
class _Counts:
    """What was computed: tokens, and FLOP (2 a multiply-add) in the layers' matrices, in attention and in the output head."""

    computed: int = 0
    layer_flop: float = 0.0
    attention_flop: float = 0.0
    head_flop: float = 0.0


class _Work:
    """Counts what a model computes; attention over real context lengths, without what a mask hides."""

    def __init__(self, body: Any, tree_forward: Any):
        import torch

        config, self.counts = body.config, _Counts()
        matrices = [module for module in body.model.layers.modules() if isinstance(module, torch.nn.Linear)]
        self._layer_flop = 2 * sum(module.weight.numel() for module in matrices)
        head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._attention_flop = 4 * config.num_hidden_layers * config.num_attention_heads * head_size
        self._head_flop = 2 * body.lm_head.weight.numel()
        if tree_forward is None:
            body.model.register_forward_pre_hook(self._note_plain, with_kwargs=True)
            return
        last_hidden, logits = tree_forward.last_hidden, tree_forward.logits

        def noted_last_hidden(token_ids: Any, positions: Any, pattern: Any) -> Any:
            self._note(token_ids.numel(), float((positions + 1).sum()))
            return last_hidden(token_ids, positions, pattern)

        def noted_logits(hidden_states: Any) -> Any:
            self.counts.head_flop += self._head_flop * len(hidden_states)
            return logits(hidden_states)

        tree_forward.last_hidden, tree_forward.logits = noted_last_hidden, noted_logits

    def clear(self) -> None:
        self.counts = _Counts()

    def _note(self, token_count: int, pair_count: float) -> None:
        self.counts.computed += token_count
        self.counts.layer_flop += self._layer_flop * token_count
        self.counts.attention_flop += self._attention_flop * pair_count

    def _note_plain(self, _: Any, arguments: Any, options: Any) -> None:
        """The tokens of a pass of `hf`, whose FLOP are not counted."""
        ids = options.get("input_ids", arguments[0] if arguments else None)
        self.counts.computed += 0 if ids is None else ids.numel()


def _matrix_rate(body: Any) -> float:
    """FLOP a second of the largest matrix of a layer times 1,024 tokens, the best of a few, by the faster of two libraries."""
    import torch

    from orca_bench.evaluate.engine import matrix_products

    weight = body.model.layers[0].mlp.up_proj.weight
    inputs = torch.randn(_RATE_TOKENS, weight.shape[1]).to(weight.dtype)
    fastest = float("inf")
    with torch.inference_mode():
        for products in (matrix_products.TorchProducts(), matrix_products.products_of_this_cpu()):
            for _ in range(6):
                start = time.perf_counter()
                products.linear(inputs, weight, None)
                fastest = min(fastest, time.perf_counter() - start)
    return 2 * _RATE_TOKENS * weight.numel() / fastest


def _score(lm: Any, encoding: Any, task: str, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    from lm_eval.api.instance import Instance

    from orca_bench.evaluate.engine import prefix_tree

    instances = [Instance("loglikelihood", {}, pair, 0, metadata=(task, i, 1)) for i, pair in enumerate(pairs)]
    start = time.perf_counter()
    answers = lm.loglikelihood(instances, disable_tqdm=True)
    record = {
        "seconds": time.perf_counter() - start,
        "answers": [[float(lp), bool(greedy)] for lp, greedy in answers],
    }
    if encoding is not None:
        sequences = [encoding.encode_pair(*pair) for pair in pairs]
        record |= {
            "distinct": prefix_tree.count_distinct_tokens(sequences),
            "sent": sum(len(s.token_ids) - 1 for s in sequences),
        }
    return record


def _generate(lm: Any, encoding: Any, task: str, requests: list) -> dict[str, Any]:
    from orca_bench.evaluate.harness.lm_eval_instances import RequestInstance, generation_options

    instances = [
        RequestInstance(
            "generate_until", {}, (r.context, generation_options(r)), 0, metadata=(task, number, 1), request=r
        )
        for number, r in enumerate(requests)
    ]
    start = time.perf_counter()
    answers = lm.generate_until(instances, disable_tqdm=True)
    record = {"seconds": time.perf_counter() - start, "answers": answers}
    if encoding is not None:
        # `hf` discards no tokens of a cut context's answer, so the full text of ours is compared with it.
        full_texts = [response.answer.full_text or response for response in answers]
        record["answers"] = full_texts
        record["lengths"] = [len(encoding.tokenizer.encode(text)) for text in full_texts]
    return record
