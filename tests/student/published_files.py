"""Runs, results and models in; out, in a folder, what of them is small and may stand in a repository.

    python tests/student/published_files.py --to published --run runs/mine --result runs/mine/results/orca.json --name mine-orca

Of a run: recipe, manifest, curves, the metrics of each step (compressed), and the hashes of the model's weights, never the
weights. Of a result: the file itself and its questions (compressed), without the texts that a benchmark or a model wrote; scores,
choices, log-probabilities, rows and clusters stay, so that every comparison can be computed again. Of other models the hashes
alone. Its own module because `publish` writes everything of one model for its readers, texts included.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT))

from orca_bench.errors import UserError
from orca_bench.files import file_sha256, make_writable_folder, open_text_replacement, write_json
from orca_bench.results.models import Question, question_from_json
from orca_bench.results.reading import questions_path_for, read_result, read_with_questions
from orca_bench.results.writing import write_result
from orca_bench.train.run_folder import Run

#: What a question may hold texts in: a right answer, a model's own, and what was cut off it.
_TEXT_FIELDS = ("prediction", "gold", "answers", "whole")
_WEIGHT_PATTERNS = ("*.safetensors", "*.gguf")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, required=True, metavar="DIR")
    parser.add_argument("--run", type=Path, action="append", default=[], metavar="DIR", help="the folder of a run")
    parser.add_argument("--result", type=Path, action="append", default=[], metavar="FILE")
    parser.add_argument("--name", action="append", default=[], help="of each --result, without .json, in their order")
    parser.add_argument(
        "--weights", type=Path, action="append", default=[], metavar="PATH", help="folder or file of another model"
    )
    options = parser.parse_args()
    try:
        if len(options.name) != len(options.result):
            raise UserError(f"{len(options.result)} results and {len(options.name)} names", where="--name")
        make_writable_folder(options.to)
        for run_folder in options.run:
            publish_run(Run(run_folder), options.to)
        for path, name in zip(options.result, options.name, strict=True):
            publish_result(path, options.to / f"{name}.json")
        for path in options.weights:
            write_json(options.to / f"{path.name}.weights.json", weight_hashes(path))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def publish_run(run: Run, folder: Path) -> None:
    """Copy the small files of a run, each with the run's name before its own. Raises UserError for a run that is not finished."""
    if run.status != "finished":
        raise UserError(f"is {run.status}, not finished", where=run.folder)
    name = run.folder.name
    check_no_private_path(run.manifest, run.manifest_file)
    check_no_private_path(run.recipe_file.read_text(encoding="utf-8").splitlines(), run.recipe_file)
    for source in (run.recipe_file, run.manifest_file, run.curves_file):
        shutil.copyfile(source, folder / f"{name}.{source.name}")
    with open_text_replacement(folder / f"{name}.metrics.jsonl.gz") as handle:
        handle.write(run.metrics_file.read_text(encoding="utf-8"))
    write_json(folder / f"{name}.weights.json", weight_hashes(run.model))


def publish_result(path: Path, published_path: Path) -> None:
    """Write a result and its questions without texts. The hashes in it are those of the files that are written.

    Raises UserError where the questions are not beside the result, or are not its own.
    """
    questions = [
        question_without_texts(question)
        for task_questions in read_with_questions(path).questions_by_task.values()
        for question in task_questions.questions_by_key.values()
    ]
    result = read_result(path)
    check_no_private_path(result.to_json(), path)
    with tempfile.TemporaryDirectory() as temporary_folder:
        temporary_path = Path(temporary_folder) / published_path.name
        write_result(temporary_path, result, questions)
        shutil.copyfile(temporary_path, published_path)
        questions_text = questions_path_for(temporary_path).read_text(encoding="utf-8")
    with open_text_replacement(Path(f"{questions_path_for(published_path)}.gz")) as handle:
        handle.write(questions_text)


def question_without_texts(question: Question) -> Question:
    """The question without its fields that hold a text; of a text task the list of answers is empty."""
    content = question.to_json()
    for field_name in _TEXT_FIELDS:
        if holds_text(content.get(field_name)):
            del content[field_name]
    content.setdefault("answers", [])
    for field_name in ("ran_out", "greedy"):
        if not content["answers"]:
            content.pop(field_name, None)
    return question_from_json(content)


def holds_text(json_value: Any) -> bool:
    """Whether a JSON value is a text, or has one in it."""
    if isinstance(json_value, dict):
        return any(map(holds_text, json_value.values()))
    return any(map(holds_text, json_value)) if isinstance(json_value, list) else isinstance(json_value, str)


def check_no_private_path(content: Any, where: Path) -> None:
    """Raise UserError where a JSON value has the path of a folder of this machine, alone or in a longer text."""
    if isinstance(content, str):
        private_folders = [folder for folder in map(str, (Path.home(), Path.cwd(), CHECKOUT)) if len(folder) > 1]
        path = next((folder for folder in private_folders if folder in content), None)
        if path is None and content.startswith("/") and Path(content).exists():
            path = content
        if path is not None:
            raise UserError(
                f"names {path}, a path of this machine", where=where, hint="name files relative to the folder"
            )
    values = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    for value in values:
        check_no_private_path(value, where)


def weight_hashes(folder_or_file: Path) -> dict[str, str]:
    """The SHA-256 of each file of weights, by its name; raises UserError where there is none."""
    files = [folder_or_file] if folder_or_file.is_file() else _weight_files(folder_or_file)
    if not files:
        raise UserError("no weights are here", where=folder_or_file)
    return {file.name: file_sha256(file) for file in files}


def _weight_files(folder: Path) -> list[Path]:
    return sorted(file for pattern in _WEIGHT_PATTERNS for file in folder.glob(pattern))


if __name__ == "__main__":
    sys.exit(main())
