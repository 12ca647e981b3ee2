"""Lengths are counted in bins up to four times the longest example, and the counts of parts add up to those of the whole."""

import numpy as np

from orca_bench.data.record_checks.length_picture import length_sentence, write_length_picture
from orca_bench.data.record_checks.token_lengths import TokenLengthCounter, merge_token_lengths


def counted(lengths, max_length=1024):
    counter = TokenLengthCounter("0" * 64, max_length)
    counter.add(np.array(lengths, np.int32))
    return counter.token_lengths()


def test_bins_hold_their_upper_bound_and_the_last_one_all_that_is_longer():
    lengths = counted([1, 64, 65, 1024, 1025, 4096, 2_000_000])
    assert (lengths.bin_width, lengths.total, lengths.longest, lengths.cut) == (64, 2_006_275, 2_000_000, 3)
    assert {i: n for i, n in enumerate(lengths.histogram) if n} == {0: 2, 1: 1, 15: 1, 16: 1, 63: 2}


def test_without_examples_there_are_no_bins():
    lengths = counted([])
    assert (lengths.histogram, lengths.total, lengths.longest) == ([], 0, 0)
    assert length_sentence(lengths, 0) == "0 examples of 0 (0.0%) longer than 1,024 tokens; mean 0, longest 0"


def test_a_short_max_length_has_bins_of_one_token():
    assert counted([1, 2, 3], max_length=3).histogram == [1, 1, 1]


def test_parts_add_up():
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 5000, 500)
    assert merge_token_lengths([counted(lengths[:100]), counted(lengths[100:120]), counted(lengths[120:])]) == counted(
        lengths
    )


def test_the_picture_is_the_same_each_time(tmp_path):
    for name in ("a.png", "b.png"):
        write_length_picture(counted([10, 500, 900, 1500, 9000]), 5, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    write_length_picture(counted([]), 0, tmp_path / "empty.png")
