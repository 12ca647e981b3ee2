"""Shards part the records, and other texts name no shard."""

import pytest

from orca_bench.data.record_checks.shards import Shard, parse_shard
from orca_bench.errors import UserError


def test_each_record_is_in_one_shard():
    shards = [parse_shard(f"{index}/3") for index in (1, 2, 3)]
    assert [[number for number in range(7) if shard.has(number)] for shard in shards] == [[0, 3, 6], [1, 4], [2, 5]]
    assert parse_shard(" 2/3 ") == Shard(3, 2) and str(Shard(3, 2)) == "2/3"


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "-1/2", "1/2/3", "a/b", "1.0/2", "²/3", "1/99999999"])
def test_other_texts_are_refused(text):
    with pytest.raises(UserError, match=r"--shard: '.*' names no shard; e\.g\. 1/4"):
        parse_shard(text)
