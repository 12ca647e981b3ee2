"""Compare, check and verify on real results of the mini suite: what they find, and what they refuse."""

import json
import random
import shutil
from xml.etree import ElementTree

import pytest

from orca_bench.errors import UserError
from orca_bench.report import comparison, gate, gate_formats, gate_rules, table
from orca_bench.results import reading
from orca_bench.suite import task_of


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, command_in, tiny_model, mini):
    """A folder with a real result of all seven tasks, and the command that works in it."""
    command = command_in(tmp_path_factory.mktemp("gate"))
    words = ["--benchmarks", mini["mini:benchmarks"], "--limit", 12, "--protocol", "orca", "--out", "a.json"]
    done = command("eval", "--model", tiny_model, *words)
    assert done.returncode == 0, done.stderr
    return command


def change(folder, source, target, edit, whole=lambda result: None):
    """A result like another, each question of which `edit` may change; values and hashes made to fit."""
    from orca_bench.evaluate import result_building, verification
    from orca_bench.evaluate.tasks import SUITE
    from orca_bench.files import sha256

    result = json.loads((folder / source).read_text())
    lines = [json.loads(line) for line in reading.questions_file(folder / source).read_text().splitlines()]
    lines = [line for line in lines if edit(line) is not False]
    file = reading.questions_file(folder / target)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for task in SUITE:
        own = [verification._question(line) for line in lines if task_of(line["task"]) == task.name]
        if own:
            result["tasks"][task.name] |= result_building.summarize(task, own)
        else:
            result["tasks"].pop(task.name, None)
    result["averages"] = result_building.averages(result["tasks"])
    result["questions_sha256"] = sha256(file)
    whole(result)
    result["result_sha256"] = reading.seal(result)
    (folder / target).write_text(json.dumps(result))
    return folder / target


def scores(seed, **by_task):
    """An edit that draws right-or-wrong scores with a share by task."""
    rng = random.Random(seed)

    def edit(line):
        task = task_of(line["task"])
        if task in by_task:
            line["score"] = float(rng.random() < by_task[task])

    return edit


@pytest.fixture(scope="module")
def good(evaluated):
    """A model that knows HellaSwag and Winogrande, and the same with HellaSwag forgotten."""
    folder = evaluated.folder
    change(folder, "a.json", "good.json", scores(1, hellaswag=1, winogrande=0.9, arc_challenge=0.4))
    change(folder, "good.json", "bad.json", scores(2, hellaswag=0.1))
    return evaluated


# --- compare --------------------------------------------------------------------------------------------------------


def test_a_lost_task_is_found_and_the_others_are_left_alone(good):
    done = good("compare", "good.json", "bad.json", "--format", "json")
    assert done.returncode == 0, done.stderr
    lines = {line["name"]: line for line in json.loads(done.stdout)[0]["lines"]}
    assert lines["hellaswag"]["verdict"] == "worse" and lines["hellaswag"]["adjusted"] < 0.05
    assert (
        lines["hellaswag"]["difference"]["worse"] >= 9 and lines["hellaswag"]["difference"]["test"] == "exact McNemar"
    )
    assert lines["mmlu"]["verdict"] == "no difference shown" and lines["mmlu"]["difference"]["smallest"] > 0.05
    assert lines["drop"]["difference"]["test"] in ("paired t by cluster", "sign test")
    assert lines["all seven"]["difference"]["value"] == pytest.approx(lines["hellaswag"]["difference"]["value"] / 7)


def test_the_table_says_it_in_words_and_in_markdown(good):
    shown = good("compare", "good.json", "bad.json", "a.json", env={"COLUMNS": "200"}).stdout
    assert shown.count("HellaSwag") >= 2 and "worse" in shown and "corrected by Holm over all lines" in shown
    markdown = good("compare", "good.json", "bad.json", "--format", "markdown").stdout
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1 and len(rows) == 2 + 7 + 2


