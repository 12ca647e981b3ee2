"""Whatever is changed in a result is found, or is named as what cannot be computed again."""

import copy
import json
import shutil

import pytest
from displays import Lines

from orca_bench.errors import UserError
from orca_bench.evaluate import config_building, evaluation, verification
from orca_bench.results import hashing, reading
from orca_bench.results.coverage import field_name, leaf_paths


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, tiny_model, mini):
    """A folder with a real result `a.json` of four tasks, two questions each, and the rows that were asked."""
    folder = tmp_path_factory.mktemp("verify")
    tasks, rows = "arc_challenge,mmlu,truthful_qa,drop", mini["mini:benchmarks"]
    config = config_building.evaluation_config(
        str(tiny_model), folder, tasks=tasks, benchmarks=rows, limit=2, out=folder / "a.json"
    )
    evaluation.evaluate(config, Lines())
    return folder, rows


def changed(value):
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1 if isinstance(value, int) else value + 1e-6 * (-1 if value > 0.5 else 1)
    if isinstance(value, str):
        return value[:-1] + ("0" if value[-1] != "0" else "1") if value else "x"
    return "x"


def with_change(result, place):
    """A result in which one leaf is another."""
    result = copy.deepcopy(result)
    holder = result
    for key in place[:-1]:
        holder = holder[int(key)] if isinstance(holder, list) else holder[key]
    key = int(place[-1]) if isinstance(holder, list) else place[-1]
    holder[key] = changed(holder[key])
    return result


def findings(folder, result, rows):
    """What verification says of a result that is written as it stands; None where it cannot even be read."""
    (folder / "b.json").write_text(json.dumps(result))
    try:
        reading.read_result(folder / "b.json")
    except UserError:
        return None
    return verification.verify(folder / "b.json", rows, rows is not None)


def test_a_result_matches_and_says_what_is_not_computed_again(evaluated):
    folder, rows = evaluated
    whole = verification.verify(folder / "a.json", rows)
    assert not [finding for finding in whole if finding.matches is False]
    (rest,) = (finding for finding in whole if finding.check_name == "not computed again")
    for name in ("created", "model.fingerprint", "tasks.*.seconds", "tasks.*.tokens_sha256", "versions"):
        assert name in rest.detail.split(": ")[0].split(", ")
    assert "warnings" not in rest.detail and "value" not in rest.detail


def test_a_question_that_stands_in_place_of_another_is_found(evaluated):
    folder, rows = evaluated
    lines = (folder / "a.questions.jsonl").read_text().splitlines(keepends=True)
    assert json.loads(lines[0])["task"] == json.loads(lines[1])["task"] == "arc_challenge"
    (folder / "c.json").write_text((folder / "a.json").read_text())
    (folder / "c.questions.jsonl").write_text("".join([lines[0], lines[0], *lines[2:]]))
    (scores,) = (f for f in verification.verify(folder / "c.json", rows) if f.check_name == "ARC-Challenge: scores")
    assert not scores.matches
    assert "line 2: document 0 of arc_challenge stands here a second time" in scores.detail
    assert "1 questions are missing" in scores.detail


def test_log_probabilities_that_are_texts_are_found(evaluated):
    folder, rows = evaluated
    lines = [json.loads(line) for line in (folder / "a.questions.jsonl").read_text().splitlines()]
    lines[0]["answers"] = [str(value) for value in lines[0]["answers"]]
    (folder / "c.json").write_text((folder / "a.json").read_text())
    (folder / "c.questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (scores,) = (f for f in verification.verify(folder / "c.json", rows) if f.check_name == "ARC-Challenge: scores")
    assert not scores.matches and "line 1: answers that cannot be scored" in scores.detail


def test_every_change_of_a_leaf_is_found(evaluated):
    """Without the rows, which most of them do not need: the hash of the whole finds all."""
    folder, _ = evaluated
    shutil.copy(folder / "a.questions.jsonl", folder / "b.questions.jsonl")
    result = json.loads((folder / "a.json").read_text())
    places = list(leaf_paths(result))
    assert len(places) > 200
    for place in places:
        outcome = findings(folder, with_change(result, place), None)
        assert outcome is None or any(finding.matches is False for finding in outcome), place


def test_a_change_that_is_sealed_again_is_found_or_its_field_is_named(evaluated):
    folder, rows = evaluated
    shutil.copy(folder / "a.questions.jsonl", folder / "b.questions.jsonl")
    result = json.loads((folder / "a.json").read_text())
    kinds = set()
    for place in leaf_paths(result):
        if place == ("result_sha256",):
            continue
        # One of a kind is enough for the lists and tables below a task.
        kind = (
            field_name(place),
            place[-1] if not place[-1].isdigit() else "",
            place[1] if place[0] == "tasks" else "",
        )
        if kind in kinds:
            continue
        kinds.add(kind)
        forged = with_change(result, place)
        forged["result_sha256"] = hashing.compute_content_sha256(forged)
        outcome = findings(folder, forged, rows)
        if outcome is None or any(finding.matches is False for finding in outcome):
            continue
        named = [finding.detail for finding in outcome if finding.check_name == "not computed again"]
        assert field_name(place) in named[0].split(": ")[0].split(", "), place


def test_every_change_of_a_question_is_found(evaluated):
    folder, _ = evaluated
    shutil.copy(folder / "a.json", folder / "b.json")
    lines = [json.loads(line) for line in (folder / "a.questions.jsonl").read_text().splitlines()]
    for number in (0, len(lines) - 1):
        for place in leaf_paths(lines[number]):
            others = [*lines[:number], with_change(lines[number], place), *lines[number + 1 :]]
            (folder / "b.questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in others))
            try:
                outcome = verification.verify(folder / "b.json", None, should_check_rows=False)
            except UserError:
                continue
            assert any(finding.matches is False for finding in outcome), place


def test_a_key_that_is_dropped_or_added_is_found(evaluated):
    folder, _ = evaluated
    shutil.copy(folder / "a.questions.jsonl", folder / "b.questions.jsonl")
    result = json.loads((folder / "a.json").read_text())
    for key in result:
        outcome = findings(folder, {name: value for name, value in result.items() if name != key}, None)
        assert outcome is None or any(finding.matches is False for finding in outcome), key
    assert any(finding.matches is False for finding in findings(folder, result | {"note": "x"}, None))
    # Taking a result for one of an earlier version does not free it of its hash.
    older = result | {"format": "orca-bench result 2", "limit": 9}
    assert any(finding.matches is False for finding in findings(folder, older, None))
