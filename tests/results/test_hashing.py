"""The hash of a whole result is over its JSON, whatever the order of keys, and changes with any value."""

from result_contents import result_content

from orca_bench.results import hashing
from orca_bench.results.models import Result


def test_the_hash_is_of_the_values_not_of_the_order_or_of_itself():
    content = result_content()
    content_sha256 = hashing.compute_content_sha256(content)
    assert hashing.compute_content_sha256(dict(reversed(content.items())) | {"result_sha256": "x"}) == content_sha256
    assert hashing.compute_content_sha256(content | {"limit": 3}) != content_sha256
    assert hashing.compute_result_sha256(Result.from_file_content(content)) == content_sha256


def test_a_result_of_todays_format_without_its_hash_is_not_as_it_was_written():
    content = result_content() | {"format": "orca-bench result 3"}
    assert not hashing.is_unchanged_since_writing(Result.from_file_content(content))
    content["result_sha256"] = hashing.compute_content_sha256(content)
    assert hashing.is_unchanged_since_writing(Result.from_file_content(content))
    assert not hashing.is_unchanged_since_writing(Result.from_file_content(content | {"limit": 3}))