def test_common_questions_are_compared_and_too_few_refused(good):
    folder = good.folder
    change(folder, "good.json", "half.json", lambda line: line["index"] < 6)
    done = good("compare", "good.json", "half.json")
    assert "6 questions in common, of 12 and 6" in done.stdout
    rng = random.Random(0)

    def moved(line):
        line["row"] += 10_000 if rng.random() < 0.97 else 0

    change(folder, "good.json", "other.json", moved)
    one = [reading.read(folder / name) for name in ("good.json", "other.json")]
    lines = (
        comparison.compare(one[0], [one[1]])[0].lines
        if any(len(set(one[0].tasks[n].questions) & set(one[1].tasks[n].questions)) >= 2 for n in one[0].tasks)
        else []
    )
    assert all("in common" in line.note for line in lines if line.difference is None)
    change(folder, "good.json", "none.json", lambda line: line.update(row=line["row"] + 10_000))
    assert "0 questions in common, of 12" in good.refused("compare", "good.json", "none.json")


def test_other_rows_protocols_and_missing_tasks_are_said(good):
    folder = good.folder

    def whole(result):
        result["data_hashes"]["gsm8k"] = {"test": "0" * 64, "train": "0" * 64}
        result["protocol"] |= {"name": "leaderboard"}

    change(folder, "good.json", "elsewhere.json", lambda line: line["task"] != "drop", whole)
    shown = good("compare", "good.json", "elsewhere.json", env={"COLUMNS": "200"}).stdout
    assert "other rows" in shown and "not in" in shown and "a difference mixes model and protocol" in shown
    assert "Mean of all seven" not in shown


def test_one_question_and_all_right_have_no_empty_interval(good):
    folder = good.folder
    change(folder, "good.json", "one.json", lambda line: line["index"] < 1)
    change(folder, "good.json", "right.json", lambda line: line.update(score=1.0))
    for names in (("one.json", "one.json"), ("right.json", "right.json")):
        first, second = (reading.read(folder / name) for name in names)
        for line in comparison.compare(first, [second])[0].lines:
            if line.difference:
                assert line.difference.low < 0 < line.difference.high
    shown = good("table", "right.json").stdout
    assert "± 0.00" not in shown and "[" in shown


