"""Results of one model in; where its card is, what it says, and the card with its picture, out.

Its own module because it alone decides which card may be edited and what may stand on it: results are exchanged, and one may name
any folder as its model's.
"""

from __future__ import annotations

import itertools
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orca_bench import hub
from orca_bench.cards import card_text, model_facts
from orca_bench.cards.card_document import parse_card, read_card
from orca_bench.cards.gguf_text import GgufFacts
from orca_bench.cards.model_facts import ModelFacts
from orca_bench.cards.run_card import CARD_NAME
from orca_bench.errors import UserError
from orca_bench.files import make_writable_folder, open_binary_replacement, write_text
from orca_bench.models import model_size
from orca_bench.models.model_folder import ModelFolder
from orca_bench.models.model_names import check_model_name, results_folder_name
from orca_bench.models.model_warnings import is_own_prompt_warning
from orca_bench.report import card_scores, model_card
from orca_bench.report.pictures import Picture
from orca_bench.report.pictures.parts import split_into_parts
from orca_bench.report.pictures.png import write_png
from orca_bench.report.pictures.scores import draw_scores
from orca_bench.results.models import Result
from orca_bench.results.output_files import check_output_file
from orca_bench.results.reading import ResultFile
from orca_bench.results.result_lookup import PUBLISHED_FOLDER_NAME

#: How the names of pictures beside a card begin: the folder of a card may be anybody's.
PICTURE_PREFIX = "orca-bench-"


@dataclass(frozen=True)
class PublishTargets:
    """Where a publication goes: None stands for the default.

    `runs_folder` is the folder of runs, `folder` that of tables, pictures and page, `card` the card's file, `name` the model's
    name on it, `repository` the model repository of the hub that it is written for.
    """

    runs_folder: Path = Path("runs")
    folder: Path | None = None
    card: Path | None = None
    name: str | None = None
    repository: str | None = None


@dataclass(frozen=True)
class CardPlan:
    """A card before it is written: its file, the folder of everything else, what it says now, and what is known of the model."""

    path: Path
    folder: Path
    old_text: str | None
    facts: ModelFacts


@dataclass(frozen=True)
class CardContent:
    """What a card will say: its text, how many scores stand in it and in its metadata, and notes for the user.

    `png_by_name` has the pictures beside it.
    """

    text: str
    score_count: int
    metadata_score_count: int
    png_by_name: dict[str, bytes]
    notes: list[str] = field(default_factory=list)


def plan_card(result_files: Sequence[ResultFile], targets: PublishTargets) -> CardPlan:
    """Where the card and the folder are, and what is known of the model.

    The card is the one that the user names; else that of the folder that he names; else that of the run whose folder has all
    results; else one beside the tables. Raises UserError where a folder cannot be named after the model, and for a card that
    cannot be read, or that is a link to another file and was not named.
    """
    if targets.name is not None and not targets.name.strip():
        raise UserError("an empty name", where="--name", hint="is a variable unset?")
    model = result_files[0].result.model
    run_folder = _common_run_folder(result_files)
    own_model_folder = _own_model_folder(result_files, run_folder)
    folder = targets.folder or _default_folder(result_files, targets, model.name)
    run_card = None if own_model_folder is None else own_model_folder / CARD_NAME
    path = targets.card or (run_card if targets.folder is None and run_card is not None else folder / CARD_NAME)
    if path.is_dir():
        raise UserError("a folder, not a card", where=path, hint=f"name the file in it: {path / CARD_NAME}")
    if targets.card is None and path.is_symlink():
        raise UserError("a link to a card elsewhere", where=path, hint="name the card with --card")
    check_output_file(path, [result_file.path for result_file in result_files])
    old_text = read_card(path)
    if old_text is None and run_card is not None and not run_card.is_symlink():
        old_text = read_card(run_card)  # what its user wrote there holds for the copy too
    is_of_run = run_folder is not None and model.run == run_folder.resolve().name and model.step != 0
    training = model_facts.read_training(run_folder) if run_folder is not None and is_of_run else None
    name = targets.name or model.name
    facts = ModelFacts(
        name=name,
        reference=targets.repository or _reference(result_files[0].result, own_model_folder, name),
        has_orca_prompt=model.run is not None,
        training=training,
        parameters=model.parameters,
        is_hub_reference=targets.repository is not None or model.commit is not None,
        step=model.step,
        gguf=_gguf_facts([result_file.result for result_file in result_files]),
        weights=None if own_model_folder is None else model_size.weight_files(own_model_folder),
    )
    return CardPlan(path, folder, old_text, facts)


