"""A small data recipe and its instruction files, for tests of `data build`."""

import json
from pathlib import Path

from orca_bench import yaml_files

ALPACA_ROWS = [
    {"instruction": f"Name {number} rivers.", "input": "of Europe" if number % 3 == 0 else "", "output": "The Rhine."}
    for number in range(1, 13)
]
DOLLY_ROWS = [
    {"instruction": f"Why is {number} odd?", "context": "", "response": "It is not.", "category": "open_qa"}
    for number in range(1, 9)
]

RECIPE = """\
name: small
seed: 3
sources:
  alpaca:
    files: alpaca.json
    license: cc-by-nc-4.0
  dolly:
    files: dolly.jsonl
    license: cc-by-sa-3.0
teacher:
  base_url: http://127.0.0.1:9/v1
  model: teacher
  parameters: {temperature: 0.7, max_tokens: 64}
  price: {input: 1.0, output: 2.0}
budget: 5
"""


def write_build_inputs(folder: Path, recipe_text: str = RECIPE, base_url: str | None = None) -> Path:
    """Write recipe.yaml and its two instruction files into a folder; returns the recipe's path."""
    (folder / "alpaca.json").write_text(json.dumps(ALPACA_ROWS), encoding="utf-8")
    (folder / "dolly.jsonl").write_text("".join(json.dumps(row) + "\n" for row in DOLLY_ROWS), encoding="utf-8")
    recipe_text = recipe_text.replace("alpaca.json", str(folder / "alpaca.json"))
    recipe_text = recipe_text.replace("dolly.jsonl", str(folder / "dolly.jsonl"))
    if base_url is not None:
        recipe_text = recipe_text.replace("http://127.0.0.1:9/v1", base_url)
    recipe_path = folder / "recipe.yaml"
    recipe_path.write_text(recipe_text, encoding="utf-8")
    return recipe_path


class SilentBuildDisplay:
    """A display that keeps the lines of a build and shows nothing."""

    def __init__(self):
        self.lines = []

    def message(self, line):
        self.lines.append(line)

    def counting(self, title):
        return _Block()

    def asking(self, progress, request_count, budget):
        return _Block()


class _Block:
    def __enter__(self):
        return lambda done_count, total: None

    def __exit__(self, *_):
        pass


def records_of(folder):
    """The records of a build in the folder `out`."""
    return [json.loads(line) for line in (folder / "out" / "records.jsonl").read_text(encoding="utf-8").splitlines()]


def manifest_of(folder):
    """The manifest of a build in the folder `out`."""
    return yaml_files.read_yaml_file(folder / "out" / "manifest.yaml", "manifest")[0]
