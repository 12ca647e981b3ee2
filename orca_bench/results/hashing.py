"""A result in, its hashes out: of the whole of it, and of all requests; and whether it is still as it was written.

The hash of the whole is taken over the JSON of the file, without regard to key order and white space, so that any digit that
is changed later is found. Its own module because writing, reading and verifying must agree on these hashes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from orca_bench.results.models import Result


def compute_result_sha256(result: Result) -> str:
    """The SHA-256 over all of a result but this hash itself (`result_sha256`), as canonical JSON."""
    return compute_content_sha256(result.file_content)


def compute_content_sha256(result_json: Mapping[str, Any]) -> str:
    """The same of the JSON of a result file."""
    hashed_fields = {key: field_value for key, field_value in result_json.items() if key != "result_sha256"}
    canonical_json = json.dumps(
        json.loads(json.dumps(hashed_fields, default=str)), sort_keys=True, ensure_ascii=False, separators=(",", ":")
    )
    return hashlib.sha256(canonical_json.encode("utf-8", "surrogatepass")).hexdigest()


def is_unchanged_since_writing(result: Result) -> bool:
    """Whether a result is as it was written.

    Results of versions before 3 have no hash of the whole and are taken to be.
    """
    return result.format_version < 3 or result.file_content.get("result_sha256") == compute_result_sha256(result)


def sha256_of_json(json_values: Iterable[Any]) -> str:
    """A SHA-256 over JSON values, in order."""
    running_digest = hashlib.sha256()
    for json_value in json_values:
        running_digest.update(json.dumps(json_value, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    return running_digest.hexdigest()


def sha256_of_all_requests(result: Result) -> str:
    """The hash of all requests of a result, which is one over those of its tasks."""
    return sha256_of_json([task_name, entry.requests_sha256] for task_name, entry in result.tasks.items())
