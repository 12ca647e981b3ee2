"""One contender of bench_evaluation.py: an engine, in a process of its own, answers requests; answers and times come out as JSON.

Its own module because each contender runs in its own process, so that its peak memory is its own.
"""

import dataclasses
import resource
import time
from pathlib import Path
from typing import Any

#: Documents of each task (MMLU: of each of the first `SUBJECTS`), for the 15M model; the 110M gets a quarter.
DOCUMENTS = {"arc_challenge": 30, "hellaswag": 30, "mmlu": 24, "truthful_qa": 30, "winogrande": 100}
SUBJECTS = 4
#: Documents of each task that generates.
GENERATED = {"gsm8k": 32, "drop": 32}


def requests_of(benchmarks: Path, scale: float) -> dict[str, list[tuple[str, str, int]]]:
    """(context, continuation, number of its document) of each request, by task."""
    from orca_bench.evaluate import benchmark_rows, protocols
    from orca_bench.evaluate.tasks import select

    requests = {}
    for task in select(",".join(DOCUMENTS)):
        limit = max(2, round(DOCUMENTS[task.name] * scale))
        documents = protocols.Leaderboard().documents(task, benchmark_rows.load_task_rows(task, benchmarks), limit)
        if task.name == "mmlu":
            subjects = sorted({document.part_name for document in documents})[:SUBJECTS]
            documents = [document for document in documents if document.part_name in subjects]
        requests[task.name] = [(r.context, r.continuation, n) for n, d in enumerate(documents) for r in d.requests]
    return requests


def prompts_of(benchmarks: Path, scale: float, protocol: str) -> dict[str, list]:
    """The requests of the tasks that generate, one a document, by task."""
    from orca_bench.evaluate import benchmark_rows, protocols
    from orca_bench.evaluate.tasks import select
    from orca_bench.system_messages import system_message

    named = protocols.protocol_by_name(protocol, system_message("5"))
    return {
        task.name: [
            document.requests[0]
            for document in named.documents(
                task, benchmark_rows.load_task_rows(task, benchmarks), max(2, round(GENERATED[task.name] * scale))
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
        encoding = request_encoding.encoding_of_protocol(protocol, tokenizer, 2048)
        return HarnessModel(engine, encoding), engine.model, encoding
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(
        pretrained=str(model),
        device="cpu",
        dtype=dtype,
        batch_size=int(contender.removeprefix("hf")),
        add_bos_token=protocol == "orca",
    )
    return lm, lm.model, None


def answer_all(
    contender: str, model: Path, benchmarks: Path, scale: float, texts: str | None, dtype: str
) -> dict[str, Any]:
    """Seconds, tokens fed and answers of one contender by task, and its peak memory in GiB.

    `texts` is the protocol whose texts are generated, None for the leaderboard protocol's log-likelihoods.
    """
    lm, body, encoding = load(contender, model, texts or "leaderboard", dtype)
    fed = [0]
    if encoding is None:
        body.model.register_forward_pre_hook(
            lambda _, args, kw: fed.__setitem__(0, fed[0] + _tokens(args, kw)), with_kwargs=True
        )
    else:
        _count_fed(lm.engine.tree_forward, fed)
    record: dict[str, Any] = {"tasks": {}}
    requests_by_task = prompts_of(benchmarks, scale, texts) if texts else requests_of(benchmarks, scale)
    for task, requests in requests_by_task.items():
        fed[0] = 0
        record["tasks"][task] = (_generate if texts else _score)(lm, encoding, task, requests)
        record["tasks"][task]["fed"] = fed[0]
    record["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return record


def _count_fed(tree_forward: Any, fed: list[int]) -> None:
    last_hidden = tree_forward.last_hidden

    def counted(token_ids: Any, *arguments: Any) -> Any:
        fed[0] += token_ids.numel()
        return last_hidden(token_ids, *arguments)

    tree_forward.last_hidden = counted


def _score(lm: Any, encoding: Any, task: str, pairs: list) -> dict[str, Any]:
    from lm_eval.api.instance import Instance

    from orca_bench.evaluate.engine import prefix_tree

    instances = [Instance("loglikelihood", {}, pair[:2], 0, metadata=(task, i, 1)) for i, pair in enumerate(pairs)]
    began = time.perf_counter()
    answers = lm.loglikelihood(instances, disable_tqdm=True)
    record = {
        "seconds": time.perf_counter() - began,
        "answers": [[float(lp), bool(greedy)] for lp, greedy in answers],
        "documents": [document for *_, document in pairs],
    }
    if encoding is not None:
        sequences = [encoding.encode_pair(*pair[:2]) for pair in pairs]
        record |= {
            "distinct": prefix_tree.count_distinct_tokens(sequences),
            "sent": sum(len(s.token_ids) - 1 for s in sequences),
        }
    return record


def _generate(lm: Any, encoding: Any, task: str, requests: list) -> dict[str, Any]:
    from orca_bench.evaluate.harness.lm_eval_instances import RequestInstance, generation_options

    limited = [dataclasses.replace(request, max_new_tokens=256) for request in requests]
    instances = [
        RequestInstance(
            "generate_until", {}, (r.context, generation_options(r)), 0, metadata=(task, number, 1), request=r
        )
        for number, r in enumerate(limited)
    ]
    began = time.perf_counter()
    answers = lm.generate_until(instances, disable_tqdm=True)
    record = {"seconds": time.perf_counter() - began, "answers": answers}
    if encoding is not None:
        # `hf` discards no tokens of a cut context's answer, so the full text of ours is compared with it.
        full_texts = [response.answer.full_text or response for response in answers]
        record["answers"] = full_texts
        record["lengths"] = [len(encoding.tokenizer.encode(text)) for text in full_texts]
    return record


def _tokens(args: Any, kwargs: Any) -> int:
    ids = kwargs.get("input_ids", args[0] if args else None)
    return 0 if ids is None else ids.numel()
