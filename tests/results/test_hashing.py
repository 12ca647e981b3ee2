"""The hash of a whole result is over its JSON, whatever the order of keys, and changes with any value."""

from result_contents import result_content

from orca_bench.results import hashing
from orca_bench.results.models import Result


def test_the_seal_is_of_the_values_not_of_the_order_or_of_itself():
    content = result_content()
    seal = hashing.seal_of_content(content)
    assert hashing.seal_of_content(dict(reversed(content.items())) | {"result_sha256": "x"}) == seal
    assert hashing.seal_of_content(content | {"limit": 3}) != seal
    assert hashing.seal(Result.from_file_content(content)) == seal


def test_a_result_of_todays_format_without_its_seal_is_not_as_it_was_written():
    content = result_content() | {"format": "orca-bench result 3"}
    assert not hashing.is_sealed(Result.from_file_content(content))
    content["result_sha256"] = hashing.seal_of_content(content)
    assert hashing.is_sealed(Result.from_file_content(content))
    assert not hashing.is_sealed(Result.from_file_content(content | {"limit": 3}))
