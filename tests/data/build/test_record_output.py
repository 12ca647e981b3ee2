"""What a record says of the model that answered it."""

import pytest

from orca_bench.data.build.record_output import served_name


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini-2024-07-18"),
        ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
        ("/home/me/models/smol.Q4_1.gguf", "smol.Q4_1.gguf"),
        ("~/models/smol/", "smol"),
        ("./smol.gguf", "smol.gguf"),
        (r"C:\Users\me\smol.gguf", "smol.gguf"),
        (None, None),
    ],
)
def test_a_path_of_the_teachers_machine_is_in_no_record(model, name):
    assert served_name(model) == name
