"""A result in, the hash of the whole of it out, and whether it is still as it was written.

The hash is taken over the JSON as it stands in the file, key order and white space apart, so that any digit that is changed
later is found. Its own module because writing, reading and verifying must agree on it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from orca_bench.results.models import FORMAT_PREFIX, Result


def version_of(result: Result | Mapping[str, Any]) -> int:
    """The version of a result's format."""
    return int(_content(result)["format"].removeprefix(FORMAT_PREFIX))


def seal(result: Result | Mapping[str, Any]) -> str:
    """The SHA-256 over all of a result but this hash itself (`result_sha256`), as canonical JSON."""
    others = {key: value for key, value in _content(result).items() if key != "result_sha256"}
    content = json.loads(json.dumps(others, default=str))
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def is_sealed(result: Result | Mapping[str, Any]) -> bool:
    """Whether a result is as it was written.

    Results of versions before 3 have no hash of the whole and are taken to be.
    """
    return version_of(result) < 3 or _content(result).get("result_sha256") == seal(result)


def _content(result: Result | Mapping[str, Any]) -> Mapping[str, Any]:
    return result.file_content if isinstance(result, Result) else result
