"""Results that anyone may have written: with keys dropped and types changed, every report says one line, or works."""

import contextlib
import copy
import json
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import EXAMPLES
from synthetic_results import random_result

from orca_bench.errors import UserError
from orca_bench.evaluate import verification
from orca_bench.files import file_sha256
from orca_bench.report import comparison_formats, gate, gate_formats, grid_formats, score_table_formats
from orca_bench.report.comparison import compare
from orca_bench.report.gate_rules import GateRules
from orca_bench.report.html_page import page_pieces
from orca_bench.report.model_card import card_scores, eval_results, update_card
from orca_bench.report.pictures import build_pictures, write_picture
from orca_bench.report.reported_comparison import compare_with_reported
from orca_bench.report.reported_scores import read_reported_scores
from orca_bench.report.score_table import build_score_table
from orca_bench.results import hashing, reading
from orca_bench.results.coverage import leaf_paths

JUNK = st.sampled_from(
    [None, True, False, 0, -1, 1, 3, 10**400, 0.5, -0.5, 1e308, float("nan"), float("inf"), "", "x", "a\ud800", "../x"]
    + [[], [1], ["x"], [None, 2.0], {}, {"a": 1}, {"name": "x"}, {"value": 0.5}, {"x": {"value": 0.5}}]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    random_result(folder, "a", 0.5, seed=1, tasks=["arc_challenge", "mmlu", "drop"])
    random_result(folder, "base", 0.5, seed=2, tasks=["arc_challenge", "mmlu", "drop"])
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
    reported = read_reported_scores()
    whole = reading.read_with_questions(base)

    def read():
        return reading.read_with_questions(path, reading.read_result(path).model.name)

    def tables():
        table = build_score_table([("a", reading.read_result(path)), ("b", whole.result)], reported)
        score_table_formats.to_csv(table)
        score_table_formats.to_json(table)
        for form in (grid_formats.to_markdown, grid_formats.to_latex, grid_formats.to_html):
            form(score_table_formats.to_grid(table))

    def comparisons():
        for comparison in compare(whole, [read()]) + compare(read(), [whole]):
            grid_formats.to_markdown(comparison_formats.to_grid(comparison))
            comparison_formats.to_json([comparison])
        compare_with_reported(read(), reported)

    def gate_reports():
        with_floor = GateRules(floors={"drop": 3.0})
        for report in (gate.check(read(), [whole], GateRules()), gate.check(whole, [read()], with_floor)):
            gate_formats.to_markdown(report, 3)
            gate_formats.to_junit(report, 3)
            json.dumps(gate_formats.to_json(report))

    def page():
        list(page_pieces("t", [read(), whole], reported, [None, None]))

    def card():
        scores, notes = card_scores(reading.read_result(path))
        if scores:
            update_card(None, "m", eval_results(scores, None, notes), path)

    def pictures():
        for picture in build_pictures([read()], reported):
            write_picture(picture, path.parent / "pictures")

    def verification_findings():
        verification.verify(path, None, should_check_rows=False)

    extra = [pictures] if with_pictures else []
    for report in (tables, comparisons, gate_reports, page, card, verification_findings, *extra):
        with contextlib.suppress(UserError):
            report()


def fuzz_result(folder, data, with_pictures=False):
    result = broken(data, json.loads((folder / "a.json").read_text()))
    with contextlib.suppress(Exception):  # as one who changes a result on purpose would
        result["result_sha256"] = hashing.compute_content_sha256(result)
    (folder / "b.json").write_text(json.dumps(result))
    shutil.copy(folder / "a.questions.jsonl", folder / "b.questions.jsonl")
    reports(folder / "b.json", folder / "base.json", with_pictures)


def fuzz_questions(folder, data):
    lines = [json.loads(line) for line in (folder / "a.questions.jsonl").read_text().splitlines()]
    place = data.draw(st.integers(0, len(lines) - 1))
    lines[place] = broken(data, lines[place])
    (folder / "c.questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = json.loads((folder / "a.json").read_text())
    result["questions_sha256"] = file_sha256(folder / "c.questions.jsonl")
    (folder / "c.json").write_text(json.dumps(result | {"result_sha256": hashing.compute_content_sha256(result)}))
    reports(folder / "c.json", folder / "base.json", False)


@EXAMPLES
@given(data=st.data())
def test_broken_results_are_said_in_one_line_by_every_report(folder, data):
    fuzz_result(folder, data)


@settings(EXAMPLES, max_examples=8)
@given(data=st.data())
def test_broken_results_are_said_in_one_line_by_pictures(folder, data):
    fuzz_result(folder, data, with_pictures=True)


@EXAMPLES
@given(data=st.data())
def test_broken_questions_are_said_in_one_line_by_every_report(folder, data):
    fuzz_questions(folder, data)


@pytest.mark.slow
def test_every_key_of_a_result_may_be_missing(folder):
    result = json.loads((folder / "a.json").read_text())
    shutil.copy(folder / "a.questions.jsonl", folder / "b.questions.jsonl")
    for place in leaf_paths(result):
        less = copy.deepcopy(result)
        holder = less
        for key in place[:-1]:
            holder = holder[int(key)] if isinstance(holder, list) else holder[key]
        del holder[int(place[-1]) if isinstance(holder, list) else place[-1]]
        (folder / "b.json").write_text(json.dumps(less))
        reports(folder / "b.json", folder / "base.json", False)
