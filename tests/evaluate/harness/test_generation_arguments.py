"""Arguments of a generation mean what they mean to lm-eval's `hf`; what is not served is refused by name."""

import pytest
from lm_eval.models.utils import normalize_gen_kwargs

from orca_bench.errors import UserError
from orca_bench.evaluate.engine.token_choice import TokenChoice
from orca_bench.evaluate.harness.generation_arguments import read_generation_arguments


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"until": "\n"},
        {"until": ["\n", "Q:"], "do_sample": False, "temperature": 0.0},
        {"until": [], "max_new_tokens": 8, "max_tokens": 9},
        {"max_gen_toks": "7", "max_completion_tokens": 3},
        {"do_sample": False, "temperature": 0.7},
        {"temperature": 0.7},
        {"do_sample": True, "temperature": 0.2, "top_p": 0.9, "top_k": 5},
        {"num_beams": 1, "until": None, "do_sample": False},
    ],
)
def test_the_arguments_are_read_as_lm_eval_reads_them(arguments):
    expected = normalize_gen_kwargs({key: value for key, value in arguments.items() if value is not None}, 256)
    result = read_generation_arguments(arguments, 256)
    assert list(result.stop_strings) == expected["until"] and result.max_new_tokens == expected["max_gen_toks"]
    rule = result.token_choice or TokenChoice()
    assert rule.temperature == expected.get("temperature", 0.0)
    assert (rule.temperature > 0) == bool(expected["do_sample"])
    assert rule.top_p == arguments.get("top_p", 1.0) and rule.top_k == arguments.get("top_k", 50)


def test_defaults_stand_for_what_the_arguments_do_not_say():
    defaults = TokenChoice(top_k=20, top_p=0.8, seed=5)
    rule = read_generation_arguments({"temperature": 1.0, "top_p": 0.5}, 256, defaults).token_choice
    assert rule == TokenChoice(temperature=1.0, top_k=20, top_p=0.5, seed=5)
    assert read_generation_arguments({}, 256, defaults).token_choice is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_beams": 4}, "num_beams=4 of a generation is not served; served are until"),
        ({"guidance_scale": 2, "num_beams": 1}, "guidance_scale=2 of"),
        ({"max_length": 30}, "max_length=30"),
        ({"do_sample": True}, "temperature is 0.0.*above 0"),
        ({"do_sample": True, "temperature": -1}, "temperature is -1"),
        ({"do_sample": "yes"}, "do_sample is 'yes'"),
        ({"temperature": "warm"}, "temperature is 'warm'"),
        ({"until": [3]}, "until is"),
        ({"max_gen_toks": 0}, "max_gen_toks is 0"),
        ({"max_gen_toks": "many"}, "max_gen_toks is 'many'"),
        ({"temperature": 1, "top_k": 2.5}, "top_k is 2.5"),
        ({"temperature": 1, "top_k": "inf"}, "top_k is 'inf'"),
        ({"temperature": 1, "top_p": 0}, "top_p is 0.0"),
        ({"temperature": 1, "min_p": 2}, "min_p is 2"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0"),
    ],
)
def test_what_is_not_served_is_refused_by_name(arguments, message):
    with pytest.raises(UserError, match=message):
        read_generation_arguments(arguments, 256)
