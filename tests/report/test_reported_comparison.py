"""Comparison with reported scores, of which only the number is known."""

from changed_results import change_result, no_change

from orca_bench.report.reported_comparison import compare_with_reported
from orca_bench.report.reported_scores import read_reported_scores
from orca_bench.results import reading


def test_against_reported_scores_the_comparison_is_unpaired_and_says_so(in_results_folder):
    folder = in_results_folder.folder

    def be_comparable(result):
        result["suite"].update(comparable=True, name="x")
        for entry in result["tasks"].values():
            entry["row_check"] = {}

    change_result(folder, "good.json", "real.json", no_change, be_comparable)
    output = in_results_folder("compare", "real.json", "--reported", "orca_mini_13b", env={"COLUMNS": "200"}).stdout
    assert "the reported orca_mini_13b" in output and "is not by question, and weaker" in " ".join(output.split())
    error = in_results_folder.refused("compare", "good.json", "--reported", "orca_mini_13b")
    assert "which no reported score is of" in error
    assert "nothing to compare with" in in_results_folder.refused("compare", "good.json")
    comparison = compare_with_reported(reading.read_with_questions(folder / "real.json"), read_reported_scores())
    gsm8k = comparison.line("gsm8k").difference
    assert gsm8k.low < gsm8k.value < gsm8k.high and gsm8k.test == "unpaired z"
