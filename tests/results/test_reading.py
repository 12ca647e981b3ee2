"""Questions are read as they stand in their file."""

import gc
import gzip

import pytest
from synthetic_results import random_result

from orca_bench.errors import UserError
from orca_bench.results import reading
from orca_bench.results.models import Question


def test_the_collector_rests_while_questions_are_read_and_works_again_after_it(tmp_path, monkeypatch):
    states, validate = [], Question.model_validate

    def recorded(line):
        states.append(gc.isenabled())
        return validate(line)

    monkeypatch.setattr(Question, "model_validate", recorded)
    file = tmp_path / "r.questions.jsonl"
    file.write_text('{"task": "gsm8k", "row": 0, "score": 1.0}\n{"task": "gsm8k"}\n')
    with pytest.raises(UserError, match="a question without"):
        reading.read_questions(file)
    assert states == [False, False] and gc.isenabled()


def compress_questions(file):
    """Replace the questions of a result by their compressed form, and return its path."""
    plain_path = reading.questions_path_for(file.path)
    compressed_path = plain_path.with_name(f"{plain_path.name}.gz")
    compressed_path.write_bytes(gzip.compress(plain_path.read_bytes()))
    assert reading.find_questions_path(file.path) == plain_path, "where both are there, the plain one is read"
    plain_path.unlink()
    return compressed_path


def test_compressed_questions_are_read_where_there_are_no_plain_ones(command, tmp_path):
    files = [random_result(tmp_path, name, share, tasks=["gsm8k"]) for name, share in (("base", 0.4), ("new", 0.6))]
    commands = (("compare", "base.json", "new.json", "--format", "json"), ("verify", "--no-rescore", "-v", "base.json"))
    expected = [command(*words).stdout for words in commands]
    assert all(expected)
    compressed_path, _ = map(compress_questions, files)
    assert [reading.questions_hash(file) for file in files] == [file.result.questions_sha256 for file in files]
    assert [command(*words).stdout for words in commands] == expected
    published = command("publish", "base.json", "--partial", "--to", "site")
    assert published.returncode == 0 and (tmp_path / "site" / compressed_path.name).is_file(), published.stderr
    refused = command("page", "new.json", "--out", compressed_path.name)
    assert refused.returncode == 2 and "name another file" in refused.stderr


@pytest.mark.parametrize("words", [("compare", "base.json", "base.json"), ("verify", "--no-rescore", "base.json")])
def test_compressed_questions_that_are_cut_off_are_named(command, tmp_path, words):
    compressed_path = compress_questions(random_result(tmp_path, "base", 0.5, tasks=["gsm8k"]))
    compressed_path.write_bytes(compressed_path.read_bytes()[:-20])
    process = command(*words)
    assert process.returncode == 2 and len(process.stderr.splitlines()) == 1 and compressed_path.name in process.stderr
