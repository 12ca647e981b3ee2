"""Tokens are encoded once for the same texts, tokenizer and length; a cache that is damaged or not writable costs time only."""

import contextlib
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from file_sizes import no_room_for
from waiting import PATIENCE_S, eventually

from orca_bench import tokenizers
from orca_bench.errors import UserError
from orca_bench.files import cache_folder, write_json_lines
from orca_bench.train.example_encoding import encode_in_chunks
from orca_bench.train.record_files import Record
from orca_bench.train.token_cache import stored_examples
from orca_bench.train.token_files import write_token_files

RECORDS = [Record("S", f"What is {number}?", "", "word " * (number % 7 + 1)) for number in range(20)]


@pytest.fixture(scope="module")
def tokenizer(sentencepiece_models):
    return tokenizers.load_tokenizer(sentencepiece_models["llama"])


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ORCA_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "temporary").mkdir()
    return tmp_path / "cache" / "tokens"


class Writer:
    """Writes the tokens of RECORDS under the key `k`, and counts how often."""

    def __init__(self, tokenizer):
        self.tokenizer, self.folders = tokenizer, []

    def __call__(self, folder):
        self.folders.append(folder)
        write_token_files(folder, encode_in_chunks(RECORDS, self.tokenizer, 64), lambda report: "k")


@pytest.fixture
def writer(tokenizer):
    return Writer(tokenizer)


def test_tokens_are_written_once(cache, writer):
    messages = []
    first, second = (stored_examples("k", writer, messages.append) for _ in range(2))
    assert writer.folders == [cache / "k"] == [first.folder] and not messages
    assert first.examples.ids.tolist() == second.examples.ids.tolist() and first.report == second.report
    assert cache == cache_folder("tokens")


@pytest.mark.parametrize("damage", [lambda content: content[:-8], lambda content: content[:-8] + bytes(8)])
def test_damaged_tokens_are_never_used_and_are_written_again(cache, writer, damage):
    expected = stored_examples("k", writer, lambda line: None).examples.ids.tolist()
    path, messages = cache / "k" / "ids.npy", []
    path.write_bytes(damage(path.read_bytes()))
    again = stored_examples("k", writer, messages.append)
    assert again.examples.ids.tolist() == expected and len(writer.folders) == 2
    (message,) = messages
    assert message == f"{cache / 'k'}: these tokens are damaged, and are encoded again"
    assert stored_examples("k", writer, messages.append).examples.ids.tolist() == expected and len(messages) == 1


def test_the_tokens_of_the_run_serve_where_the_cache_has_been_removed(cache, writer, tmp_path):
    writer(tmp_path / "run")
    assert stored_examples("k", writer, lambda line: None, tmp_path / "run").folder == tmp_path / "run"
    assert stored_examples("k", writer, lambda line: None, tmp_path / "another").folder == cache / "k"


def test_a_cache_that_is_not_writable_is_said_and_a_temporary_folder_takes_its_place(cache, writer, tmp_path):
    cache.parent.write_text("a file")  # stands for any reason: a test that runs as root may write everywhere else
    messages = []
    stored = stored_examples("k", writer, messages.append)
    assert len(stored.examples) == len(RECORDS) and (tmp_path / "temporary") in stored.folder.parents
    (message,) = messages
    assert message.startswith(f"the cache of tokens cannot be used ({cache}: cannot write: Not a directory; ")
    assert message.endswith("): these are encoded for this run alone")


def test_the_folder_that_a_run_names_takes_the_place_of_the_cache_and_is_used_after_a_kill(cache, writer, tmp_path):
    cache.parent.write_text("a file")
    substitute, messages = tmp_path / "runs" / ".r.encoded", []
    for _ in range(2):
        stored = stored_examples("k", writer, messages.append, tmp_path / "runs" / "r" / "tokens", substitute)
        assert stored.folder == substitute / "k" and len(writer.folders) == len(messages) == 1
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize("starts_over", [False, True])
def test_a_run_is_prepared_on_its_own_disk_where_the_cache_cannot_be_written(cache, tmp_path, mini, starts_over):
    from orca_bench import recipe_file
    from orca_bench.train.run_folder import Run
    from orca_bench.train.token_files import load_run_examples
    from orca_bench.train.train_recipe import SilentTrainingDisplay, _prepare
    from recipes import RECIPE

    class Messages(SilentTrainingDisplay):
        def message(self, line):
            messages.append(line)

    messages = []
    cache.parent.write_text("a file")
    rows = [{"system": "s", "instruction": f"i {number}", "response": "one two"} for number in range(8)]
    write_json_lines(tmp_path / "records.jsonl", rows)
    (tmp_path / "r.yaml").write_text(RECIPE.format(name="r", tokenizer=mini["mini:tokenizer"]), encoding="utf-8")
    recipe = recipe_file.read_recipe_file(tmp_path / "r.yaml", (f"data.records=[{tmp_path / 'records.jsonl'}]",))
    run = Run(tmp_path / "runs" / "r")
    _prepare(recipe, run, starts_over, Messages(), None)
    run.unlock()
    assert "the cache of tokens cannot be used" in messages[0] and not list(
        (tmp_path / "temporary").glob("orca-bench*")
    )
    assert [path.name for path in run.folder.parent.iterdir()] == ["r"]  # only the run is left
    assert len(load_run_examples(run.tokens_folder, run.earlier_tokens_file).training) == 8


def test_a_disk_that_is_full_in_the_middle_is_said_and_a_temporary_folder_takes_its_place(cache, writer, tmp_path):
    def write_until_full(folder):
        with no_room_for(500) if folder.parent == cache else contextlib.nullcontext():
            writer(folder)

    messages = []
    stored = stored_examples("k", write_until_full, messages.append)
    assert len(stored.examples) == len(RECORDS) and (tmp_path / "temporary") in stored.folder.parents
    assert "cannot write: File too large; free space or choose another folder" in messages[0]
    assert not [path for path in cache.iterdir() if path.is_dir()]  # nothing half-written is left


