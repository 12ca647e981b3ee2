"""Results of one model in; a folder with its results, tables, pictures and page, and its model card, out.

Everything is read and checked before the first file is written. Its own module because it calls all other reports, and because it
alone decides which model card may be edited: results are exchanged, and one may name any folder as its model's.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from orca_bench.errors import UserError, one_line
from orca_bench.files import catch_write_errors, make_writable_folder, write_text
from orca_bench.models import model_folder
from orca_bench.report import grid_formats, html_page, model_card, score_table_formats
from orca_bench.report.html_page import RequestLookup
from orca_bench.report.pictures import draw_pictures
from orca_bench.report.reported_scores import read_reported_scores
from orca_bench.report.result_selection import result_labels
from orca_bench.report.score_table import ScoreTable, build_score_table
from orca_bench.results.hashing import is_unchanged_since_writing
from orca_bench.results.models import Result
from orca_bench.results.reading import ResultFile, questions_path_for, read_result, read_with_questions

#: Gives, of a result, how to look up the requests of its questions, and notes on those that cannot be rebuilt.
RequestsOf: TypeAlias = Callable[[Result], tuple[RequestLookup, list[str]]]


@dataclass
class Publication:
    """The model card, the files that were written, and notes on them."""

    card: Path
    files: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def publish(
    paths: Sequence[Path],
    out_folder: Path,
    name: str | None,
    card: Path | None,
    source_url: str | None,
    reported_name: str,
    requests_of: RequestsOf | None = None,
    progress: html_page.Progress = html_page.no_progress,
) -> Publication:
    """Write results, tables, pictures and page to the folder `out_folder`/`name`, and the scores into the model card.

    `name` is the model's by default, `card` the README.md of the run's own model, else that of the folder. `source_url` is the
    link of each score on the card. `progress` counts questions. Raises UserError, before anything is written, for results of
    several models, changed or unreadable ones, and for a card that cannot be edited.
    """
    result_files = [ResultFile(path, "", read_result(path)) for path in paths]
    _check_results(result_files)
    name = name or result_files[0].result.model.name
    if "/" in name or name in ("", ".", ".."):
        raise UserError(f"'{name}' is no name of a folder", where="--name")
    folder = out_folder / name
    reported_scores = read_reported_scores(reported_name)
    labels = result_labels([result_file.result for result_file in result_files])
    result_files = [replace(result_file, label=label) for result_file, label in zip(result_files, labels, strict=True)]
    table = build_score_table(
        [(result_file.label, result_file.result) for result_file in result_files], reported_scores
    )
    publication = Publication(card or _default_card(result_files, folder))
    if card is None:
        _check_card_is_no_link(publication.card, folder)
    if publication.card.parent == folder and any(result_file.result.model.path for result_file in result_files):
        publication.notes.append(f"{publication.card} is the card; --card names another, which is then edited")
    lookups = [_request_lookup(requests_of, result_file.result, publication) for result_file in result_files]
    card_text = _card_text(publication, name, result_files, source_url)
    make_writable_folder(folder)
    for result_file in result_files:
        _copy_result(result_file.path, folder, publication)
    result_files = [_with_questions(result_file) for result_file in result_files]
    pictures = draw_pictures(result_files, reported_scores, folder)
    publication.files += [path for picture in pictures for path in (picture.png, picture.svg)]
    for suffix, text in _table_texts(table).items():
        _write_file(folder / f"table{suffix}", text, publication)
    page_file = folder / "index.html"
    html_page.write_page(page_file, f"{name}: orca-bench", result_files, reported_scores, pictures, lookups, progress)
    publication.files.append(page_file)
    if card_text is not None:
        make_writable_folder(publication.card.parent)
        _write_file(publication.card, card_text, publication)
    return publication


def upload_card(card: Path, repository: str) -> str:
    """Upload a card to a model repository of the hub; returns the address of the commit. Raises UserError where that fails."""
    from huggingface_hub import HfApi

    token = os.environ.get("HF_TOKEN")
    if not token:
        raise UserError("no token", where="--push", hint="set HF_TOKEN to one that may write to the repository")
    if not card.is_file():
        raise UserError("there is no card to upload", where=card)
    try:
        commit = HfApi(token=token).upload_file(
            path_or_fileobj=card,
            path_in_repo="README.md",
            repo_id=repository,
            commit_message="Scores measured with orca-bench",
        )
    except Exception as error:  # of many kinds: no such repository, no right to it, no network
        reason = f"{type(error).__name__}: {one_line(error, 200)}"
        raise UserError(f"the hub did not take the card ({reason})", where=repository) from None
    return str(commit)


def _check_results(result_files: Sequence[ResultFile]) -> None:
    """Raise UserError for results that were changed, that are of several models, or that have the same file name."""
    for result_file in result_files:
        if not is_unchanged_since_writing(result_file.result):
            raise UserError("changed after it was written", where=result_file.path, hint="orca-bench verify says where")
    model_names = list(dict.fromkeys(result_file.result.model.name for result_file in result_files))
    if len(model_names) > 1:
        raise UserError(
            f"results of {len(model_names)} models: {', '.join(model_names)}", hint="publish one model at a time"
        )
    _check_is_one_model(result_files)
    _check_file_names(result_files)


def _check_is_one_model(result_files: Sequence[ResultFile]) -> None:
    """Raise UserError where weights, configuration or tokenizer differ; those that a result does not have are not compared.

    Of a model on a server the weights are not known, but its folder's configuration and tokenizer are.
    """
    for part_name, noun in (("fingerprint", "weights"), ("config", "configuration"), ("tokenizer", "tokenizer")):
        part_hashes = {result_file.result.model.part_hash(part_name) for result_file in result_files} - {None}
        if len(part_hashes) > 1:
            raise UserError(
                f"these results are of models with other {noun}",
                where=", ".join(str(result_file.path) for result_file in result_files),
                hint="publish results of one model",
            )


def _check_file_names(result_files: Sequence[ResultFile]) -> None:
    """Raise UserError for equal file names: results are copied into one folder under their own names."""
    path_by_name: dict[str, Path] = {}
    for result_file in result_files:
        name = result_file.path.name
        if name in path_by_name:
            raise UserError(
                f"{path_by_name[name]} has the same file name, and both go into one folder",
                where=result_file.path,
                hint="rename one",
            )
        path_by_name[name] = result_file.path


def _default_card(result_files: Sequence[ResultFile], folder: Path) -> Path:
    """The card of the run that contains all results; else one beside the tables, because a result may name any folder."""
    models = {_run_model_folder(result_file) for result_file in result_files}
    model = models.pop() if len(models) == 1 else None
    return (folder if model is None else model) / "README.md"


def _run_model_folder(result_file: ResultFile) -> Path | None:
    """The model folder of the run that contains a result file, if the result is of this model; else None."""
    model_description = result_file.result.model
    if not model_description.path:
        return None
    model = Path(model_description.path)
    folder = model.resolve()
    run_folder = next(
        (parent.parent for parent in result_file.path.resolve().parents if parent.name == "results"), None
    )
    if run_folder is None or not (run_folder / "manifest.json").is_file() or not folder.is_dir():
        return None
    if folder != run_folder / "model" and folder.parent != run_folder / "exports":
        return None
    if (folder / "README.md").resolve().parent != folder:  # a link to a card elsewhere
        return None
    origin = model_folder.training_origin(str(folder))
    return model if (origin.get("run"), origin.get("step")) == (model_description.run, model_description.step) else None


def _check_card_is_no_link(card: Path, folder: Path) -> None:
    """Raise UserError where a card beside the tables is a link to a file elsewhere."""
    if card.parent == folder and card.resolve().parent != card.parent.resolve():
        raise UserError("a link to a card elsewhere", where=card, hint="name it with --card")


def _request_lookup(requests_of: RequestsOf | None, result: Result, publication: Publication) -> RequestLookup | None:
    if requests_of is None:
        return None
    lookup, notes = requests_of(result)
    publication.notes += notes
    return lookup


def _card_text(
    publication: Publication, name: str, result_files: Sequence[ResultFile], source_url: str | None
) -> str | None:
    """The card's new text, or None where no score belongs on it."""
    card = publication.card
    try:
        old_card_text = card.read_text(encoding="utf-8") if card.is_file() else None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the card: {error}", where=card) from None
    score_source = None if source_url is None else model_card.ScoreSource("orca-bench", source_url)
    card_results = []
    for result_file in result_files:
        try:
            scores, notes = model_card.card_scores(result_file.result)
        except UserError as error:
            publication.notes.append(f"{result_file.path}: {error}")
            continue
        if not result_file.result.complete:
            publication.notes.append(f"{result_file.path}: unfinished; only its finished tasks are on the card")
        card_results += model_card.eval_results(scores, score_source, notes)
    if not card_results:
        publication.notes.append("no score belongs on the card, so it was left as it is")
        return None
    return model_card.update_card(old_card_text, name, card_results, card)


def _copy_result(path: Path, folder: Path, publication: Publication) -> None:
    """Copy a result and its questions into the folder."""
    for file in (path, questions_path_for(path)):
        if not file.is_file():
            publication.notes.append(f"{file} is not there, so the published result cannot be verified")
            continue
        target_file = folder / file.name
        if target_file.resolve() != file.resolve():
            with catch_write_errors(folder):
                shutil.copyfile(file, target_file)
        publication.files.append(target_file)


def _with_questions(result_file: ResultFile) -> ResultFile:
    return (
        read_with_questions(result_file.path, result_file.label)
        if questions_path_for(result_file.path).is_file()
        else result_file
    )


def _table_texts(table: ScoreTable) -> dict[str, str]:
    """The table in all forms of a file, by the file's ending."""
    grid = score_table_formats.to_grid(table)
    return {
        ".md": grid_formats.to_markdown(grid),
        ".csv": score_table_formats.to_csv(table),
        ".tex": grid_formats.to_latex(grid),
        ".html": grid_formats.to_html(grid),
    }


def _write_file(path: Path, text: str, publication: Publication) -> None:
    write_text(path, text)
    publication.files.append(path)
