"""The folder of a finished run without a training."""

import json

from orca_bench import recipe_file
from recipes import RECIPE


def make_run(folder, name="tiny", recipe_lines="", **manifest):
    """A finished run's folder as `train` leaves it, but for the model."""
    run = folder / "runs" / name
    (run / "model").mkdir(parents=True)
    (run / "draft.yaml").write_text(RECIPE.format(name=name, tokenizer="/home/me/tokenizer.model") + recipe_lines)
    (run / "recipe.yaml").write_text(recipe_file.read_recipe_file(run / "draft.yaml").to_yaml())
    entries = {
        "status": "finished",
        "orca_bench": "0.1.0",
        "records": [{"name": "/home/me/secret/records.jsonl", "rows": 40, "sha256": "ab" * 32, "commit": None}],
        "examples": 40,
        "cut": 3,
        "trained_tokens": 1234,
        "steps": 5,
        "parameters": 15_191_712,
        "seconds": 75.0,
    }
    (run / "manifest.json").write_text(json.dumps(entries | manifest))
    return run
