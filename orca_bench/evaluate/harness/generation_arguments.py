"""The arguments of a request that generates, as lm-eval's tasks and `--gen_kwargs` say them, checked and made our own.

A dictionary comes in (`until`, `max_gen_toks`, `do_sample`, `temperature`, …); stop strings, a token limit and the rule of the
next token go out. They mean what they mean to lm-eval's `hf` (lm_eval 0.4.13, models/utils.py, `normalize_gen_kwargs`, and
`generate` of transformers), and what this engine does not do is refused by name: an argument that is passed over would give
another text in silence. Its own module because it knows lm-eval's words and neither models nor tasks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from orca_bench.errors import UserError, join_names
from orca_bench.evaluate.engine.token_choice import TokenChoice

#: Names of the most new tokens, the one that counts first.
_LIMIT_NAMES = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
#: Arguments that change no text where they have these values.
_IDLE_VALUES: dict[str, tuple[Any, ...]] = {
    "num_beams": (None, 1),
    "num_return_sequences": (None, 1),
    "use_cache": (None, True, False),
    "early_stopping": (None, True, False),  # of beams only, as the next
    "length_penalty": (None, 1, 1.0, 0, 0.0),
    "typical_p": (None, 1, 1.0),
    "no_repeat_ngram_size": (None, 0),
}
_SAMPLING_NAMES = ("top_k", "top_p", "min_p", "repetition_penalty")


@dataclass(frozen=True)
class GenerationArguments:
    """The strings that end a text, its most new tokens, and the rule of the next token, None where it is the likeliest."""

    stop_strings: tuple[str, ...]
    max_new_tokens: int
    token_choice: TokenChoice | None = None


def read_generation_arguments(
    arguments: Mapping[str, Any], default_max_new_tokens: int, defaults: TokenChoice = TokenChoice()
) -> GenerationArguments:
    """What a request's arguments say; `defaults` has the seed, and what counts where the arguments say nothing of sampling.

    Raises UserError for an argument that is not served, and for a value that is not one of it.
    """
    arguments = dict(arguments)
    stop_value = arguments.pop("until", None)
    stop_strings = [stop_value] if isinstance(stop_value, str) else list(stop_value or [])
    if not all(isinstance(stop_string, str) for stop_string in stop_strings):
        raise _argument_error("until", stop_value, "a text or a list of texts")
    limits = [limit for name in _LIMIT_NAMES if (limit := arguments.pop(name, None)) is not None]
    max_new_tokens = int(_number("max_gen_toks", limits[0])) if limits else default_max_new_tokens
    if max_new_tokens < 1:
        raise _argument_error("max_gen_toks", max_new_tokens, "a number of tokens, 1 or more")
    token_choice = _pop_token_choice(arguments, defaults)
    other_names = [name for name, value in arguments.items() if value not in _IDLE_VALUES.get(name, ())]
    if other_names:
        raise UserError(
            f"{join_names([f'{name}={arguments[name]!r}' for name in other_names], 4)} of a generation is not served",
            where="generation_kwargs",
            hint=f"served are until, {_LIMIT_NAMES[0]}, do_sample, temperature, {', '.join(_SAMPLING_NAMES)}",
        )
    return GenerationArguments(tuple(stop_strings), max_new_tokens, None if token_choice.is_greedy else token_choice)


def _pop_token_choice(arguments: dict[str, Any], defaults: TokenChoice) -> TokenChoice:
    """The rule of the next token; the arguments that it is made of are taken out."""
    temperature = _number("temperature", arguments.pop("temperature", None) or 0.0)
    do_sample = arguments.pop("do_sample", None)
    if do_sample not in (None, True, False):
        raise _argument_error("do_sample", do_sample, "true or false")
    if temperature < 0 or (do_sample and temperature == 0):
        raise _argument_error("temperature", temperature, "above 0 where texts are sampled (do_sample: true)")
    if do_sample is False:
        temperature = 0.0
    numbers = {
        name: getattr(defaults, name) if (value := arguments.pop(name, None)) is None else _number(name, value)
        for name in _SAMPLING_NAMES
    }
    if numbers["top_k"] != int(numbers["top_k"]) or numbers["top_k"] < 0:
        raise _argument_error("top_k", numbers["top_k"], "a number of tokens, 0 for all")
    rule = replace(
        defaults,
        temperature=temperature,
        top_k=int(numbers["top_k"]),
        top_p=numbers["top_p"],
        min_p=numbers["min_p"],
        repetition_penalty=numbers["repetition_penalty"],
    )
    if not 0 < rule.top_p <= 1:
        raise _argument_error("top_p", rule.top_p, "above 0 and at most 1")
    if not 0 <= rule.min_p <= 1:
        raise _argument_error("min_p", rule.min_p, "from 0 to 1")
    if rule.repetition_penalty <= 0:
        raise _argument_error("repetition_penalty", rule.repetition_penalty, "above 0")
    return rule


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise _argument_error(name, value, "a number")
    return number


def _argument_error(name: str, value: Any, expected: str) -> UserError:
    return UserError(f"{name} is {value!r}", where="generation_kwargs", hint=f"expected: {expected}")
