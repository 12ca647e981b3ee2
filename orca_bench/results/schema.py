"""The models of a result in, their JSON schema out: `schema.json`, for programs that read results without this package.

`python -m orca_bench.results.schema` writes the file again after a change of models.py; a test compares them. Its own module
because nothing else needs the schema.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic.json_schema import models_json_schema

from orca_bench.files import write_text
from orca_bench.results.models import RESULT_FORMAT, HarnessQuestion, Question, Result

#: The schema's file.
SCHEMA_PATH = Path(__file__).with_name("schema.json")


def result_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a result file; `$defs/Question` is that of a line of the file of questions.

    `$defs/HarnessQuestion` is that of a line with the key `group`, of a task outside the suite.
    """
    _, models_schema = models_json_schema(
        [(Result, "validation"), (Question, "validation"), (HarnessQuestion, "validation")]
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": RESULT_FORMAT,
        "$ref": "#/$defs/Result",
        "$defs": models_schema["$defs"],
    }


def schema_text() -> str:
    """The text of the schema's file."""
    return json.dumps(result_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    write_text(SCHEMA_PATH, schema_text())
