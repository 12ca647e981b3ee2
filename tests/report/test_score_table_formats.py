"""The forms of the table of scores."""

import csv
import io
import json
import re

import pytest
from result_contents import result_content, score_table

from orca_bench.report.grid import shorter_score_texts
from orca_bench.report.grid_terminal import to_rich
from orca_bench.report.score_table_formats import LEGENDS, to_csv, to_grid, to_json


def test_csv_and_json_hold_what_the_table_shows():
    table = score_table(result_content(), result_content(protocol="plain", value=0.25))
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert len(rows) == 18 and {row["result"] for row in rows} == {"orca", "plain"}
    assert float(rows[0]["measured"]) == 50 and float(rows[1]["difference"]) == pytest.approx(25 - 42.06)
    content = json.loads(to_json(table))
    assert content["lines"][6]["measured"]["plain"]["value"] == 25
    assert content["lines"][7]["title"] == "Mean of all seven"


def test_the_terminal_table_shows_every_task_and_both_averages():
    from rich.console import Console

    console = Console(file=io.StringIO(), width=160)
    console.print(to_rich(to_grid(score_table(result_content()))))
    output = console.file.getvalue()
    for text in (
        "ARC-Challenge",
        "DROP",
        "Mean of all seven",
        "37.06",
        "Mean without DROP",
        "41.36",
        "50.00 ± 1.00",
    ):
        assert text in output


def test_an_error_that_is_a_part_of_the_interval_is_marked_and_explained():
    without_spread, with_spread = shorter_score_texts(1.0, 0.0, (0.96, 1.0)), shorter_score_texts(0.5, 0.02, (0.4, 0.6))
    assert without_spread[0] == "100.0±1.0*" and with_spread[0] == "50.0±2.0"

    def legends(text):
        return [legend for sign, legend in LEGENDS.items() if re.search(sign, text)]

    assert any("a quarter of the 95 % interval" in legend for legend in legends(without_spread[0]))
    assert legends(with_spread[0]) == ["± standard error"]