def test_against_reported_scores_the_comparison_is_unpaired_and_says_so(good):
    folder = good.folder

    def claim(result):
        result["suite"].update(comparable=True, name="x")
        for entry in result["tasks"].values():
            entry["row_check"] = {}

    change(folder, "good.json", "real.json", lambda line: None, claim)
    shown = good("compare", "real.json", "--reported", "orca_mini_13b", env={"COLUMNS": "200"}).stdout
    assert "reported orca_mini_13b" in shown and "the comparison is weaker" in shown
    line = good.refused("compare", "good.json", "--reported", "orca_mini_13b")
    assert "which no reported score is of" in line
    assert "nothing to compare with" in good.refused("compare", "good.json")
    found = comparison.against_reported(reading.read(folder / "real.json"), table.read_reported())
    gsm8k = found.of("gsm8k").difference
    assert gsm8k.low < gsm8k.value < gsm8k.high and gsm8k.test == "unpaired z"


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda line: line.update(score=float("nan")), "'score': Input should be a finite number"),
        (lambda line: line.update(score=1.5), "'score': Input should be less than or equal to 1"),
        (lambda line: line.update(row=0), "stands here a second time"),
        (lambda line: line.pop("row"), "a question without 'row'"),
    ],
)
def test_broken_questions_are_named_with_their_line(good, edit, said):
    folder = good.folder
    shutil.copy(folder / "good.json", folder / "broken.json")
    lines = [json.loads(line) for line in (folder / "good.questions.jsonl").read_text().splitlines()]
    for line in lines:
        edit(line)
    (folder / "broken.questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    line = good.refused("compare", "good.json", "broken.json")
    assert said in line and "broken.questions.jsonl:" in line


def test_absent_questions_and_other_versions_are_refused(good):
    folder = good.folder
    (folder / "lonely.json").write_text((folder / "good.json").read_text())
    assert "copy both files" in good.refused("compare", "good.json", "lonely.json")
    (folder / "future.json").write_text((folder / "good.json").read_text().replace("result 3", "result 9"))
    assert "a result of version 9" in good.refused("table", "future.json")


# --- check ----------------------------------------------------------------------------------------------------------


def test_the_gate_lets_the_same_pass_and_stops_a_loss(good, tmp_path):
    change(good.folder, "good.json", "again.json", lambda line: None)
    done = good("check", "again.json", "--baseline", "good.json")
    assert done.returncode == 0 and "byte for byte" in done.stdout.replace("\n", " ")
    junit, summary, page = tmp_path / "gate.xml", tmp_path / "gate.md", tmp_path / "page.md"
    done = good(
        *("check", "bad.json", "--baseline", "good.json", "--junit", junit, "--summary", summary),
        env={"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(page)},
    )
    assert done.returncode == 1 and "failed: HellaSwag" in done.stdout and "hellaswag row" in done.stdout
    assert "::error title=orca-bench HellaSwag::worse by " in done.stdout
    suite = ElementTree.parse(junit).getroot()
    assert suite.get("failures") == "1" and suite.get("tests") == "8"
    assert [case.get("name") for case in suite if case.find("failure") is not None] == ["HellaSwag"]
    assert summary.read_text() == page.read_text() and "questions that turned" in summary.read_text()


def test_rules_set_the_smallest_loss_floors_and_tasks(good, tmp_path):
    rules = tmp_path / "rules.yaml"

    def code(text, result="bad.json"):
        rules.write_text(text)
        return good("check", result, "--baseline", "again.json", "--rules", rules).returncode

    change(good.folder, "good.json", "again.json", lambda line: None)
    assert code("smallest_loss: 99") == 0
    assert code("tasks: [gsm8k, drop]") == 0
    assert code("floors: {hellaswag: 99}", "good.json") == 0
    assert code("tasks: [gsm8k]\nfloors: {gsm8k: 90}", "good.json") == 1
    assert code("tasks: [gsm8k]\nfloors: {hellaswag: 90}", "good.json") == 0
    assert code("tasks: [gsm8k]\nfloors: {hellaswag: 90}", "bad.json") == 1  # a floor holds whatever is compared


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("levle: 0.1", "unknown key 'levle'; did you mean 'level'?"),
        ("level: 2", "level: 2 is no number from 0 to 1"),
        ("floors: {helaswag: 3}", "no task 'helaswag'; did you mean 'hellaswag'?"),
        ("- a", "rules are a mapping"),
        ("", "no rule in this file"),
        ("# level: 0.1", "no rule in this file"),
        ("{}", "no rule in this file"),
        ("tasks: []", "tasks are `all` or a list of some"),
        ("tasks:", "tasks are `all` or a list of some"),
        ("tasks: [hellaswag, gsm]", "no task 'gsm'"),
        ("floors:", "floors are points by task"),
        ("level: 0", "at a level of 0 no loss fails"),
        ("level: .nan", "is no number from 0 to 1"),
        ("a: [", "not YAML"),
    ],
)
def test_rules_that_are_none_are_named(tmp_path, text, said):
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        gate_rules.read_rules(path)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("whole", "said"),
    [
        (lambda r: r["protocol"].update(version=9), "other protocol"),
        (lambda r: r["protocol"].update(system="Be brief."), "other protocol"),
        (lambda r: r.update(limit=None), "other limit"),
        (lambda r: r["suite"].update(name="x"), "other suite"),
        (lambda r: r["data_hashes"].update(drop={"validation": "0"}), "other rows of DROP"),
        (lambda r: r.update(complete=False), "is unfinished"),
        (lambda r: r["tasks"]["mmlu"].update(requests_sha256="0"), "other requests of MMLU"),
        (lambda r: r["tasks"]["drop"].update(tokens_sha256="0"), "other token ids of DROP"),
        (lambda r: r["protocol"].update(max_new_tokens=9), "other protocol"),
        (lambda r: r["tasks"]["mmlu"].pop("requests_sha256"), "does not say what was asked of MMLU"),
        (lambda r: r["data_hashes"].pop("drop"), "does not say what was asked of DROP"),
        (lambda r: r.update(format="orca-bench result 2"), "rows were hashed otherwise"),
    ],
)
def test_what_cannot_be_compared_fails(good, whole, said):
    path = change(good.folder, "good.json", "off.json", lambda line: line["row"] != -1, whole)
    made = gate.check(reading.read(path), [reading.read(good.folder / "good.json")], gate.Rules())
    assert not made.passed and said in gate_formats.headline(made)
    assert ElementTree.fromstring(gate_formats.to_junit(made)).get("failures") == "1"
    assert gate_formats.annotations(made)[0].startswith("::error title=orca-bench not comparable::")


