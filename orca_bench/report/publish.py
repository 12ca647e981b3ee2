"""Results of one model in; a folder with its results and tables, and its model card, out."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orca_bench.errors import UserError, one_line
from orca_bench.files import make_folder, write_text, writing
from orca_bench.models import model_folder
from orca_bench.report import grid_formats, page, pictures, table
from orca_bench.report import model_card as cards
from orca_bench.results.reading import ResultFile, is_sealed, questions_file, read, read_result


@dataclass
class Published:
    """What was written, and what a person should know of it."""

    card: Path
    files: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def publish(
    paths: Sequence[Path],
    to: Path,
    name: str | None,
    card: Path | None,
    source_url: str | None,
    reported: str,
    requests: Callable[[dict], tuple[page.Requests, list[str]]] | None = None,
    progress: page.Progress = lambda done, total: None,
) -> Published:
    """Write everything; all input is read and checked before the first file is written.

    `requests`, of a result, gives a function that gives the requests of its questions, and notes. `progress` is told of
    questions.
    """
    results = [read_result(path) for path in paths]
    for path, result in zip(paths, results, strict=True):
        if not is_sealed(result):
            raise UserError("changed after it was written", where=path, hint="orca-bench verify says where")
    models = list(dict.fromkeys(result["model"].get("name", "model") for result in results))
    if len(models) > 1:
        raise UserError(f"results of {len(models)} models: {', '.join(models)}", hint="publish one model at a time")
    _check_fingerprints(paths, results)
    _check_names(paths)
    name = name or models[0]
    if "/" in name or name in ("", ".", ".."):
        raise UserError(f"'{name}' is no name of a folder", where="--name")
    folder = to / name
    told = table.read_reported(reported)
    built = table.build(list(zip(table.labels(results), results, strict=True)), told)
    made = Published(card or _card_of(paths, results, folder))
    if card is None:
        _check_place(made.card, folder)
    card = made.card
    if card.parent == folder and any(result["model"].get("path") for result in results):
        made.notes.append(f"{card} is the card; --card names another, which is then edited")
    asked = [None if requests is None else _asked(requests, result, made) for result in results]
    text = _card_text(card, name, list(zip(paths, results, strict=True)), source_url, made)
    make_folder(folder)
    for path in paths:
        _copy(path, folder, made)
    grid = table.grid(built)
    forms_ = {".md": grid_formats.to_markdown(grid), ".csv": table.to_csv(built), ".tex": grid_formats.to_latex(grid)}
    forms_[".html"] = grid_formats.to_html(grid)
    shown = [_read(path, label, data) for path, label, data in zip(paths, built.columns, results, strict=True)]
    drawn = pictures.draw(shown, told, folder)
    made.files += [path for _, files in drawn for path in files]
    for ending, content in forms_.items():
        _write(folder / f"table{ending}", content, made)
    page.write(folder / "index.html", f"{name}: orca-bench", shown, told, drawn, asked, progress)
    made.files.append(folder / "index.html")
    if text is not None:
        make_folder(card.parent)
        _write(card, text, made)
    return made


def push(card: Path, repository: str) -> str:
    """Upload a card to a model repository of the hub; returns the address of the commit. Raises UserError where that fails."""
    from huggingface_hub import HfApi

    token = os.environ.get("HF_TOKEN")
    if not token:
        raise UserError("no token", where="--push", hint="set HF_TOKEN to one that may write to the repository")
    if not card.is_file():
        raise UserError("there is no card to upload", where=card)
    try:
        done = HfApi(token=token).upload_file(
            path_or_fileobj=card,
            path_in_repo="README.md",
            repo_id=repository,
            commit_message="Scores measured with orca-bench",
        )
    except Exception as error:  # of many kinds: no such repository, no right to it, no network
        reason = f"{type(error).__name__}: {one_line(error, 200)}"
        raise UserError(f"the hub did not take the card ({reason})", where=repository) from None
    return str(done)


def _read(path: Path, label: str, data: dict) -> ResultFile:
    return read(path, label) if questions_file(path).is_file() else ResultFile(path, label, data)


def _asked(requests, result: dict, made: Published) -> page.Requests:
    of, notes = requests(result)
    made.notes += notes
    return of


def _check_fingerprints(paths: Sequence[Path], results: Sequence[dict]) -> None:
    """Raise UserError where results are of models that differ; of a server the weights are not known, but its folder is."""
    for part, name in (("fingerprint", "weights"), ("config", "configuration"), ("tokenizer", "tokenizer")):
        hashes = {result["model"].get(part) or _identity(result).get(part) for result in results} - {None}
        if len(hashes) > 1:
            raise UserError(
                f"these results are of models with other {name}",
                where=", ".join(map(str, paths)),
                hint="publish results of one model",
            )


def _identity(result: dict) -> dict:
    identity = result["model"].get("identity")
    return identity if isinstance(identity, dict) else {}


def _check_names(paths: Sequence[Path]) -> None:
    """Results are copied into one folder under their own names."""
    seen: dict[str, Path] = {}
    for path in paths:
        if path.name in seen:
            raise UserError(
                f"{seen[path.name]} has the same file name, and both go into one folder", where=path, hint="rename one"
            )
        seen[path.name] = path


def _card_of(paths: Sequence[Path], results: Sequence[dict], folder: Path) -> Path:
    """The card of the run that all results lie in; else one beside the tables, for a result may name any folder as its own."""
    own = {_own_model(path, result) for path, result in zip(paths, results, strict=True)}
    model = own.pop() if len(own) == 1 else None
    return (folder if model is None else model) / "README.md"


def _own_model(path: Path, result: dict) -> Path | None:
    """The model folder of the run below which a result lies, where it is the one that the result is of."""
    if not result["model"].get("path"):
        return None
    model = Path(result["model"]["path"])
    folder = model.resolve()
    run = next((parent.parent for parent in path.resolve().parents if parent.name == "results"), None)
    if run is None or not (run / "manifest.json").is_file() or not folder.is_dir():
        return None
    if folder != run / "model" and folder.parent != run / "exports":
        return None
    if (folder / "README.md").resolve().parent != folder:  # a link to a card elsewhere
        return None
    origin = model_folder.origin(str(folder))
    return model if all(origin.get(key) == result["model"].get(key) for key in ("run", "step")) else None


def _check_place(card: Path, folder: Path) -> None:
    """Raise UserError where a card beside the tables is a link to a file elsewhere."""
    if card.parent == folder and card.resolve().parent != card.parent.resolve():
        raise UserError("a link to a card elsewhere", where=card, hint="name it with --card")


def _card_text(
    card: Path, name: str, results: list[tuple[Path, dict]], source_url: str | None, made: Published
) -> str | None:
    try:
        text = card.read_text(encoding="utf-8") if card.is_file() else None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the card: {error}", where=card) from None
    source = None if source_url is None else cards.Source("orca-bench", source_url)
    found = []
    for path, result in results:
        try:
            scores, notes = cards.scores_of(result)
        except UserError as error:
            made.notes.append(f"{path}: {error}")
            continue
        if not result.get("complete"):
            made.notes.append(f"{path}: unfinished; only its finished tasks are on the card")
        found += cards.eval_results(scores, source, notes)
    if not found:
        made.notes.append("no score belongs on the card, so it was left as it is")
        return None
    return cards.update(text, name, found, card)


def _copy(path: Path, folder: Path, made: Published) -> None:
    for file in (path, questions_file(path)):
        if not file.is_file():
            made.notes.append(f"{file} is not there, so the published result cannot be verified")
            continue
        target = folder / file.name
        if target.resolve() != file.resolve():
            with writing(folder):
                shutil.copyfile(file, target)
        made.files.append(target)


def _write(path: Path, text: str, made: Published) -> None:
    write_text(path, text)
    made.files.append(path)
