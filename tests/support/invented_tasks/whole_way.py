"""Two invented tasks on their whole way, from the suite's facts to a gate; tests/test_suite.py reads the JSON that is printed.

    python tests/support/invented_tasks/whole_way.py FOLDER

A process of its own, because the modules of the package read the tables of suite.py when they are imported.
"""

import importlib.abc
import importlib.util
import json
import sys
from pathlib import Path

from orca_bench import suite

INVENTED = (
    suite.TaskFacts(
        name="poetry",
        title="Poetry",
        shots=1,
        metric="acc",
        hub_dataset=("nobody/poetry", None),
        evaluation_split="test",
        few_shot_split="train",
        row_count_by_split={"test": 4, "train": 2},
        subject_column="poet",
    ),
    suite.TaskFacts(
        name="riddles",
        title="Riddles",
        shots=0,
        metric="acc",
        hub_dataset=("nobody/riddles", None),
        evaluation_split="test",
        few_shot_split=None,
        row_count_by_split={"test": 2},
    ),
)
ROWS = {
    ("poetry", "test"): [
        {"line": f"{poet} {n}", "poet": poet, "next": ["a", "bc"], "answer": 0}
        for poet, n in zip("xxxy", range(4), strict=True)
    ],
    ("poetry", "train"): [{"line": f"{poet}!", "poet": poet, "next": ["a", "bc"], "answer": 1} for poet in "xy"],
    ("riddles", "test"): [{"riddle": f"Who, {n}?", "answer": "I"} for n in range(2)],
}


class _Modules(importlib.abc.MetaPathFinder):
    """Finds the modules of the invented tasks beside this file, as if they lay in evaluate/tasks."""

    def find_spec(self, fullname, path=None, target=None):
        package, _, name = fullname.rpartition(".")
        if package != "orca_bench.evaluate.tasks" or name not in ("poetry", "riddles"):
            return None
        return importlib.util.spec_from_file_location(fullname, Path(__file__).with_name(f"{name}.py"))


suite.ALL_TASKS += INVENTED
suite.TASK_BY_NAME.update({facts.name: facts for facts in INVENTED})
sys.meta_path.insert(0, _Modules())

from orca_bench.errors import UserError  # noqa: E402
from orca_bench.evaluate import config_building, offline_scoring, verification  # noqa: E402
from orca_bench.evaluate.harness import plain_protocol  # noqa: E402
from orca_bench.evaluate.tasks import select  # noqa: E402
from orca_bench.files import write_json, write_json_lines  # noqa: E402
from orca_bench.report import gate_comparability  # noqa: E402
from orca_bench.report.model_card import eval_results  # noqa: E402
from orca_bench.report.reported_scores import read_reported_scores  # noqa: E402
from orca_bench.report.score_table import build_score_table  # noqa: E402
from orca_bench.results.hashing import sha256_of_all_requests  # noqa: E402
from orca_bench.results.merging import ResultOutput  # noqa: E402
from orca_bench.results.reading import questions_path_for, read_questions, read_with_questions  # noqa: E402
from orca_bench.results.writing import write_result  # noqa: E402


def main(folder: Path) -> dict:
    benchmarks = folder / "benchmarks"
    for (task, split), rows in ROWS.items():
        (benchmarks / task).mkdir(parents=True, exist_ok=True)
        write_json_lines(benchmarks / task / f"{split}.jsonl", rows)
    write_json(benchmarks / "suite.json", {"name": "invented"})
    return {
        protocol: one_protocol(protocol, benchmarks, folder / protocol) for protocol in ("leaderboard", "orca", "chat")
    } | {
        "plain": [refusal(name) for name in ("poetry", "riddles")],
        "card": [entry.dataset_name for entry in eval_results({"poetry": 1.0, "gsm8k": 2.0}, None)],
    }


def one_protocol(protocol: str, benchmarks: Path, folder: Path) -> dict:
    folder.mkdir()
    write_answers(protocol, benchmarks, folder / "answers.jsonl")
    result = score(protocol, benchmarks, folder / "both.json")
    whole = read_with_questions(folder / "both.json")
    earlier = earlier_result(protocol, benchmarks, folder / "earlier.json")
    facts = {
        "tasks": {name: entry.to_json() for name, entry in result.tasks.items()},
        "protocol": result.protocol.to_json(),
        "failures": [
            finding.check_name
            for path in (folder / "both.json", folder / "earlier.json")
            for finding in verification.verify(path, benchmarks)
            if finding.matches is False
        ],
        "lines": [line.name for line in build_score_table([("m", result)], read_reported_scores()).lines],
        "reasons": [str(obstacle) for obstacle in gate_comparability.obstacles_to_comparison(whole, [earlier])],
    }
    result.tasks = {}  # as before an evaluation of the riddles
    output = ResultOutput(folder / "earlier.json", result, {"riddles": result.data_hashes["riddles"]})
    return facts | {"merged": [*result.order], "notes": output.notes}


def write_answers(protocol: str, benchmarks: Path, path: Path) -> None:
    """Answers to all requests, all of them right but for the poetry of x, which is all wrong."""
    selection = config_building.request_selection(protocol=protocol, benchmarks=benchmarks)
    offline_scoring.write_requests(selection, path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        right = line["task"] != "poetry_x"
        line["answer"] = "I" if line["task"] == "riddles" else -1.0 if (line["request"] == 0) == right else -2.0
    write_json_lines(path, lines)


def score(protocol: str, benchmarks: Path, out: Path):
    selection = config_building.request_selection(protocol=protocol, benchmarks=benchmarks)
    return offline_scoring.score_answers(out.with_name("answers.jsonl"), selection, out, "m")


def earlier_result(protocol: str, benchmarks: Path, path: Path):
    """A result of poetry as a program wrote it that did not know the riddles yet."""
    result = score(protocol, benchmarks, path)
    result.order = ["poetry"]
    del result.tasks["riddles"], result.data_hashes["riddles"]
    result.requests_sha256 = sha256_of_all_requests(result)
    limits = result.protocol.max_new_tokens
    del limits["riddles"]
    result.protocol.max_new_tokens = limits if len(set(limits.values())) > 1 else next(iter(limits.values()))
    if result.protocol.scoring is not None:
        del result.protocol.scoring["riddles"]
    questions = [question for _, question in read_questions(questions_path_for(path))]
    write_result(path, result, [question for question in questions if question.suite_task == "poetry"])
    return read_with_questions(path)


def refusal(name: str) -> str | None:
    try:
        plain_protocol.harness_facts(select(name)[0])
    except UserError as error:
        return str(error)
    return None


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