def card_content(
    plan: CardPlan, result_files: Sequence[ResultFile], source_url: str | None, with_partial: bool
) -> CardContent:
    """What the card will say: everything of the model, and the scores that may stand on it.

    Scores of a part of the questions stand on it `with_partial`, those of a suite that is not the leaderboard's in its text
    alone. Raises UserError where the old card cannot be edited.
    """
    facts, notes = plan.facts, []
    partial_files = [
        result_file for result_file in result_files if result_file.result.question_limit and not with_partial
    ]
    card_files = [result_file for result_file in result_files if result_file not in partial_files]
    for result_file in partial_files:
        notes.append(
            f"{result_file.path}: scores of the {result_file.result.question_limit} are left off the card; "
            "--partial puts them on it, marked"
        )
    card_files = [result_file for result_file in card_files if result_file.result.tasks]
    notes += [
        f"{result_file.path}: unfinished; only its finished tasks are on the card"
        for result_file in card_files
        if not result_file.result.complete
    ]
    score_source = None if source_url is None else model_card.ScoreSource("orca-bench", source_url)
    eval_entries = []
    for result_file in card_files:
        if result_file.result.suite.comparable:
            scores, dataset_notes = model_card.card_scores(result_file.result)
            eval_entries += model_card.eval_results(scores, score_source, dataset_notes)
        else:
            notes.append(
                f"scores on the {result_file.result.suite.name} suite stand in the card's text, not in its metadata"
            )
    pictures = [draw_scores(part) for part in split_into_parts(card_files)] if card_files else []
    sections = card_text.sections(
        facts,
        scores=card_scores.scores_section(
            card_files,
            [(picture.description, f"{PICTURE_PREFIX}{picture.name}.png") for picture in pictures],
            facts.is_trained_in_orca_prompt,
        ),
        conclusion=card_scores.conclusion(card_files, facts.name) if card_files else None,
        score_limits=card_scores.score_limits(card_files),
        score_provenance=card_scores.score_provenance(card_files),
    )
    text = model_card.update_card(
        plan.old_text, facts.name, eval_entries, plan.path, facts, sections, keeps_partial=with_partial
    )
    notes += _card_notes(text, plan)
    return CardContent(
        text=text,
        score_count=sum(len(result_file.result.tasks) for result_file in card_files),
        metadata_score_count=len(eval_entries),
        png_by_name=_draw_png(pictures),
        notes=list(dict.fromkeys(notes)),
    )


def write_card(content: CardContent, card: Path) -> list[Path]:
    """Write the card and its pictures; returns the paths of these."""
    make_writable_folder(card.parent)
    write_text(card, content.text)
    for name, png_bytes in content.png_by_name.items():
        with open_binary_replacement(card.parent / name) as handle:
            handle.write(png_bytes)
    return [card.parent / name for name in content.png_by_name]


def _card_notes(text: str, plan: CardPlan) -> list[str]:
    """What the user should know of the card: sections that he took away, and a licence that is not known."""
    card = parse_card(text, plan.path)
    absent_names = [name for name in card_text.SECTIONS if name not in card.section_names(plan.path)]
    notes = []
    if plan.old_text is not None and absent_names == [name for name in card_text.SECTIONS if name != "scores"]:
        notes.append(
            f"{plan.path} is a card of your own: its text is kept, and a section with the scores stands at its end"
        )
    elif absent_names:
        notes.append(f"{plan.path} has no section between marks for {', '.join(absent_names)}: left so")
    if card.metadata.get("license") in (None, card_text.UNKNOWN_LICENSE):
        notes.append(f"the card states no licence: write `license: …` at the top of {plan.path}, it is kept")
    return notes


