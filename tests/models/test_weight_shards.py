"""Shards of weights: one file where they fit, an index where not, one shard in memory, the system's error for a full disk."""

import errno
import gc
import weakref

import pytest
import torch
from safetensors.torch import load_file

from orca_bench.errors import UserError
from orca_bench.files import open_folder_replacement, read_json
from orca_bench.models.weight_shards import write_shards

COUNTS = {"a": 300, "large": 2000, "b": 300, "c": 300, "d": 10}  # numbers of float32


def write(folder, max_shard_numbers, counts=COUNTS, on_tensor=lambda tensor: None):
    def tensors():
        for name, count in counts.items():
            tensor = torch.arange(count, dtype=torch.float32)
            on_tensor(tensor)
            yield name, tensor

    write_shards({name: 4 * count for name, count in counts.items()}, tensors(), folder, 4 * max_shard_numbers)


def test_weights_that_fit_are_one_file_without_an_index(tmp_path):
    write(tmp_path, 10_000)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    assert {name: len(tensor) for name, tensor in load_file(tmp_path / "model.safetensors").items()} == COUNTS


def test_shards_are_as_large_as_allowed_but_for_a_larger_weight_and_the_index_names_them(tmp_path):
    write(tmp_path, 610)
    index = read_json(tmp_path / "model.safetensors.index.json")
    assert index["metadata"]["total_size"] == 4 * sum(COUNTS.values())
    shards = [set(load_file(path)) for path in sorted(tmp_path.glob("model-0000?-of-00003.safetensors"))]
    assert sorted(map(sorted, shards)) == [["a", "b"], ["c", "d"], ["large"]]
    for name, file_name in index["weight_map"].items():
        assert torch.equal(load_file(tmp_path / file_name)[name], torch.arange(COUNTS[name], dtype=torch.float32))


@pytest.fixture
def quick_collections():
    """`gc.collect` looks at what comes from here on alone, and not at the millions of objects that libraries made."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def test_no_more_than_one_shard_is_in_memory(tmp_path, quick_collections):
    references = []

    def count(tensor):
        gc.collect()
        references.append(weakref.ref(tensor))
        numbers_in_memory.append(sum(reference() is not None for reference in references))

    for numbers_of_a_shard, most in ((300, 3), (100, 1)):
        numbers_in_memory: list[int] = []
        write(tmp_path, numbers_of_a_shard, {f"w{number}": 100 for number in range(30)}, count)
        assert max(numbers_in_memory) == most


def test_a_full_disk_leaves_no_folder_and_says_so(tmp_path, monkeypatch):
    """The real thing, by the limit on a file's size, is in train/test_model_export.py."""
    from safetensors import SafetensorError

    def fail(*arguments, **options):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(OSError) as caught:
        write(tmp_path, 610)
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(UserError, match="No space left on device"), open_folder_replacement(tmp_path / "model") as new:
        write(new, 610)
    assert not list(tmp_path.iterdir())
