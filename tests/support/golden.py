"""Hashes of everything that the protocols send, feed and score on the real rows, so that no change goes unseen.

    python tests/support/golden.py BENCHMARKS TOKENIZER [--write leaderboard,orca]

For each protocol and task: the number of requests and a SHA-256 over their strings; a SHA-256 over the token ids that a LLaMA
with a window of 2,048 tokens is fed; and the score of fixed answers, with a SHA-256 over the scores of all questions. Without
--write the figures are compared with golden.json, with it those of the named protocols are replaced. The entries of
`leaderboard` were written when against_b281b092.py had found all 124,408 requests equal to those that b281b092's own
evaluator sends, and all its scores of the same fixed answers equal; they never change. Those of `orca` and `chat` change with
the version of that protocol only. The ids of `chat` are those of 50 documents of each task in LLaMA 2's template.
tests/evaluate/test_golden.py recomputes them wherever the rows are at hand.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import struct
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "benchmarks"), str(ROOT / "tests" / "support")]

import chat_templates
from against_b281b092 import answer_of

from orca_bench import tokenizers
from orca_bench.evaluate import benchmark_rows, protocols, request_encoding, request_files
from orca_bench.evaluate.chat_encoding import ChatEncoding
from orca_bench.evaluate.protocols import Answer, Document, Protocol
from orca_bench.evaluate.tasks import SUITE, Task
from orca_bench.models.model_folder import ModelFolder
from orca_bench.system_messages import system_message

FILE = Path(__file__).with_name("golden.json")
WINDOW = 2048
#: The documents of a task whose ids are hashed under `chat`, where each takes longer.
CHAT_DOCUMENTS = 50


def figures(protocol: Protocol, task: Task, benchmarks: Path, tokenizer) -> dict:
    """The hashes and the score of one task under one protocol."""
    documents = protocol.documents(task, benchmark_rows.load_task_rows(task, benchmarks), None)
    scores = [_score(protocol, task, document) for document in documents]
    return {
        "requests": sum(len(document.requests) for document in documents),
        "requests_sha256": request_files.requests_sha256(documents),
        "tokens_sha256": (
            tokens_digest(documents[:CHAT_DOCUMENTS], chat_encoding(tokenizer))
            if protocol.name == "chat"
            else tokens_digest(documents, request_encoding.encoding_of_protocol(protocol.name, tokenizer, WINDOW))
        ),
        "score": sum(scores) / len(scores),
        "scores_sha256": hashlib.sha256(struct.pack(f"<{len(scores)}d", *scores)).hexdigest(),
    }


def chat_encoding(tokenizer) -> request_encoding.Encoding:
    """The encoding of protocol `chat` by LLaMA 2's template, for a tokenizer of LLaMA's."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizers.export_tokenizer(tokenizer, Path(folder))
        Path(folder, "chat_template.jinja").write_text(chat_templates.LLAMA2, encoding="utf-8")
        template = ModelFolder(folder).chat_template
    return ChatEncoding(template, tokenizer, WINDOW)


def tokens_digest(documents: Sequence[Document], rule: request_encoding.Encoding) -> str:
    """A SHA-256 over the ids of all requests, each after its length and where its scored part (or its token limit) begins."""
    digest = hashlib.sha256()
    for _, request in request_files.keyed_requests(documents):
        if request.continuation is None:
            start = rule.encode_prompt(request.context, request.fixed_prefix_characters, request.max_new_tokens)
            ids, place = start.token_ids, start.max_new_tokens
        else:
            pair = rule.encode_pair(request.context, request.continuation, request.fixed_prefix_characters)
            ids, place = pair.token_ids, pair.scored_start
        digest.update(struct.pack(f"<{len(ids) + 2}i", len(ids), place, *ids))
    return digest.hexdigest()


def _score(protocol: Protocol, task: Task, document: Document) -> float:
    """The score of fixed answers to a question; every third text is the reference answer, so that texts score above 0."""
    if task.generates_text and document.document_index % 3 == 0:
        answers = [Answer(task.few_shot_answer(document.row))]
    else:
        answers = [Answer(answer_of(request.context, request.continuation)) for request in document.requests]
    return protocol.score(task, document, answers).metric_value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmarks", type=Path)
    parser.add_argument("tokenizer", type=Path, help="LLaMA's tokenizer.model")
    parser.add_argument("--write", default="", help="replace the entries of these protocols")
    options = parser.parse_args()
    golden = json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}
    tokenizer = tokenizers.load_tokenizer(options.tokenizer)
    differing = []
    for name in options.write.split(",") if options.write else protocols.REQUEST_PROTOCOLS:
        protocol = protocols.protocol_by_name(name, system_message(5))
        for task in SUITE:
            current = figures(protocol, task, options.benchmarks, tokenizer)
            print(name, task.name, json.dumps(current), flush=True)
            if options.write:
                golden.setdefault(name, {})[task.name] = current
            elif golden[name][task.name] != current:
                differing.append(f"{name} {task.name}")
    if options.write:
        FILE.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")
    elif differing:
        sys.exit(f"other than tests/support/golden.json: {', '.join(differing)}")


if __name__ == "__main__":
    main()
