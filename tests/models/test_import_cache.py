"""Folders in the cache have keys that stay from version to version, and are written once."""

import hashlib
import json
import os

import pytest

from orca_bench.errors import UserError
from orca_bench.models import import_cache


def test_a_key_is_the_one_by_which_existing_folders_are_known(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"12345")
    os.utime(tmp_path / "m.gguf", ns=(0, 1_700_000_000_000_000_001))
    key = import_cache.cache_key([1], {"/models/m.gguf": tmp_path / "m.gguf"})
    assert key == hashlib.sha256(b"[1, '/models/m.gguf', 5, 1700000000000000001]").hexdigest()[:16]


def test_a_folder_is_written_where_it_lacks_its_origin_and_left_where_it_has_it(tmp_path):
    folder, writes = tmp_path / "cache" / "key" / "m", []

    def write_folder(path):
        writes.append(path)
        path.mkdir()
        (path / "origin.json").write_text("{}")

    for _ in range(2):
        assert import_cache.write_once(folder, "origin.json", write_folder) == folder
    assert writes == [folder]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        import_cache.write_once(tmp_path / "file" / "m", "origin.json", write_folder)


@pytest.mark.parametrize(
    ("origin", "bits"),
    [
        ({"bits_per_weight": 4.5}, 4.5),
        ({"bits_per_weight": 8}, 8.0),
        ({"bits_per_weight": "4"}, None),
        ({"bits_per_weight": True}, None),
        ({"bits_per_weight": 0}, None),
        ({"bits_per_weight": 65}, None),
        ({}, None),
        ([4.5], None),
    ],
)
def test_bits_that_are_no_number_of_bits_are_none(tmp_path, origin, bits):
    (tmp_path / "origin.json").write_text(json.dumps(origin))
    assert import_cache.origin_bits_per_weight(tmp_path / "origin.json") == bits
    assert import_cache.origin_bits_per_weight(tmp_path / "absent.json") is None


@pytest.mark.parametrize(
    ("origin", "sha256"),
    [({"sha256": "ab"}, "ab"), ({"sha256": ""}, None), ({"sha256": 1}, None), ({}, None), ([], None)],
)
def test_a_hash_that_is_no_text_is_none(tmp_path, origin, sha256):
    (tmp_path / "origin.json").write_text(json.dumps(origin))
    assert import_cache.origin_sha256(tmp_path / "origin.json") == sha256
    assert import_cache.origin_sha256(tmp_path / "absent.json") is None
