"""Results that anyone may have written: with keys dropped and types changed, every report says one line, or works."""

import contextlib
import copy
import json
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_results import drawn

from orca_bench.errors import UserError
from orca_bench.evaluate import verification
from orca_bench.evaluate.verification_coverage import leaves
from orca_bench.report import comparison as compare
from orca_bench.report import gate, gate_formats, grid_formats, leaderboard, model_card, page, pictures, table
from orca_bench.report.gate_rules import Rules
from orca_bench.results import reading

JUNK = st.sampled_from(
    [None, True, False, 0, -1, 1, 3, 10**400, 0.5, -0.5, 1e308, float("nan"), float("inf"), "", "x", "a\ud800", "../x"]
    + [[], [1], ["x"], [None, 2.0], {}, {"a": 1}, {"name": "x"}, {"value": 0.5}, {"x": {"value": 0.5}}]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    drawn(folder, "a", 0.5, seed=1, tasks=["arc_challenge", "mmlu", "drop"])
    drawn(folder, "base", 0.5, seed=2, tasks=["arc_challenge", "mmlu", "drop"])
    return folder


def inner(value, place=()):
    """The places of everything in a tree, holders among them."""
    if place:
        yield place
    for key, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from inner(part, (*place, key))


def broken(data, tree):
    """A tree with up to three parts dropped or replaced by junk."""
    tree = copy.deepcopy(tree)
    for _ in range(data.draw(st.integers(1, 3))):
        places = list(inner(tree))
        if not places:
            break
        place = data.draw(st.sampled_from(places))
        holder = tree
        for key in place[:-1]:
            holder = holder[key]
        if data.draw(st.booleans()):
            del holder[place[-1]]
        else:
            holder[place[-1]] = copy.deepcopy(data.draw(JUNK))
    return tree


def reports(path, base, with_pictures):
    """Every report of a result, one after the other; a UserError of one does not keep the next from being made."""
    reported = table.read_reported()
    whole = reading.read(base)

    def read():
        return reading.read(path, reading.read_result(path)["model"]["name"])

    def tables():
        built = table.build([("a", reading.read_result(path)), ("b", whole.data)], reported)
        table.to_csv(built)
        table.to_json(built)
        for form in (grid_formats.to_markdown, grid_formats.to_latex, grid_formats.to_html):
            form(table.grid(built))

    def compared():
        for comparison in compare.compare(whole, [read()]) + compare.compare(read(), [whole]):
            grid_formats.to_markdown(compare.grid(comparison))
            compare.to_json([comparison])
        compare.against_reported(read(), reported)

    def gated():
        for verdict in (gate.check(read(), [whole], Rules()), gate.check(whole, [read()], Rules(floors={"drop": 3.0}))):
            gate_formats.to_markdown(verdict)
            gate_formats.to_junit(verdict)
            json.dumps(gate_formats.to_json(verdict))

    def paged():
        grid = leaderboard.build([read(), whole], [reported])
        list(page.build("t", [read(), whole], grid, [], [None, None]))

    def carded():
        scores, notes = model_card.scores_of(reading.read_result(path))
        if scores:
            model_card.update(None, "m", model_card.eval_results(scores, None, notes), path)

    def drawn_pictures():
        pictures.draw([read()], reported, path.parent / "pictures")

    def verified():
        verification.verify(path, None, with_rows=False)

    for report in (tables, compared, gated, paged, carded, verified, *([drawn_pictures] if with_pictures else [])):
        with contextlib.suppress(UserError):
            report()


def fuzz_result(folder, data, with_pictures=False):
    result = broken(data, json.loads((folder / "a.json").read_text()))
    with contextlib.suppress(Exception):  # as one who changes a result on purpose would
        result["result_sha256"] = reading.seal(result)
    (folder / "b.json").write_text(json.dumps(result))
    shutil.copy(folder / "a.questions.jsonl", folder / "b.questions.jsonl")
    reports(folder / "b.json", folder / "base.json", with_pictures)


def fuzz_questions(folder, data):
    lines = [json.loads(line) for line in (folder / "a.questions.jsonl").read_text().splitlines()]
    place = data.draw(st.integers(0, len(lines) - 1))
    lines[place] = broken(data, lines[place])
    (folder / "c.questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = json.loads((folder / "a.json").read_text())
    result["questions_sha256"] = reading.sha256(folder / "c.questions.jsonl")
    (folder / "c.json").write_text(json.dumps(result | {"result_sha256": reading.seal(result)}))
    reports(folder / "c.json", folder / "base.json", False)


OPTIONS = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}


@settings(max_examples=100, **OPTIONS)
@given(data=st.data())
def test_broken_results_are_said_in_one_line_by_every_report(folder, data):
    fuzz_result(folder, data)


@settings(max_examples=8, **OPTIONS)
@given(data=st.data())
def test_broken_results_are_said_in_one_line_by_pictures(folder, data):
    fuzz_result(folder, data, with_pictures=True)


@settings(max_examples=100, **OPTIONS)
@given(data=st.data())
def test_broken_questions_are_said_in_one_line_by_every_report(folder, data):
    fuzz_questions(folder, data)


@pytest.mark.slow
@settings(max_examples=2000, **OPTIONS)
@given(data=st.data())
def test_many_broken_results_are_said_in_one_line(folder, data):
    fuzz_result(folder, data)
    fuzz_questions(folder, data)


@pytest.mark.slow
def test_every_key_of_a_result_may_be_missing(folder):
    result = json.loads((folder / "a.json").read_text())
    shutil.copy(folder / "a.questions.jsonl", folder / "b.questions.jsonl")
    for place in leaves(result):
        less = copy.deepcopy(result)
        holder = less
        for key in place[:-1]:
            holder = holder[int(key)] if isinstance(holder, list) else holder[key]
        del holder[int(place[-1]) if isinstance(holder, list) else place[-1]]
        (folder / "b.json").write_text(json.dumps(less))
        reports(folder / "b.json", folder / "base.json", False)
