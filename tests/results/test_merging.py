"""Results of one setting are put together task by task; those of another setting keep a file of their own."""

import gzip
import json
import shutil
from pathlib import Path

import pytest
from displays import Lines
from safetensors.torch import load_file, save_file

from orca_bench.errors import UserError
from orca_bench.evaluate import config_building, evaluation
from orca_bench.results import hashing, reading


@pytest.fixture
def evaluate(tmp_path, tiny_model, mini):
    """Evaluates the tiny model in this process; gives the result file that was written and what was printed."""

    def run(tasks, out=None, system="5", limit=2, model=tiny_model, benchmarks=mini["mini:benchmarks"], **options):
        out = tmp_path / out if out else None
        config = config_building.evaluation_config(
            str(model),
            tmp_path / "runs",
            tasks=tasks,
            system=system,
            benchmarks=benchmarks,
            limit=limit,
            out=out,
            **options,
        )
        display = Lines()
        evaluation.evaluate(config, display)
        return config.result_paths_by_protocol["orca"], "\n".join(display.lines)

    return run


def names(path):
    return list(reading.read_with_questions(path).result.tasks)


def results_in(folder):
    return sorted(path.name for path in Path(folder).glob("*.json"))


def test_a_task_that_is_evaluated_later_joins_the_result_and_the_whole_is_that_of_one_order(evaluate):
    whole, _ = evaluate("arc_challenge,mmlu,gsm8k", "whole.json")
    path, _ = evaluate("gsm8k", "r.json")
    evaluate("arc_challenge,mmlu", "r.json")
    path, messages = evaluate("mmlu", "r.json")
    assert "ARC-Challenge, GSM8K of the same setting, which stay in the result" in messages
    parts, one = (json.loads(file.read_text()) for file in (path, whole))
    for result in (parts, one):
        for entry in result["tasks"].values():
            entry.pop("seconds")
    assert parts["tasks"] == one["tasks"] and list(parts["tasks"]) == list(one["tasks"])
    for key in ("requests_sha256", "questions_sha256", "averages", "data_hashes", "order", "complete"):
        assert parts[key] == one[key], key
    assert list(parts["lm_eval"]) == list(one["lm_eval"])
    assert reading.questions_path_for(path).read_bytes() == reading.questions_path_for(whole).read_bytes()
    assert results_in(path.parent) == ["r.json", "whole.json"]


def compress_questions(path):
    """Replace the questions of a result by their compressed form, and return its path."""
    plain_path = reading.questions_path_for(path)
    compressed_path = plain_path.with_name(f"{plain_path.name}.gz")
    compressed_path.write_bytes(gzip.compress(plain_path.read_bytes()))
    plain_path.unlink()
    return compressed_path


def test_tasks_join_a_result_whose_questions_were_compressed(evaluate):
    path, _ = evaluate("gsm8k", "r.json")
    compressed_path = compress_questions(path)
    evaluate("mmlu", "r.json")
    assert names(path) == ["mmlu", "gsm8k"] and not compressed_path.exists(), "no older questions are beside the result"
    compress_questions(path)
    evaluate("winogrande", "r.json", limit=3)
    (aside,) = path.parent.glob("r-*.json")
    assert names(aside) == ["mmlu", "gsm8k"], "its questions went with it"
    evaluate("arc_challenge", "r.json")
    assert names(path) == ["arc_challenge", "mmlu", "gsm8k"]


def test_a_result_whose_compressed_questions_are_cut_off_is_set_aside(evaluate):
    path, _ = evaluate("gsm8k", "r.json")
    compressed_path = compress_questions(path)
    compressed_path.write_bytes(compressed_path.read_bytes()[:-20])
    _, messages = evaluate("mmlu", "r.json")
    assert "questions that are not its own" in messages and names(path) == ["mmlu"]


