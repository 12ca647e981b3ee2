"""Verification of a real result of the mini suite: each digit that is changed is noticed."""

import json
import shutil


def test_a_result_matches_its_answers(in_mini_folder, mini):
    process = in_mini_folder("verify", "a.json", "-v", "--benchmarks", mini["mini:benchmarks"])
    assert process.returncode == 0, process.stdout + process.stderr
    assert "every number matches the stored answers" in process.stdout and process.stdout.count("✓") == 2 + 6 * 7 + 6
    process = in_mini_folder("verify", "a.json", "--no-rescore", "--format", "json")
    content = json.loads(process.stdout)
    assert process.returncode == 0 and content["matches"] is True
    assert all(list(finding) == ["what", "matches", "detail"] for finding in content["findings"])


def write_edited(folder, name, old, new):
    """A copy of both files in which a string is replaced once."""
    for ending in (".json", ".questions.jsonl"):
        text = (folder / "a").with_suffix(ending).read_text()
        (folder / f"edited{ending}").write_text(text.replace(old, new, 1) if ending == name else text)


def test_a_changed_digit_is_found_wherever_it_is(in_mini_folder, mini):
    from orca_bench.evaluate.verification import verify

    folder, rows = in_mini_folder.folder, mini["mini:benchmarks"]
    result = json.loads((folder / "a.json").read_text())
    line = json.loads((folder / "a.questions.jsonl").read_text().splitlines()[0])
    value, answer = result["tasks"]["mmlu"]["value"], line["answers"][line["prediction"]]
    for ending, old, new, wrong_facts in (
        (".json", f'"value": {value}', f'"value": {value + 0.001}', ["MMLU: value", "averages"]),
        (".json", result["tasks"]["drop"]["requests_sha256"], "0" * 64, ["DROP: requests", "hash of all requests"]),
        (".json", result["data_hashes"]["gsm8k"]["test"], "0" * 64, ["GSM8K: rows"]),
        (".json", f'"rows": {result["tasks"]["arc_challenge"]["rows"]}', '"rows": 7', ["ARC-Challenge: rows"]),
        (
            ".json",
            f'"stderr": {result["tasks"]["winogrande"]["stderr"]}',
            '"stderr": 0.001',
            ["Winogrande: value", "averages"],
        ),
        (".questions.jsonl", f'"score": {line["score"]}', f'"score": {1 - line["score"]}', None),
        (".questions.jsonl", str(answer), str(answer - 500), None),
    ):
        write_edited(folder, ending, old, new)
        wrong = [finding.check_name for finding in verify(folder / "edited.json", rows) if finding.matches is False]
        assert (
            wrong == ["hash of the whole result", *wrong_facts]
            if wrong_facts
            else {"hash of the questions", "ARC-Challenge: scores"} <= set(wrong)
        ), (
            old,
            wrong,
        )
    write_edited(folder, ".questions.jsonl", line["task"], line["task"])
    assert not [f for f in verify(folder / "edited.json", rows) if f.matches is False]


def numbers(tree, path=()):
    """The place of every number in a tree of JSON."""
    if isinstance(tree, bool):
        return
    if isinstance(tree, (int, float)):
        yield path
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield from numbers(value, (*path, key))


def test_any_number_of_any_task_and_average_that_changes_is_found(in_mini_folder):
    from orca_bench.evaluate.verification import verify

    folder = in_mini_folder.folder
    shutil.copy(folder / "a.questions.jsonl", folder / "digit.questions.jsonl")
    whole = json.loads((folder / "a.json").read_text())
    places = [(part, *place) for part in ("tasks", "averages") for place in numbers(whole[part])]
    # What only the evaluation itself can know.
    places = [place for place in places if place[-1] not in ("seconds", "shortened", "rows")]
    assert len(places) > 70
    for place in places:
        changed = json.loads(json.dumps(whole))
        holder = changed
        for key in place[:-1]:
            holder = holder[key]
        holder[place[-1]] += 1e-6 if isinstance(holder[place[-1]], float) else 1
        (folder / "digit.json").write_text(json.dumps(changed))
        assert any(f.matches is False for f in verify(folder / "digit.json", None, should_check_rows=False)), place


def test_verify_says_what_it_cannot_read(in_mini_folder, mini):
    assert "no such file" in in_mini_folder.refused("verify", "nothing.json")
    (in_mini_folder.folder / "alone.json").write_text((in_mini_folder.folder / "a.json").read_text())
    assert "no such file" in in_mini_folder.refused("verify", "alone.json", "--benchmarks", mini["mini:benchmarks"])