def test_a_task_that_is_missing_fails(good):
    path = change(good.folder, "good.json", "less.json", lambda line: line["task"] != "gsm8k")
    made = gate.check(reading.read(path), [reading.read(good.folder / "good.json")], gate.Rules())
    assert [v.title for v in made.verdicts if not v.passed] == ["GSM8K"]


def test_with_several_baselines_a_loss_must_be_larger_than_what_seeds_do(good):
    """HellaSwag wavers between seeds by thirty points: 0.5 is nothing new there, though the questions alone would show it."""
    folder = good.folder
    shares = [1.0, 0.6, 0.9, 0.7, 1.0]
    seeds = [
        reading.read(change(folder, "good.json", f"seed{i}.json", scores(i, hellaswag=share, arc_challenge=0.4)))
        for i, share in enumerate(shares)
    ]
    new = reading.read(change(folder, "good.json", "new.json", scores(77, hellaswag=0.5)))
    lost = reading.read(change(folder, "good.json", "lost.json", scores(78, winogrande=0.0)))
    assert gate.check(new, seeds, gate.Rules()).passed
    made = gate.check(lost, seeds, gate.Rules())
    assert [v.title for v in made.verdicts if not v.passed] == ["Winogrande"]


def fallen(folder, name, seed, task="hellaswag", share=0.0):
    return reading.read(change(folder, "good.json", name, scores(seed, **{task: share})))


def test_two_baselines_show_a_fall_to_nothing(good):
    folder = good.folder
    one_wrong = change(
        folder, "good.json", "two.json", lambda line: line.update(score=0.0) if line["index"] == 3 else None
    )
    seeds = [reading.read(folder / "good.json"), reading.read(one_wrong)]
    assert [seed.data["tasks"]["hellaswag"]["n"] for seed in seeds] == [12, 12]
    made = gate.check(fallen(folder, "fell.json", 3), seeds, gate.Rules())
    assert [v.title for v in made.verdicts if not v.passed] == ["HellaSwag"]


def test_one_run_is_not_counted_twice(good, tmp_path):
    folder = good.folder
    change(folder, "good.json", "copy.json", lambda line: None)
    for ending in (".json", ".questions.jsonl"):
        (folder / f"link{ending}").symlink_to(f"good{ending}")
    for words, said in (
        (("good.json", "--baseline", "good.json"), "it is the result itself"),
        (("good.json", "--baseline", "link.json"), "it is the result itself"),
        (("bad.json", "--baseline", "good.json", "--baseline", "./good.json"), "it is given twice"),
        (("bad.json", "--baseline", "good.json", "--baseline", "copy.json"), "are those of good.json, byte for byte"),
    ):
        assert said in good.refused("check", *words)


