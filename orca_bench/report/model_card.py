"""A result and a model card in, the card with the result's scores in its `model-index` out.

The metadata is built by huggingface_hub's own classes and read back by them, so that the hub shows it. An existing card keeps
its text and all other metadata, key for key; of its model-index only this model's results from the same source are replaced.
Its own module because a card is also written without a result: from reported scores. huggingface_hub is imported on demand.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orca_bench import yaml_files
from orca_bench.cards import card_text
from orca_bench.cards.card_document import Card, YamlObject, parse_card
from orca_bench.cards.model_facts import ModelFacts
from orca_bench.errors import UserError, one_line
from orca_bench.results.models import Result
from orca_bench.results.task_results import OTHER_ROWS, UNVERIFIED_ROWS
from orca_bench.suite import TASK_BY_NAME
from orca_bench.system_messages import DEFAULT_SYSTEM_ID, SYSTEM_MESSAGES, system_id_of

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

#: The window that the leaderboard's contexts were cut to, tokens.
LEADERBOARD_WINDOW = 2048

_OVERLAP_NOTE = re.compile(r", [\d,]+ of [\d,]+ questions overlap with the training records(?=,|$)")
_LIMIT_NOTE = re.compile(r", first \d+ questions(?=,|$)")


@dataclass(frozen=True)
class ScoreSource:
    """Where the scores come from, as the hub links it."""

    name: str
    url: str


def eval_results(
    scores: Mapping[str, float], source: ScoreSource | None, notes: Mapping[str, str] | None = None
) -> list[EvalResult]:
    """huggingface_hub's EvalResult of each task that has a card entry; `scores` are percent by task, in the card's order.

    `notes`, by task, are appended to the name of the data set: how a score differs from the leaderboard's.
    """
    from huggingface_hub import EvalResult

    source_fields = {} if source is None else {"source_name": source.name, "source_url": source.url}
    eval_entries = []
    for name, percent in scores.items():
        task, card_facts, note = TASK_BY_NAME[name], TASK_BY_NAME[name].card_entry, (notes or {}).get(name)
        if card_facts is None:  # the task does not belong on cards
            continue
        eval_entries.append(
            EvalResult(
                task_type="text-generation",
                task_name="Text Generation",
                dataset_type=card_facts.dataset_id,
                dataset_name=f"{card_facts.dataset_title}, {note}" if note else card_facts.dataset_title,
                dataset_config=card_facts.configuration,
                dataset_split=task.evaluation_split,
                dataset_args={"num_few_shot": task.shots},
                metric_type=task.metric,
                metric_value=percent,
                metric_name=card_facts.metric_name,
                **source_fields,
            )
        )
    return eval_entries


def card_scores(result: Result) -> tuple[dict[str, float], dict[str, str]]:
    """(percent by task, rounded to two decimals; by task what is appended to the data set's name, if anything).

    Tasks that the suite does not have are left out: the hub has no name for them. No note is needed for all questions of the
    leaderboard under its protocol. Raises UserError for a suite whose scores do not belong on a card.
    """
    if not result.suite.comparable:
        raise UserError(
            f"scores on the {result.suite.name} suite do not belong on a model card",
            hint="evaluate on the leaderboard's rows",
        )
    scores = {
        name: round(100 * task_result.value, 2) for name, task_result in result.tasks.items() if name in TASK_BY_NAME
    }
    notes = {name: ", ".join([*_result_notes(result), *_task_notes(result, name)]) for name in scores}
    return scores, {name: note for name, note in notes.items() if note}


def _result_notes(result: Result) -> Iterator[str]:
    """How all scores of a result differ from the leaderboard's."""
    protocol = result.protocol
    if (protocol.name, protocol.version) != ("leaderboard", 1):
        yield f"protocol {protocol.name_and_version}"
    if protocol.system is not None and protocol.system != SYSTEM_MESSAGES[DEFAULT_SYSTEM_ID]:
        system_id = system_id_of(protocol.system)
        yield "a system message of its own" if system_id is None else f"system message {system_id}"
    if protocol.few_shot == "one-turn":
        yield "few-shot examples in one turn"
    if (protocol.max_length or LEADERBOARD_WINDOW) != LEADERBOARD_WINDOW:
        yield f"window {protocol.max_length}"
    if result.question_limit:
        yield result.question_limit.phrase


def _task_notes(result: Result, name: str) -> Iterator[str]:
    """How the score of one task differs from the leaderboard's."""
    task_result, task = result.tasks[name], TASK_BY_NAME[name]
    row_status = task_result.row_status(task.evaluation_split)
    if row_status == OTHER_ROWS:
        yield "other rows" if task_result.rows is None else f"other rows ({task_result.rows:,})"
    elif row_status == UNVERIFIED_ROWS:
        yield "rows not verified"
    if task.few_shot_split and row_status != OTHER_ROWS and task_result.row_status(task.few_shot_split) == OTHER_ROWS:
        yield "other few-shot examples"
    if task_result.overlap is not None and task_result.overlap.questions:
        # Read back by `_OVERLAP_NOTE`: the same measurement, whatever its number of such questions.
        yield f"{task_result.overlap.questions} of {task_result.n} questions overlap with the training records"
    # The leaderboard's protocol cuts contexts as the leaderboard did.
    if result.protocol.name != "leaderboard" and task_result.shortened:
        yield f"{task_result.shortened} contexts cut"
    if result.protocol.name != "leaderboard" and task_result.ran_out:
        yield f"{task_result.ran_out} answers ran out of room"


def update_card(
    text: str | None,
    name: str,
    results: Sequence[EvalResult],
    where: Path,
    facts: ModelFacts | None = None,
    sections: Mapping[str, str] | None = None,
    keeps_partial: bool = True,
) -> str:
    """A card's text with the results of the model `name` in its metadata, and with the texts of its own `sections`.

    A card with our marks gets other texts between them; a card without any keeps its text and gets the section of scores at its
    end; where there is no card, a new one has all of `sections`. `keeps_partial` says whether scores of a part of the questions
    that stand in the metadata already stay there. Raises UserError where the card's metadata is not YAML or not
    a mapping, where a mark has no partner, and where huggingface_hub does not read the outcome.
    """
    facts = facts or ModelFacts(name, name, has_orca_prompt=False)
    if text is None:
        new_text = card_text.new_card_text(
            yaml_files.to_yaml_text(card_text.metadata(facts)), facts, sections or card_text.sections(facts)
        )
        card = parse_card(new_text, where)
    else:
        card = _with_sections(parse_card(text, where), sections or {}, where)
    changes: YamlObject = {}
    if facts.license is not None and card.metadata.get("license") == card_text.UNKNOWN_LICENSE:
        changes["license"] = facts.license
    old_index = card.metadata.get("model-index") or []
    new_index = _merged_model_index(old_index, name, results, where, keeps_partial)
    if results or new_index != old_index:
        changes["model-index"] = new_index
    if changes:
        card = card.with_metadata(changes, where)
    updated_text = card.to_text()
    check_with_hub_library(updated_text, where)
    return updated_text


def _with_sections(card: Card, text_by_section: Mapping[str, str], where: Path) -> Card:
    framed_texts = {name: card_text.framed(text) for name, text in text_by_section.items()}
    if card.section_names(where):
        return card.with_sections(framed_texts, where)
    if "scores" not in framed_texts:
        return card
    return card.with_section_appended("scores", framed_texts["scores"], heading=card_text.SECTIONS["scores"])


def check_with_hub_library(text: str, where: Path) -> None:
    """Raise UserError where huggingface_hub, by its own checks, does not read a card. Needs no network."""
    from huggingface_hub import ModelCard

    logging.getLogger("huggingface_hub.repocard").setLevel(logging.ERROR)  # it warns of a card without metadata
    try:
        ModelCard(text)
    except Exception as error:  # of many kinds: YAML it does not read, a model-index without a key
        raise UserError(f"huggingface_hub does not read this card: {one_line(error, 200)}", where=where) from None


def _merged_model_index(
    model_index: Any, name: str, results: Sequence[EvalResult], where: Path, keeps_partial: bool
) -> list[MutableMapping[str, Any]]:
    """The card's `model-index` with a model's results; those of other models and of other measurements are kept."""
    if not isinstance(model_index, list) or not all(
        isinstance(model_entry, dict) and _are_results(model_entry.get("results")) for model_entry in model_index
    ):
        raise UserError("'model-index' is not a list of models", where=where)
    new_results = _model_index_results(name, results)
    new_identities = {_result_identity(result) for result in new_results}
    other_models = [model_entry for model_entry in model_index if model_entry.get("name") != name]
    old_entries = [model_entry for model_entry in model_index if model_entry.get("name") == name][:1]
    old_results = [
        result
        for model_entry in old_entries
        for result in model_entry.get("results") or []
        if not {_result_identity(result), _identity_without_limit(result)} & new_identities
        and (keeps_partial or _result_identity(result) == _identity_without_limit(result))
    ]
    if not new_results and len(old_results) == sum(
        len(model_entry.get("results") or []) for model_entry in old_entries
    ):
        return model_index
    all_results = old_results + new_results
    return [*other_models, {"name": name, "results": all_results}] if all_results else other_models


def _model_index_results(name: str, results: Sequence[EvalResult]) -> list[YamlObject]:
    """The `results` of a model-index entry, built and read back by huggingface_hub.

    huggingface_hub 2.4 puts the metrics of one data set into one entry whatever the data set's name says, so each kind of
    measurement (the name, which has the protocol) is built separately.
    """
    from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

    results_by_name: dict[str, list[EvalResult]] = {}
    for result in results:
        results_by_name.setdefault(result.dataset_name, []).append(result)
    result_entries = [
        entry for group in results_by_name.values() for entry in eval_results_to_model_index(name, group)[0]["results"]
    ]
    parsed_name, parsed_results = model_index_to_eval_results([{"name": name, "results": result_entries}])
    if parsed_name != name or len(parsed_results) != len(results):
        raise RuntimeError("huggingface_hub does not read back the model-index that it built")
    return result_entries


def _are_results(results: Any) -> bool:
    """Whether the results of a model-index entry are mappings, their data sets and sources too, and their metrics lists."""
    return results is None or (
        isinstance(results, list)
        and all(
            isinstance(result, dict)
            and all(isinstance(result.get(key) or {}, dict) for key in ("dataset", "source"))
            and isinstance(result.get("metrics") or [], list)
            for result in results
        )
    )


def _identity_without_limit(result: Mapping[str, Any]) -> tuple[object, ...]:
    """The identity of the measurement over all questions that a partial one is replaced by."""
    dataset = result.get("dataset") or {}
    whole_name = _LIMIT_NOTE.sub("", str(dataset.get("name")))
    return _result_identity({**result, "dataset": {**dataset, "name": whole_name}})


def _result_identity(result: Mapping[str, Any]) -> tuple[object, ...]:
    """What two results on a card must have in common to be the same: data set, configuration, split, source, metrics."""
    dataset, source = result.get("dataset") or {}, result.get("source") or {}
    name = _OVERLAP_NOTE.sub("", str(dataset.get("name")))
    metrics = tuple(
        sorted(str(metric.get("type")) for metric in result.get("metrics") or [] if isinstance(metric, dict))
    )
    return (*(str(dataset.get(key)) for key in ("type", "config", "split")), name, str(source.get("url")), metrics)
