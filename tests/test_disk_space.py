"""Sizes on disk, counted and in words."""

import pytest

from orca_bench.disk_space import disk_bytes, size_text


@pytest.mark.parametrize(
    ("byte_count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.6, "1.00 kB"),
        (1250, "1.25 kB"),
        (12_500, "12.5 kB"),
        (99_960, "100 kB"),
        (999_600, "1.00 MB"),
        (26e9, "26.0 GB"),
        (5e15, "5000 TB"),
    ],
)
def test_sizes_have_three_digits(byte_count, text):
    assert size_text(byte_count) == text


def test_a_folder_is_as_large_as_its_files_and_links_are_not_followed(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "x").write_bytes(b"1" * 10)
    (tmp_path / "a" / "b" / "y").write_bytes(b"1" * 5)
    assert disk_bytes(tmp_path / "a") == 15 and disk_bytes(tmp_path / "a" / "x") == 10
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert 0 < disk_bytes(tmp_path / "link") != 15
    assert disk_bytes(tmp_path / "absent") == 0
