"""JSON in, elements of the page that hold it out: plain where the page needs it at once, compressed where it is read on demand.

Nothing of what a model or a data set wrote can begin a tag, because `<`, `>` and `&` are escaped or compressed. Its own module
because every part of the page that carries data uses it. Price: gzip in base64 is a third larger than gzip, and opens without
a decoder of the page's own in every browser.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator, Sequence
from typing import Any

from orca_bench.errors import UserError

_COMPRESSION_LEVEL = 6


def to_json(value: Any) -> str:
    """JSON in which no tag, comment or line separator can begin; raises UserError for a number that is not finite."""
    text = _dump(value)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def json_element(element_id: str, value: Any) -> str:
    """A script element that holds JSON as it is."""
    return f'<script type="application/json" id="{element_id}">{to_json(value)}</script>\n'


def packed_element(element_id: str, value: Any) -> str:
    """A script element that holds JSON compressed: gzip in base64."""
    compressed = gzip.compress(_dump(value).encode(), _COMPRESSION_LEVEL, mtime=0)
    return f'<script type="text/plain" id="{element_id}">{base64.b64encode(compressed).decode()}</script>\n'


def packed_elements(kind: str, values: Sequence[Any], chunk_size: int) -> Iterator[str]:
    """Elements `KIND-0`, `KIND-1`, … with `chunk_size` values each."""
    for chunk_index, start in enumerate(range(0, len(values), chunk_size)):
        yield packed_element(f"{kind}-{chunk_index}", values[start : start + chunk_size])


def _dump(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False, default=str)
    except ValueError:
        raise UserError("a number in the questions is not finite", hint="evaluate again") from None
