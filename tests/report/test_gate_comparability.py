"""What the gate does not compare: other protocols, rows, requests; changed results; one run counted twice."""

from xml.etree import ElementTree

import pytest
from changed_results import change_result, no_change

from orca_bench.report import gate_formats
from orca_bench.report.gate import check
from orca_bench.report.gate_rules import GateRules
from orca_bench.report.gate_sentence import gate_sentence
from orca_bench.results import reading


@pytest.mark.parametrize(
    ("edit_result", "message"),
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
def test_what_cannot_be_compared_fails(in_results_folder, edit_result, message):
    path = change_result(in_results_folder.folder, "good.json", "off.json", lambda line: line["row"] != -1, edit_result)
    report = check(
        reading.read_with_questions(path),
        [reading.read_with_questions(in_results_folder.folder / "good.json")],
        GateRules(),
    )
    assert not report.passed and message in gate_sentence(report)
    assert ElementTree.fromstring(gate_formats.to_junit(report, 3)).get("failures") == "1"
    assert gate_formats.to_annotations(report)[0].startswith("::error title=orca-bench not comparable::")


def test_one_run_is_not_counted_twice(in_results_folder, tmp_path):
    folder = in_results_folder.folder
    change_result(folder, "good.json", "copy.json", no_change)
    for ending in (".json", ".questions.jsonl"):
        (folder / f"link{ending}").symlink_to(f"good{ending}")
    for arguments, message in (
        (("good.json", "--baseline", "good.json"), "it is the result itself"),
        (("good.json", "--baseline", "link.json"), "it is the result itself"),
        (("bad.json", "--baseline", "good.json", "--baseline", "./good.json"), "it is given twice"),
        (("bad.json", "--baseline", "good.json", "--baseline", "copy.json"), "are those of good.json, byte for byte"),
    ):
        assert message in in_results_folder.refused("check", *arguments)


def test_a_result_that_was_changed_by_hand_fails(in_results_folder):
    folder = in_results_folder.folder
    path = change_result(folder, "good.json", "hand.json", lambda line: line["row"] != -1)
    path.write_text(path.read_text().replace('"name": "tiny', '"name": "other', 1))
    report = check(reading.read_with_questions(path), [reading.read_with_questions(folder / "good.json")], GateRules())
    assert not report.passed and "was changed after it was written" in gate_sentence(report)