def test_where_no_disk_has_room_the_command_says_so(cache, writer, tmp_path):
    cache.mkdir(parents=True)
    with no_room_for(500), pytest.raises(UserError, match="cannot write: File too large; free space") as caught:
        stored_examples("k", writer, lambda line: None)
    assert str(tmp_path / "temporary") in str(caught.value)


@pytest.mark.parametrize("cause", [None, ConnectionError("the hub does not answer")])  # which is an OSError
def test_wrong_input_is_raised_and_not_tried_elsewhere(cache, cause):
    folders = []

    def refuse(folder):
        folders.append(folder)
        raise UserError("no records") from cause

    with pytest.raises(UserError, match="^no records$"):
        stored_examples("k", refuse, lambda line: None)
    assert folders == [cache / "k"]


def test_temporary_tokens_are_removed_when_the_process_ends(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "temporary").mkdir()
    script = """
import sys
from pathlib import Path
from orca_bench.train.token_cache import stored_examples
from orca_bench.train.token_files import write_token_files
import numpy as np
from orca_bench.train.example_encoding import EncodedExamples, EncodingReport
one = np.ones(1, np.int64)
chunk = EncodedExamples(one, one - 1, one, one, one), EncodingReport(1, 0, [])
write = lambda folder: write_token_files(folder, [chunk], lambda report: "k")
assert stored_examples("k", write, print).folder.is_dir()
"""
    environment = os.environ | {"ORCA_BENCH_CACHE": str(tmp_path / "file"), "TMPDIR": str(tmp_path / "temporary")}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_two_processes_encode_once(cache, writer, tmp_path):
    """The second one waits for the first, and then reads what that wrote."""
    script = """
import sys, time
from pathlib import Path
begun, may_end = map(Path, sys.argv[1:])
import numpy as np
from orca_bench.train.token_cache import stored_examples
from orca_bench.train.token_files import write_token_files
from orca_bench.train.example_encoding import EncodedExamples, EncodingReport
one = np.ones(1, np.int64)
chunk = EncodedExamples(one, one - 1, one, one, one), EncodingReport(1, 0, [])
def write(folder):
    begun.write_text("")
    while not may_end.exists():
        time.sleep(0.01)
    write_token_files(folder, [chunk], lambda report: "k")
stored_examples("k", write, print)
"""
    begun, may_end, messages = tmp_path / "begun", tmp_path / "may_end", []

    def show_message(line):
        messages.append(line)
        may_end.write_text("")

    process = subprocess.Popen([sys.executable, "-c", script, str(begun), str(may_end)])
    try:
        eventually(begun.exists)
        stored = stored_examples("k", writer, show_message)
    finally:
        may_end.write_text("")
        exit_code = process.wait(PATIENCE_S)
    assert exit_code == 0 and messages == ["another process encodes these records; this one waits for it"]
    assert not writer.folders and len(stored.examples) == 1


def test_what_a_killed_process_left_half_written_is_removed(cache, writer):
    (cache / ".k.123.tmp").mkdir(parents=True)
    (cache / ".other.123.tmp").mkdir()
    stored_examples("k", writer, lambda line: None)
    assert not (cache / ".k.123.tmp").exists() and (cache / ".other.123.tmp").exists()


def test_another_content_of_a_record_file_is_encoded_anew(cache, tmp_path, mini):
    from orca_bench import recipe_file
    from orca_bench.train.train_recipe import describe_training
    from recipes import RECIPE

    path = tmp_path / "records.jsonl"
    rows = [{"system": "s", "instruction": f"i {number}", "response": "one two"} for number in range(8)]
    write_json_lines(path, rows)
    (tmp_path / "r.yaml").write_text(RECIPE.format(name="r", tokenizer=mini["mini:tokenizer"]), encoding="utf-8")
    recipe = recipe_file.read_recipe_file(tmp_path / "r.yaml")
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"records": [str(path)]})})
    first = describe_training(recipe).examples
    write_json_lines(path, [*rows[:-1], rows[-1] | {"response": "two one"}])
    second = describe_training(recipe).examples
    assert first.example(6).tolist() == second.example(6).tolist()
    assert first.example(7).tolist() != second.example(7).tolist()
    assert len([entry for entry in cache.iterdir() if entry.is_dir()]) == 2
    path.rename(tmp_path / "renamed.jsonl")  # the texts are the key, not the file that they are in
    recipe = recipe.model_copy(
        update={"data": recipe.data.model_copy(update={"records": [str(tmp_path / "renamed.jsonl")]})}
    )
    assert describe_training(recipe).examples.ids.tolist() == second.ids.tolist()
    assert len([entry for entry in cache.iterdir() if entry.is_dir()]) == 2


def test_records_that_change_while_they_are_read_are_refused(cache, tokenizer, tmp_path, mini):
    from orca_bench import recipe_file
    from orca_bench.train.example_encoding import records_digest
    from orca_bench.train.example_preparation import prepare_examples
    from recipes import RECIPE

    (tmp_path / "r.yaml").write_text(RECIPE.format(name="r", tokenizer=mini["mini:tokenizer"]), encoding="utf-8")
    recipe = recipe_file.read_recipe_file(tmp_path / "r.yaml")
    changed = [replace(RECORDS[0], response="other"), *RECORDS[1:]]
    with pytest.raises(UserError, match="^data.records: the records have changed while they were read"):
        prepare_examples(recipe, changed, records_digest(RECORDS), tokenizer, lambda *count: None, lambda line: None)
    assert not [path for path in cache.iterdir() if path.is_dir()]
