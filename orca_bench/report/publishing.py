"""Results of one model in; a folder with its results, tables, pictures and page, and its model card, out.

Everything is read and checked before the first file is written. Its own module because it calls all other reports.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from orca_bench import hub
from orca_bench.errors import UserError
from orca_bench.files import catch_write_errors, make_writable_folder, write_text
from orca_bench.report import card_publishing, grid_formats, html_page, score_table_formats
from orca_bench.report.card_publishing import PICTURE_PREFIX, PublishTargets
from orca_bench.report.pictures import build_pictures, write_picture
from orca_bench.report.published_files import read_published_files
from orca_bench.report.reported_scores import find_reported_scores
from orca_bench.report.result_selection import result_labels
from orca_bench.report.score_table import ScoreTable, build_score_table
from orca_bench.results.hashing import is_unchanged_since_writing
from orca_bench.results.models import Result
from orca_bench.results.question_texts import QuestionTextsLookup
from orca_bench.results.reading import ResultFile, find_questions_path, read_result, read_with_questions

#: Gives, of a result, how to look up the requests of its questions (None where its rows are not known), and notes on those
#: that cannot be rebuilt.
RequestsOf: TypeAlias = Callable[[Result], tuple[QuestionTextsLookup | None, list[str]]]


@dataclass
class Publication:
    """The model card, the folder of everything else, the files that were written, and notes on them.

    `card_score_count` counts the scores on the card, `metadata_score_count` those in its metadata, `question_count` the
    questions on the page; `card_pictures` are the pictures beside the card.
    """

    card: Path
    folder: Path
    files: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    card_score_count: int = 0
    metadata_score_count: int = 0
    card_pictures: list[Path] = field(default_factory=list)
    question_count: int = 0


def publish(
    paths: Sequence[Path],
    targets: PublishTargets,
    source_url: str | None = None,
    reported_name: str = "orca_mini_13b",
    with_partial: bool = False,
    requests_of: RequestsOf | None = None,
    progress: html_page.Progress = html_page.no_progress,
) -> Publication:
    """Write results, tables, pictures and page to a folder, and the model's card with its scores.

    `source_url` is the link of each score on the card, `with_partial` puts scores of a part of the questions on it. `progress`
    counts questions. Files of an earlier publication are replaced or removed. Raises UserError, before anything is written, for
    results of several models, changed or unreadable ones, for a card that cannot be edited, and for files in the folder that
    `publish` did not write and would replace.
    """
    result_files = [ResultFile(path, "", read_result(path)) for path in paths]
    _check_results(result_files)
    name = targets.name or result_files[0].result.model.name
    card_plan = card_publishing.plan_card(result_files, targets)
    folder = card_plan.folder
    reported_scores = find_reported_scores(reported_name)
    labels = result_labels([result_file.result for result_file in result_files])
    result_files = [replace(result_file, label=label) for result_file, label in zip(result_files, labels, strict=True)]
    table = build_score_table(
        [(result_file.label, result_file.result) for result_file in result_files], reported_scores
    )
    publication = Publication(card_plan.path, folder)
    lookups_and_notes = [(None, []) if requests_of is None else requests_of(file.result) for file in result_files]
    lookups = [lookup for lookup, _ in lookups_and_notes]
    absence_reasons = [note for _, notes in lookups_and_notes for note in notes]
    publication.notes += absence_reasons
    files_with_questions = [_with_questions(result_file) for result_file in result_files]
    card_content = card_publishing.card_content(card_plan, files_with_questions, source_url, with_partial)
    publication.notes += card_content.notes
    publication.card_score_count = card_content.score_count
    publication.metadata_score_count = card_content.metadata_score_count
    pictures = build_pictures(files_with_questions, reported_scores)
    table_texts = _table_texts(table)
    page_file = folder / "index.html"
    copies = list(_copies(result_files, folder, publication))
    names = [
        *(target.name for _, target in copies),
        *(f"{picture.name}.{suffix}" for picture in pictures for suffix in ("png", "svg")),
        *(f"table{suffix}" for suffix in table_texts),
        page_file.name,
    ]
    if card_plan.path.parent == folder:
        names += card_content.png_by_name
    earlier_files = read_published_files(folder)
    earlier_files.check_replacement(names, PICTURE_PREFIX)
    make_writable_folder(folder)
    earlier_files.begin(names)
    for source, target in copies:
        with catch_write_errors(folder):
            shutil.copyfile(source, target)
    for picture in pictures:
        picture_files = write_picture(picture, folder)
        publication.files += [picture_files.png, picture_files.svg]
    for suffix, text in table_texts.items():
        _write_file(folder / f"table{suffix}", text, publication)
    html_page.write_page(page_file, name, files_with_questions, reported_scores, lookups, absence_reasons, progress)
    publication.files.append(page_file)
    publication.question_count = _count_questions(files_with_questions)
    publication.card_pictures = card_publishing.write_card(card_content, card_plan.path)
    inputs = [file for path in paths for file in (path, find_questions_path(path))]
    publication.notes += earlier_files.finish(names, [*inputs, card_plan.path])
    return publication


def upload_card(publication: Publication, repository: str) -> str:
    """Upload a card and its picture to a model repository of the hub; returns the address of the commit.

    Raises UserError where that fails.
    """
    path_by_name = {"README.md": publication.card, **{path.name: path for path in publication.card_pictures}}
    return hub.upload_files(repository, path_by_name, "card", "Card and scores measured with orca-bench")


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


def _count_questions(result_files: Sequence[ResultFile]) -> int:
    return len(
        {
            key
            for result_file in result_files
            for task_questions in result_file.questions_by_task.values()
            for key in task_questions.questions_by_key
        }
    )


def _copies(result_files: Sequence[ResultFile], folder: Path, publication: Publication) -> Iterator[tuple[Path, Path]]:
    """(source, target) of each result and its questions that is copied into the folder; what stands there is left alone."""
    for path in (
        file for result_file in result_files for file in (result_file.path, find_questions_path(result_file.path))
    ):
        if not path.is_file():
            publication.notes.append(f"{path} is not there, so the published result cannot be verified")
            continue
        target = folder / path.name
        publication.files.append(target)
        if target.resolve() != path.resolve():
            yield path, target


def _with_questions(result_file: ResultFile) -> ResultFile:
    return (
        read_with_questions(result_file.path, result_file.label)
        if find_questions_path(result_file.path).is_file()
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