def test_nothing_passes_unexamined(good):
    folder = good.folder
    base = reading.read(folder / "good.json")
    less = reading.read(change(folder, "good.json", "less2.json", lambda line: line["task"] not in ("drop", "gsm8k")))
    made = gate.check(base, [less], gate.Rules())
    assert made.passed and made.notes == ["not examined: GSM8K, DROP"]
    assert "not examined: GSM8K, DROP" in gate_formats.to_markdown(made)
    made = gate.check(base, [less], gate.Rules(tasks=("drop",)))
    assert not made.passed and "not in" in made.verdicts[0].reason
    assert not gate.check(less, [base], gate.Rules(tasks=("arc_challenge",), floors={"drop": 0.0})).passed
    nothing = reading.ResultFile(folder / "bad.json", "n", base.data | {"tasks": {}}, {})
    made = gate.check(base, [nothing], gate.Rules())
    assert not made.passed and not made.verdicts
    fewer = reading.read(change(folder, "good.json", "fewer.json", lambda line: line["index"] < 11))
    made = gate.check(fewer, [base], gate.Rules())
    assert not any(verdict.passed for verdict in made.verdicts)
    assert "11 questions in common, of 11 here and 12 in" in made.verdicts[0].reason


def test_a_result_that_was_changed_by_hand_fails(good):
    folder = good.folder
    path = change(folder, "good.json", "hand.json", lambda line: line["row"] != -1)
    path.write_text(path.read_text().replace('"name": "tiny', '"name": "other', 1))
    made = gate.check(reading.read(path), [reading.read(folder / "good.json")], gate.Rules())
    assert not made.passed and "was changed after it was written" in gate_formats.headline(made)


# --- verify ---------------------------------------------------------------------------------------------------------


def test_a_result_matches_its_kept_answers(evaluated, mini):
    done = evaluated("verify", "a.json", "--benchmarks", mini["mini:benchmarks"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every number matches the kept answers" in done.stdout and done.stdout.count("✓") == 2 + 6 * 7 + 6
    assert evaluated("verify", "a.json", "--no-rescore", "--json").returncode == 0


def edited(folder, name, old, new):
    """A copy of both files in which a string is replaced once."""
    for ending in (".json", ".questions.jsonl"):
        text = (folder / "a").with_suffix(ending).read_text()
        (folder / f"edited{ending}").write_text(text.replace(old, new, 1) if ending == name else text)


def test_a_changed_digit_is_found_wherever_it_is(evaluated, mini):
    from orca_bench.evaluate.verification import verify

    folder, rows = evaluated.folder, mini["mini:benchmarks"]
    result = json.loads((folder / "a.json").read_text())
    line = json.loads((folder / "a.questions.jsonl").read_text().splitlines()[0])
    value, answer = result["tasks"]["mmlu"]["value"], line["answers"][line["prediction"]]
    for ending, old, new, found in (
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
        edited(folder, ending, old, new)
        wrong = [finding.what for finding in verify(folder / "edited.json", rows) if finding.matches is False]
        assert (
            wrong == ["hash of the whole result", *found]
            if found
            else {"hash of the questions", "ARC-Challenge: scores"} <= set(wrong)
        ), (
            old,
            wrong,
        )
    edited(folder, ".questions.jsonl", line["task"], line["task"])
    assert not [f for f in verify(folder / "edited.json", rows) if f.matches is False]


def numbers(tree, path=()):
    """The place of every number in a tree of JSON."""
    if isinstance(tree, bool):
        return
    if isinstance(tree, (int, float)):
        yield path
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield from numbers(value, (*path, key))


def test_any_number_of_any_task_and_average_that_changes_is_found(evaluated):
    from orca_bench.evaluate.verification import verify

    folder = evaluated.folder
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
        assert any(f.matches is False for f in verify(folder / "digit.json", None, with_rows=False)), place


def test_verify_says_what_it_cannot_read(evaluated, mini):
    assert "no such file" in evaluated.refused("verify", "nothing.json")
    (evaluated.folder / "alone.json").write_text((evaluated.folder / "a.json").read_text())
    assert "no such file" in evaluated.refused("verify", "alone.json", "--benchmarks", mini["mini:benchmarks"])
