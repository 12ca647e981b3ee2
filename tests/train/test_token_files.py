"""Folders of tokens: whole or not at all, damage is noticed, a run's folder shares the files and stays whole without them."""

import os
import shutil

import numpy as np
import pytest

from orca_bench import tokenizers
from orca_bench.errors import UserError
from orca_bench.train import token_files
from orca_bench.train.example_encoding import encode_in_chunks, encode_records
from orca_bench.train.record_files import Record
from orca_bench.train.token_files import link_token_files, load_run_examples, load_token_files, write_token_files

RECORDS = [Record("S", f"What is {number}?", "", "word " * (number % 7 + 1)) for number in range(2500)]
ARRAYS = ("ids", "starts", "lengths", "prompt_lengths", "records")


@pytest.fixture(scope="module")
def tokenizer(sentencepiece_models):
    return tokenizers.load_tokenizer(sentencepiece_models["llama"])


@pytest.fixture(scope="module")
def whole(tokenizer, tmp_path_factory):
    """A folder of the tokens of all records, under the key `k`."""
    folder = tmp_path_factory.mktemp("tokens") / "whole"
    counts = []
    write_token_files(folder, encode_in_chunks(iter(RECORDS), tokenizer, 64), lambda report: "k", counts.append)
    assert counts == [1000, 2000, 2500]
    return folder


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy")


def test_examples_that_are_written_in_chunks_are_those_that_are_encoded_at_once(tokenizer, whole):
    expected, report = encode_records(RECORDS, tokenizer, 64)
    stored = load_token_files(whole, "k", checks_content=True)
    assert stored.report == report
    for name in ARRAYS:
        array = getattr(stored.examples, name)
        assert np.array_equal(array, getattr(expected, name)) and array.dtype == getattr(expected, name).dtype
    assert type(stored.examples.ids) is np.ndarray and not stored.examples.ids.flags.writeable
    assert isinstance(stored.examples.ids.base, np.memmap)


def test_a_folder_of_another_key_or_none_is_not_taken(whole, tmp_path):
    assert load_token_files(whole, "another") is None
    assert load_token_files(tmp_path / "absent") is None
    assert load_token_files(tmp_path) is None


@pytest.mark.parametrize("name", [*(f"{name}.npy" for name in ARRAYS), "tokens.json"])
@pytest.mark.parametrize("damage", ["cut", "empty", "absent", "header", "another byte"])
def test_a_damaged_folder_is_not_taken(copy, name, damage):
    path = copy / name
    content = bytearray(path.read_bytes())
    if damage == "another byte":
        content[-3] ^= 1
    path.write_bytes({"cut": content[:-5], "empty": b"", "header": b"\x93NUMPX" + content[6:]}.get(damage, content))
    if damage == "absent":
        path.unlink()
    assert load_token_files(copy, "k", checks_content=True) is None


def test_a_folder_that_is_not_written_to_its_end_does_not_appear(tokenizer, tmp_path):
    def refuse(report):
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        write_token_files(tmp_path / "t", encode_in_chunks(RECORDS[:3], tokenizer, 64), refuse)
    with pytest.raises(ZeroDivisionError):
        write_token_files(tmp_path / "t", (1 / 0 for _ in RECORDS), lambda report: "k")
    assert list(tmp_path.iterdir()) == []


def test_a_linked_folder_takes_no_space_and_is_whole_when_the_other_is_gone(copy, tmp_path):
    stored = load_token_files(copy, "k")
    link_token_files(stored, tmp_path / "run", None)
    assert all(os.path.samefile(path, copy / path.name) for path in (tmp_path / "run").iterdir())
    link_token_files(stored, tmp_path / "run", None)  # as when the run is continued
    link_token_files(load_token_files(tmp_path / "run"), tmp_path / "run", None)  # from the run's own folder
    shutil.rmtree(copy)
    assert load_token_files(tmp_path / "run", "k", checks_content=True) is not None
    examples = load_run_examples(tmp_path / "run", tmp_path / "tokens.npz")
    assert len(examples.training) == len(RECORDS) and len(examples.held_out) == 0


def test_files_are_copied_where_the_disk_has_no_hard_links(whole, tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(token_files.os, "link", refuse)
    link_token_files(load_token_files(whole), tmp_path / "run", None)
    assert not any(os.path.samefile(path, whole / path.name) for path in (tmp_path / "run").iterdir())
    assert load_token_files(tmp_path / "run", "k", checks_content=True) is not None


def test_a_run_has_its_training_and_its_held_out_examples(whole, tmp_path):
    stored = load_token_files(whole)
    training, held_out = np.array([0, 2, 3]), np.array([1, 7])
    link_token_files(stored, tmp_path / "run", (training, held_out))
    examples = load_run_examples(tmp_path / "run", tmp_path / "tokens.npz")
    assert examples.training.records.tolist() == [0, 2, 3] and examples.held_out.records.tolist() == [1, 7]
    assert examples.held_out.example(1).tolist() == stored.examples.example(7).tolist()


def test_the_tokens_of_a_run_of_an_earlier_version_are_read(whole, tmp_path):
    examples = load_token_files(whole).examples
    offsets = np.append(examples.starts, len(examples.ids))
    arrays = {"ids": examples.ids, "prompt_lengths": examples.prompt_lengths, "records": examples.records}
    np.savez(tmp_path / "tokens.npz", **arrays, offsets=offsets, about="{}")
    training = load_run_examples(tmp_path / "tokens", tmp_path / "tokens.npz").training
    assert all(np.array_equal(getattr(training, name), getattr(examples, name)) for name in ARRAYS)


def test_tokens_of_a_run_that_cannot_be_read_are_named(copy, tmp_path):
    (copy / "starts.npy").write_bytes(b"")
    with pytest.raises(UserError, match="the run's tokens cannot be read; the train command encodes them again"):
        load_run_examples(copy, tmp_path / "tokens.npz")
    (tmp_path / "tokens.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match="cannot be read"):
        load_run_examples(tmp_path / "absent", tmp_path / "tokens.npz")
