"""A data recipe's file in, one checked `DataRecipe` out, or an error that names file, line and key.

`recipe_layers` reads the file, what it extends and the overrides; here is what must hold between the values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from orca_bench.data.build.data_recipe import MOST_RESPONSE_TOKENS, TOKEN_LIMIT_KEYS, DataRecipe, Source
from orca_bench.errors import UserError, spelling_hint
from orca_bench.files import check_json_depth
from orca_bench.hub import has_id_form
from orca_bench.recipe import RUN_NAME_PATTERN
from orca_bench.recipe_layers import KeyLocations, KeyPath, RecipeKind, read_checked

_KIND = RecipeKind("data recipe", "name, sources, teacher and budget", "data")

#: Parameters of a request that are no choice of the recipe, and where each is said instead.
_RESERVED_PARAMETERS = {
    "model": "the model is teacher.model",
    "messages": "the messages are those of the sources",
    "stream": "answers are read whole",
    "stream_options": "answers are read whole",
    **dict.fromkeys(("extra_body", "timeout"), "parameters are sent as they are; the time limit is teacher.timeout"),
    **dict.fromkeys(
        ("best_of", "prediction", "service_tier", "modalities", "audio", "web_search_options"),
        "it changes what a request costs, and the budget would not hold",
    ),
    **dict.fromkeys(
        ("tools", "tool_choice", "functions", "function_call", "logprobs", "top_logprobs"),
        "answers are texts, and nothing else of them is kept",
    ),
}
#: Further ones, which may hold a secret.
_SECRET_NAME_PATTERN = re.compile(
    r"api_?key|^key$|^token$|secret|password|authorization|bearer|headers?$|^extra_query$"
)
_KEY_HINT = (
    "a key would be written into files; it comes from the environment variable that teacher.api_key_variable names"
)
#: Parameters that every endpoint has, for the hint at one that is spelled nearly so.
_COMMON_PARAMETERS = (
    *TOKEN_LIMIT_KEYS,
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "stop",
    "frequency_penalty",
    "presence_penalty",
    "reasoning_effort",
)


def read_data_recipe(file_or_name: str | Path, overrides: Sequence[str] = ()) -> DataRecipe:
    """Read and check a data recipe; `overrides` are `section.key=value` with the value in YAML.

    `file_or_name` is a file, or the name of a shipped one (`orca_mini`) where there is no such file. Raises UserError, with the
    file and line that hold the value, for what `recipe_layers.read_checked` refuses and for values that do not fit together.
    """
    recipe, key_locations = read_checked(file_or_name, overrides, DataRecipe, _KIND)
    if not recipe.sources:
        raise UserError("a source is needed", where=key_locations.describe(("sources",)))
    for name, source in recipe.sources.items():
        _check_source(name, source, key_locations)
    _check_base_url(recipe.teacher.base_url, key_locations)
    _check_key_variable(recipe.teacher.api_key_variable)
    _check_parameters(recipe.teacher.parameters, key_locations)
    return recipe


def _check_source(name: str, source: Source, key_locations: KeyLocations) -> None:
    def location(*keys: str) -> str:
        key_paths: list[KeyPath] = [("sources", name, key) for key in keys]
        return key_locations.describe(*key_paths, ("sources", name))

    if not re.search(RUN_NAME_PATTERN, name):
        raise UserError(f"{name!r} is no name of a source: use letters, digits and . _ -", where=location())
    if (source.files is None) == (source.hub is None):
        raise UserError("give either files (a path) or hub (OWNER/NAME)", where=location("files", "hub"))
    if source.hub is not None and not has_id_form(source.hub):
        raise UserError(
            f"'{source.hub}' is no id of the hub", where=location("hub"), hint="OWNER/NAME; a path belongs to `files`"
        )
    for key in ("revision", "configuration"):
        if source.hub is None and getattr(source, key) is not None:
            raise UserError(f"{key} is of a data set of the hub, and `hub` is not given", where=location(key))
    if source.system_policy is not None and source.system_ids is not None:
        raise UserError(
            "give either system_policy or system_ids", where=location("system_ids", "system_policy"), hint="not both"
        )
    if (source.most_per_task is None) != (source.task_column is None):
        raise UserError("most_per_task and task_column belong together", where=location("most_per_task", "task_column"))


def _check_base_url(base_url: str, key_locations: KeyLocations) -> None:
    """Raise UserError for an address that is none, or that holds a secret: it stands in every manifest."""
    where = key_locations.describe(("teacher", "base_url"))
    try:
        parts = urlsplit(base_url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_address = False
    if not is_address:
        raise UserError(
            "this is no http address", where=where, hint="e.g. https://api.openai.com/v1 or http://127.0.0.1:8000/v1"
        )
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise UserError(
            "an address with a login or a query could hold a secret",
            where="teacher.base_url",
            hint=_KEY_HINT,
        )


def _check_key_variable(api_key_variable: str) -> None:
    """Raise UserError for what may be the key itself, which the message must not repeat."""
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,63}", api_key_variable):
        raise UserError(
            "this is no name of an environment variable in capitals",
            where="teacher.api_key_variable",
            hint="e.g. OPENAI_API_KEY; the key itself belongs into that variable and into no file",
        )


def _check_parameters(parameters: dict[str, Any], key_locations: KeyLocations) -> None:
    for name, value in parameters.items():
        where = key_locations.describe(("teacher", "parameters", name))
        plain_name = name.lower().replace("-", "_")
        reserved_hint = _RESERVED_PARAMETERS.get(plain_name)
        if _SECRET_NAME_PATTERN.search(plain_name):
            reserved_hint = _KEY_HINT
        if reserved_hint is not None:  # the place of an override has the value, which may be a secret
            raise UserError(f"'{name}' cannot be set here", where="teacher.parameters", hint=reserved_hint)
        if name == "n" and (isinstance(value, bool) or value != 1):
            raise UserError("n: one answer to each request is kept", where=where, hint="leave n out")
        nearest_hint = spelling_hint(name, _COMMON_PARAMETERS) if name not in _COMMON_PARAMETERS else None
        if plain_name in _COMMON_PARAMETERS and nearest_hint:
            raise UserError(f"unknown parameter '{name}'", where=where, hint=nearest_hint)
        _check_json_value(value, where)
    limit_keys = [key for key in TOKEN_LIMIT_KEYS if key in parameters]
    if len(limit_keys) != 1:
        raise UserError(
            f"give one of {' and '.join(TOKEN_LIMIT_KEYS)}",
            where=key_locations.describe(("teacher", "parameters")),
            hint="it bounds what a request can cost, e.g. max_tokens: 1024",
        )
    token_limit = parameters[limit_keys[0]]
    is_number = isinstance(token_limit, int) and not isinstance(token_limit, bool)
    if not is_number or not 1 <= token_limit <= MOST_RESPONSE_TOKENS:
        raise UserError(
            f"{token_limit!r}: should be a number of tokens, from 1 to {MOST_RESPONSE_TOKENS:,}",
            where=key_locations.describe(("teacher", "parameters", limit_keys[0])),
        )


def _check_json_value(value: Any, where: str) -> None:
    """Raise UserError for what JSON cannot hold: dates, infinity."""
    try:
        check_json_depth(value)
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise UserError(
            f"{value!r} cannot be sent as JSON", where=where, hint="a date or time is sent as a text in quotes"
        ) from None