def _draw_png(pictures: Sequence[Picture]) -> dict[str, bytes]:
    """The pictures of the scores on the card by the names of their files, as PNG: the hub shows it in every theme."""
    with tempfile.TemporaryDirectory() as folder:
        path_by_name = {
            f"{PICTURE_PREFIX}{picture.name}.png": Path(folder, f"{picture.name}.png") for picture in pictures
        }
        for picture, path in zip(pictures, path_by_name.values(), strict=True):
            write_png(picture.wide, path)
        return {name: path.read_bytes() for name, path in path_by_name.items()}


# --- whose card it is -------------------------------------------------------------------------------------------------


def _default_folder(result_files: Sequence[ResultFile], targets: PublishTargets, model_name: str) -> Path:
    """`published` beside the folder `results` that has all results; else that of a run of the model's name.

    Results of an export (`results/step-100`) go to a folder of that name in it.
    """
    folders_above_results = {_folder_above_results(result_file.path) for result_file in result_files}
    folder = folders_above_results.pop() if len(folders_above_results) == 1 else None
    if folder is None:
        if targets.name is None:
            check_model_name(model_name, result_files[0].path, "its model's name names no folder: --name or --to")
        name = results_folder_name(check_model_name(targets.name or model_name))
        return targets.runs_folder / name / PUBLISHED_FOLDER_NAME
    subfolders = {result_file.path.parent.relative_to(folder / "results") for result_file in result_files}
    return folder / PUBLISHED_FOLDER_NAME / (subfolders.pop() if len(subfolders) == 1 else "")


def _folder_above_results(path: Path) -> Path | None:
    return next((parent.parent for parent in path.parents if parent.name == "results"), None)


def _common_run_folder(result_files: Sequence[ResultFile]) -> Path | None:
    """The run's folder whose `results` has all results; None where there is none."""
    folders = {_folder_above_results(result_file.path) for result_file in result_files}
    folder = folders.pop() if len(folders) == 1 else None
    return folder if folder is not None and (folder / "manifest.json").is_file() else None


def _own_model_folder(result_files: Sequence[ResultFile], run_folder: Path | None) -> Path | None:
    """The model folder of a run, if all results are of this very model; else None."""
    folders = {_model_folder_of_run(result_file.result, run_folder) for result_file in result_files}
    return folders.pop() if len(folders) == 1 else None


def _model_folder_of_run(result: Result, run_folder: Path | None) -> Path | None:
    if run_folder is None or not result.model.path:
        return None
    folder, resolved_run_folder = Path(result.model.path).resolve(), run_folder.resolve()
    if not folder.is_dir() or (
        folder != resolved_run_folder / "model" and folder.parent != resolved_run_folder / "exports"
    ):
        return None
    if (folder / CARD_NAME).resolve().parent != folder:  # a link to a card elsewhere
        return None
    origin = ModelFolder(str(folder)).training_origin
    if (origin.get("run"), origin.get("step")) != (result.model.run, result.model.step):
        return None
    return run_folder / folder.relative_to(resolved_run_folder)


def _gguf_facts(results: Sequence[Result]) -> GgufFacts | None:
    """The facts of the GGUF file that answered, None for another model; only results in the Orca prompt know its prompt."""
    model = results[0].model
    if model.bits is None or not model.path or not model.path.lower().endswith(".gguf"):
        return None
    orca_warnings = [result.model.warnings for result in results if result.protocol.name == "orca"]
    has_own_prompt = any(map(is_own_prompt_warning, itertools.chain(*orca_warnings))) if orca_warnings else None
    return GgufFacts(re.split(r"[\\/]+", model.path)[-1], model.bits, has_own_prompt)


def _reference(result: Result, own_model_folder: Path | None, name: str) -> str:
    """How code names the model: its hub id, or its folder as it may be published."""
    model = result.model
    if own_model_folder is not None:
        return model_facts.public_reference(own_model_folder, name)
    if model.commit is not None and model.path and hub.is_hub_id(model.path):
        return model.path
    return model_facts.public_reference(Path(model.path), name) if model.path else name
