"""A result and a model card in, the card with the result's scores in its `model-index` out.

The metadata is built by huggingface_hub's own classes and read back by them, so that the hub shows it. An existing card keeps
its text and all other metadata, key for key; of its model-index only this model's results from the same source are replaced.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from orca_bench import yaml_files
from orca_bench.errors import UserError
from orca_bench.results.reading import NOT_VERIFIED, OTHER, rows_are
from orca_bench.suite import BY_NAME
from orca_bench.system_messages import DEFAULT_SYSTEM_ID, SYSTEM_MESSAGES, id_of

_FRONT = re.compile(r"\A---[ \t]*\r?\n(.*?)(?:\r?\n)?---[ \t]*(?:\r?\n|\Z)", re.DOTALL)


#: The window that the leaderboard's contexts were cut to.
LEADERBOARD_WINDOW = 2048


@dataclass(frozen=True)
class Source:
    """Where the scores come from, as the hub links it."""

    name: str
    url: str


def eval_results(scores: Mapping[str, float], source: Source | None, notes: Mapping[str, str] | None = None) -> list:
    """huggingface_hub's EvalResult of each task; `scores` in percent by task, in the order that the card shall have.

    `notes` stand behind the name of the data set, by task: what makes a score another one than the leaderboard's.
    """
    from huggingface_hub import EvalResult

    linked = {} if source is None else {"source_name": source.name, "source_url": source.url}
    entries = []
    for name, value in scores.items():
        task, entry, note = BY_NAME[name], BY_NAME[name].card, (notes or {}).get(name)
        entries.append(
            EvalResult(
                task_type="text-generation",
                task_name="Text Generation",
                dataset_type=entry.dataset,
                dataset_name=f"{entry.title}, {note}" if note else entry.title,
                dataset_config=entry.configuration,
                dataset_split=task.split,
                dataset_args={"num_few_shot": task.shots},
                metric_type=task.metric,
                metric_value=value,
                metric_name=entry.metric_name,
                **linked,
            )
        )
    return entries


def scores_of(result: dict) -> tuple[dict[str, float], dict[str, str]]:
    """(percent by task, rounded to two places; by task what must stand behind the data set's name, where anything must).

    Nothing is needed behind the name of the leaderboard's own questions under its own protocol, in full. Raises UserError
    for a suite whose scores say nothing on a card.
    """
    if not result["suite"].get("comparable"):
        raise UserError(
            f"scores on the {result['suite'].get('name')} suite do not belong on a model card",
            hint="evaluate on the leaderboard's rows",
        )
    scores = {task: round(100 * entry["value"], 2) for task, entry in result["tasks"].items()}
    notes = {task: ", ".join([*_heading(result), *_qualified(result, task)]) for task in scores}
    return scores, {task: note for task, note in notes.items() if note}


def _heading(result: dict) -> Iterator[str]:
    """What makes all numbers of a result others than the leaderboard's."""
    protocol = result["protocol"]
    if (protocol["name"], protocol.get("version")) != ("leaderboard", 1):
        yield f"protocol {protocol['name']} v{protocol.get('version')}"
    system = protocol.get("system", SYSTEM_MESSAGES[DEFAULT_SYSTEM_ID])
    if system != SYSTEM_MESSAGES[DEFAULT_SYSTEM_ID]:
        number = id_of(system)
        yield "a system message of its own" if number is None else f"system message {number}"
    if (protocol.get("max_length") or LEADERBOARD_WINDOW) != LEADERBOARD_WINDOW:
        yield f"window {protocol['max_length']}"
    if result.get("limit"):
        yield f"first {result['limit']} questions"


def _qualified(result: dict, name: str) -> Iterator[str]:
    """What makes the number of one task another one than the leaderboard's."""
    entry, task = result["tasks"][name], BY_NAME[name]
    rows = rows_are(entry, task.split)
    if rows == OTHER:
        yield f"other rows ({entry['rows']:,})" if "rows" in entry else "other rows"
    elif rows == NOT_VERIFIED:
        yield "rows not verified"
    if task.few_shot_split and rows != OTHER and rows_are(entry, task.few_shot_split) == OTHER:
        yield "other few-shot examples"
    if result["protocol"]["name"] != "leaderboard" and entry.get(
        "shortened"
    ):  # that protocol cuts as the leaderboard did
        yield f"{entry['shortened']} contexts cut"
    if result["protocol"]["name"] != "leaderboard" and entry.get("ran_out"):
        yield f"{entry['ran_out']} answers ran out of room"


def update(text: str | None, name: str, results: list, where: Path) -> str:
    """A card's text with the results of the model `name` in its metadata; a new card where there is none.

    Raises UserError where the card's metadata is not YAML, or not a mapping.
    """
    front, body = split(text, where) if text is not None else ({"library_name": "transformers"}, f"# {name}\n")
    index = front.get("model-index") or []
    if not isinstance(index, list) or not all(isinstance(e, dict) and _are_results(e.get("results")) for e in index):
        raise UserError("'model-index' is not a list of models", where=where)
    mine = _index(name, results)
    kept = [entry for entry in index if entry.get("name") != name]
    before = next((entry for entry in index if entry.get("name") == name), {"results": []})
    ours = {_identity(result) for result in mine["results"]}
    others = [result for result in before.get("results") or [] if _identity(result) not in ours]
    # Put into ruamel.yaml's own mapping, which keeps comments, quotes and order of all other keys.
    front["model-index"] = [*kept, {"name": name, "results": others + mine["results"]}]
    return f"---\n{yaml_files.dump(front)}---\n{body}"


def split(text: str, where: Path) -> tuple[dict, str]:
    """(metadata, text) of a card; no metadata where it has no front matter. Raises UserError for broken YAML."""
    found = _FRONT.match(text)
    if found is None:
        if re.match(r"\A---[ \t]*\r?\n", text):
            raise UserError("the front matter has no end", where=f"{where}:1", hint="close it with a line of ---")
        return {}, text
    front = yaml_files.load(found.group(1), where, first_line=2)
    if front is None:
        front = {}
    if not isinstance(front, dict):
        raise UserError("the front matter is not a mapping", where=where)
    return front, text[found.end() :]


def _index(name: str, results: list) -> dict:
    """The model-index entry of some EvalResults, made and read back by huggingface_hub.

    huggingface_hub 2.4 puts the metrics of one data set into one entry whatever the data set's name says, so each kind of
    measurement (the name, which says the protocol) is made by itself.
    """
    from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

    groups: dict[str, list] = {}
    for result in results:
        groups.setdefault(result.dataset_name, []).append(result)
    made = [entry for group in groups.values() for entry in eval_results_to_model_index(name, group)[0]["results"]]
    index = {"name": name, "results": made}
    read_name, read = model_index_to_eval_results([index])
    if read_name != name or len(read) != len(results):
        raise RuntimeError("huggingface_hub does not read back the model-index that it made")
    return index


def _are_results(results: object) -> bool:
    """Whether the results of a model-index entry are mappings, and their data sets and sources too."""
    return results is None or (
        isinstance(results, list)
        and all(
            isinstance(r, dict) and all(isinstance(r.get(key) or {}, dict) for key in ("dataset", "source"))
            for r in results
        )
    )


def _identity(result: dict) -> tuple:
    """What two results on a card must have in common to be the same: data set, configuration, split, source, metrics."""
    dataset, source = result.get("dataset") or {}, result.get("source") or {}
    metrics = tuple(
        sorted(str(metric.get("type")) for metric in result.get("metrics") or [] if isinstance(metric, dict))
    )
    return (*(str(dataset.get(key)) for key in ("type", "config", "split", "name")), str(source.get("url")), metrics)
