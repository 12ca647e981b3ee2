"""Model arguments of lm-eval's command line: those of `hf` that mean something here; the others are refused by name."""

import inspect

import pytest
from lm_eval.models.huggingface import HFLM

from orca_bench.errors import UserError
from orca_bench.evaluate.harness import model_arguments
from orca_bench.evaluate.harness.model_arguments import ModelArguments, read_model_arguments


def test_arguments_are_read_as_hf_takes_them():
    arguments = {
        "pretrained": "m",
        "dtype": "torch.bfloat16",
        "max_length": 512,
        "add_bos_token": True,
        "prefix_token_id": 0,
        "think_end_token": "17",
        "batch_size": "auto",
        "trust_remote_code": False,
        "device": None,
        "peft": None,
    }
    assert read_model_arguments(arguments) == ModelArguments(
        "m", dtype="bfloat16", max_length=512, add_bos_token=True, prefix_token_id=0, think_end_token=17
    )


@pytest.mark.parametrize("name", [name for name in inspect.signature(HFLM.__init__).parameters if name != "kwargs"][1:])
def test_every_argument_of_hf_is_served_or_passed_over_or_refused(name):
    fields = ModelArguments.__dataclass_fields__
    assert (name in fields) + (name in model_arguments._IDLE_NAMES) + (name in model_arguments._REFUSED) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "no model; pretrained=DIR"),
        ({"pretrained": ""}, "no model"),
        ({"peft": "adapter"}, "peft=adapter is not served; merge"),
        ({"trust_remote_code": True}, "trust_remote_code=True is not served"),
        ({"load_in_4bit": True}, "'load_in_4bit' is not served; served are pretrained"),
        ({"max_lenght": 5}, "did you mean 'max_length'"),
        ({"dtype": "int8"}, "dtype is 'int8'; expected: one of auto"),
        ({"max_length": 0}, "max_length is 0"),
        ({"max_length": 2.5}, "max_length is 2.5"),
        ({"max_length": "long"}, "max_length is 'long'"),
        ({"add_bos_token": "maybe"}, "add_bos_token is 'maybe'"),
        ({"prefix_token_id": -1}, "prefix_token_id is -1"),
        ({"chat_template_args": "x"}, "chat_template_args is 'x'"),
        ({"enable_thinking": True}, "think_end_token"),
    ],
)
def test_what_is_not_served_is_refused_by_name(arguments, message):
    with pytest.raises(UserError, match=message):
        read_model_arguments({"pretrained": "m"} | arguments if arguments else {})
