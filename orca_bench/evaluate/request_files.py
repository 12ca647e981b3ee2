"""Documents in, one line a request out: what `orca-bench requests` writes, any engine answers, and `score` reads back.

A line has `task` (for MMLU `mmlu_SUBJECT`), `index` (the document's place in the protocol's order, from 0), `request` (from
0 within the document), `context`, and `continuation` to be scored or `until`, the strings at which an answer ends, with
`max_new_tokens`, the most tokens that it may have. The same rows give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from orca_bench.errors import UserError
from orca_bench.evaluate.chat_encoding import ChatEncoding
from orca_bench.evaluate.protocols import Document, Request
from orca_bench.evaluate.request_encoding import MAX_NEW_TOKENS, Encoding
from orca_bench.results.hashing import sha256_of_json

#: Which request: task (for MMLU `mmlu_SUBJECT`), the document's place in the protocol's order, number within the document.
RequestKey = tuple[str, int, int]


def keyed_requests(documents: Iterable[Document]) -> Iterator[tuple[RequestKey, Request]]:
    """(key, request) of all requests, in order."""
    for document in documents:
        for request_index, request in enumerate(document.requests):
            yield (document.part_name, document.document_index, request_index), request


def request_key_text(request_key: RequestKey) -> str:
    """A request's key as messages name it."""
    return f"{request_key[0]} document {request_key[1]} request {request_key[2]}"


def request_lines(documents: Iterable[Document], encoding: Encoding | None = None) -> Iterator[dict[str, Any]]:
    """One line a request. With an encoding, also the ids that a model would be fed and, of them, those that are scored."""
    for request_key, request in keyed_requests(documents):
        part_name, document_index, request_index = request_key
        request_fields: dict[str, Any] = {
            "task": part_name,
            "index": document_index,
            "request": request_index,
            "context": request.context,
        }
        if request.continuation is None:
            request_fields |= {"until": list(request.stop_strings), "max_new_tokens": request.max_new_tokens}
        else:
            request_fields["continuation"] = request.continuation
        if encoding is not None:
            try:
                request_fields |= _token_ids(request, encoding)
            except UserError as error:
                raise UserError(error.problem, where=request_key_text(request_key), hint=error.hint) from None
        yield request_fields


def _token_ids(request: Request, encoding: Encoding) -> dict[str, Any]:
    fields = {"prompt": encoding.rendered_prompt(request.context)} if isinstance(encoding, ChatEncoding) else {}
    if request.continuation is not None:
        pair = encoding.encode_pair(request.context, request.continuation, request.fixed_prefix_characters)
        return fields | {
            "context_ids": pair.token_ids[: pair.scored_start],
            "continuation_ids": pair.token_ids[pair.scored_start :],
        }
    prompt = encoding.encode_prompt(request.context, request.fixed_prefix_characters, request.max_new_tokens)
    return fields | {"context_ids": prompt.token_ids, "discard": prompt.discarded_token_count}


def requests_sha256(documents: Iterable[Document]) -> str:
    """A SHA-256 over every string that is sent, and over token limits other than the leaderboard's 256, in order."""
    return sha256_of_json(
        [request.context, request.continuation, list(request.stop_strings)]
        + [request.max_new_tokens] * (request.max_new_tokens not in (None, MAX_NEW_TOKENS))
        for _, request in keyed_requests(documents)
    )