@pytest.mark.parametrize(
    ("other", "difference"),
    [({"system": "Be brief."}, "protocol"), ({"limit": 3}, "limit"), ({"model": "copy"}, "model")],
)
def test_a_result_of_another_setting_is_renamed_and_found_again(evaluate, tmp_path, tiny_model, other, difference):
    if "model" in other:
        other = {"model": tmp_path / "other" / "model"}
        shutil.copytree(tiny_model, other["model"])
        file = other["model"] / "model.safetensors"
        save_file({name: 2 * weight for name, weight in load_file(file).items()}, file, {"format": "pt"})
    path, _ = evaluate("arc_challenge", "r.json")
    first = path.read_bytes()
    _, lines = evaluate("gsm8k", "r.json", **other)
    assert f"is of another setting ({difference})" in lines
    assert names(path) == ["gsm8k"]
    (aside,) = (file for file in path.parent.glob("r-*.json"))
    assert aside.read_bytes() == first and names(aside) == ["arc_challenge"]
    # The first setting again: its tasks come back, and the other result keeps a file of its own.
    evaluate("winogrande", "r.json")
    assert names(path) == ["arc_challenge", "winogrande"]
    (aside,) = (file for file in path.parent.glob("r-*.json"))
    assert names(aside) == ["gsm8k"]


def test_an_older_result_stays_where_it_is_until_a_task_of_the_new_one_is_done(evaluate, monkeypatch):
    path, _ = evaluate("arc_challenge", "r.json")
    first = path.read_bytes()

    def refuse(*_):
        raise UserError("refused")

    for moment in ("expect", "begin"):
        monkeypatch.setattr(Lines, moment, refuse)
        with pytest.raises(UserError, match="refused"):
            evaluate("gsm8k", "r.json", limit=3)
        monkeypatch.undo()
        assert path.read_bytes() == first and results_in(path.parent) == ["r.json"]


def test_a_task_over_other_rows_does_not_replace_the_one_that_is_there(evaluate, tmp_path, mini):
    shutil.copytree(mini["mini:benchmarks"], tmp_path / "rows")
    path, _ = evaluate("arc_challenge,winogrande", "r.json")
    row_file = tmp_path / "rows" / "winogrande" / "validation.jsonl"
    row_file.write_text("".join(row_file.read_text().splitlines(keepends=True)[:5]))
    _, messages = evaluate("winogrande", "r.json", benchmarks=tmp_path / "rows")
    assert "is of another setting (rows" in messages and names(path) == ["winogrande"]
    (aside,) = (file for file in path.parent.glob("r-*.json"))
    assert names(aside) == ["arc_challenge", "winogrande"]


def test_what_was_ordered_and_has_no_number_makes_a_result_unfinished_whatever_is_merged(evaluate, tmp_path):
    path, _ = evaluate("arc_challenge", "r.json")
    result = json.loads(path.read_text())
    result |= {"order": ["arc_challenge", "drop"], "complete": False}  # as it is after a run that was stopped
    path.write_text(json.dumps(result | {"result_sha256": hashing.compute_content_sha256(result)}))
    evaluate("gsm8k", "r.json")
    result = json.loads(path.read_text())
    assert not result["complete"] and result["order"] == ["arc_challenge", "gsm8k", "drop"]
    evaluate("drop", "r.json")
    assert json.loads(path.read_text())["complete"]


def test_a_result_that_was_changed_by_hand_is_not_merged_into(evaluate):
    path, _ = evaluate("arc_challenge", "r.json")
    path.write_text(path.read_text().replace('"value": 0', '"value": 1', 1))
    changed = path.read_bytes()
    _, messages = evaluate("gsm8k", "r.json")
    assert "another setting" in messages and names(path) == ["gsm8k"]
    (aside,) = (file for file in path.parent.glob("r-*.json"))
    assert aside.read_bytes() == changed


def test_a_file_that_is_no_result_is_never_replaced(evaluate, tmp_path):
    (tmp_path / "package.json").write_text('{"name": "mine"}')
    (tmp_path / "folder.json").mkdir()
    for name in ("package.json", "folder.json"):
        with pytest.raises(UserError, match="what is there is no result"):
            evaluate("gsm8k", name)
    assert (tmp_path / "package.json").read_text() == '{"name": "mine"}'
