"""What a model passes to an attention function of ours beside queries, keys and values: what changes no number, what is refused.

Its own module because the evaluation engine and training each register an attention with transformers, and an option that one of
them does not know would change numbers without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Options that change no number here: dropout is 0 outside training, and the mask or `sliding_window` itself has the window.
_IGNORED_OPTION_NAMES = {
    "dropout",
    "sliding_window",
    "position_ids",
    "cache_position",
    "use_cache",
    "position_embeddings",
}


def unknown_option(options: Mapping[str, Any], further_known_names: frozenset[str] = frozenset()) -> str | None:
    """The first option that is switched on and not known to change nothing; None where there is none."""
    for option_name, option_value in options.items():
        is_off = option_value is None or (isinstance(option_value, (bool, int, float)) and not option_value)
        if not is_off and option_name not in _IGNORED_OPTION_NAMES and option_name not in further_known_names:
            return option_name
    return None
