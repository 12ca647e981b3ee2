"""Results in, one HTML file out that needs nothing else: table, pictures, notes, and every question with its request.

Nothing is fetched and nothing runs but the page's own script (a content security policy names its hash). Everything that a
model or a data set wrote is data: JSON in which no tag can begin, shown as text by the script. Requests and answers lie in
compressed chunks that are unpacked when a question of theirs is looked at, so that tens of thousands open at once.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from orca_bench.errors import UserError
from orca_bench.files import replacing
from orca_bench.report import leaderboard, table
from orca_bench.report.grid_formats import Grid
from orca_bench.results.reading import ResultFile
from orca_bench.suite import task_of

_CHUNK = 100  # questions that are unpacked together
_HERE = Path(__file__).parent

Progress = Callable[[int, int], None]
#: Gives the requests of a question, [(context, continuation or None, stop strings)], by task part and place in the protocol's
#: order; None where they cannot be had.
Requests = Callable[[str, int], Sequence[tuple[str, str | None, Sequence[str]]] | None]


def write(
    out: Path,
    title: str,
    results: Sequence[ResultFile],
    reported: dict,
    drawn: Sequence[tuple[str, Sequence[Path]]],
    requests: Sequence[Requests | None],
    progress: Progress = lambda done, total: None,
) -> None:
    """Write the page of some results: models as rows from three on. `drawn` are pictures as `pictures.draw` gives them.

    `progress` is told of questions.
    """
    by_task = table.build([(result.label, result.data) for result in results], reported)
    grid = table.grid(by_task)
    if len(results) > 2:
        models = leaderboard.build(results, [reported])
        grid = replace(models, title=by_task.title, notes=list(dict.fromkeys(models.notes + by_task.notes)))
    svgs = [(caption, next(file for file in files if file.suffix == ".svg")) for caption, files in drawn]
    with replacing(out) as handle:
        for piece in build(title, results, grid, svgs, requests, progress):
            handle.write(piece)


def build(
    title: str,
    results: Sequence[ResultFile],
    grid: Grid,
    pictures: Sequence[tuple[str, Path]],
    requests: Sequence[Requests | None],
    progress: Progress = lambda done, total: None,
) -> Iterator[str]:
    """The page in pieces of text. `pictures` are (caption, SVG file); `requests` has one entry a result."""
    keys = _keys(results)
    script, style = (_HERE / "page.js").read_text(encoding="utf-8"), (_HERE / "page.css").read_text(encoding="utf-8")
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{allowed}'"
    yield (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<h1>{html.escape(title)}</h1>\n"
    )
    yield _table(grid)
    yield '<section id="pictures">\n'
    for caption, file in pictures:
        data = base64.b64encode(file.read_bytes()).decode()
        said = html.escape(caption)
        yield f'<figure><img alt="{said}" src="data:image/svg+xml;base64,{data}"><figcaption>{said}</figcaption></figure>\n'
    yield "</section>\n"
    yield (_HERE / "page.html").read_text(encoding="utf-8")
    yield f'<script type="application/json" id="index">{_json(_index(results, keys))}</script>\n'
    for number, start in enumerate(range(0, len(keys), _CHUNK)):
        progress(start, len(keys))
        part = [_question(results, requests, key) for key in keys[start : start + _CHUNK]]
        packed = base64.b64encode(gzip.compress(_json(part).encode(), 6, mtime=0)).decode()
        yield f'<script type="text/plain" id="chunk-{number}">{packed}</script>\n'
    yield f"<script>{script}</script>\n</body>\n</html>\n"


def _keys(results: Sequence[ResultFile]) -> list[tuple[str, str, int]]:
    """(task, part, row) of every question of any result, in the order of the first that has it."""
    found: dict[tuple[str, str, int], None] = {}
    for result in results:
        for task, scores in result.tasks.items():
            found |= {(task, *key): None for key in scores.questions}
    order = list(dict.fromkeys(task for task, _, _ in found))
    return sorted(found, key=lambda key: order.index(key[0]))  # stable: within a task as the protocol asked


def _index(results: Sequence[ResultFile], keys: Sequence[tuple[str, str, int]]) -> dict:
    """What the list needs of every question: task, part, row, and its score in each result, null where it has none."""
    parts = list(dict.fromkeys(part for _, part, _ in keys))
    places = {part: place for place, part in enumerate(parts)}
    columns = []
    for result in results:
        column = []
        for task, part, row in keys:
            scored = result.tasks[task].questions.get((part, row)) if task in result.tasks else None
            column.append(None if scored is None else round(scored.score, 4))
        columns.append(column)
    tasks = {}
    for result in results:
        tasks |= {name: [entry.get("title", name), entry.get("metric")] for name, entry in result.data["tasks"].items()}
    return {
        "results": [result.label for result in results],
        "tasks": [[name, *tasks.get(name, [name, None])] for name in dict.fromkeys(task for task, _, _ in keys)],
        "parts": [[part, task_of(part)] for part in parts],
        "part": [places[part] for _, part, _ in keys],
        "row": [row for _, _, row in keys],
        "scores": columns,
        "chunk": _CHUNK,
    }


def _question(results: Sequence[ResultFile], requests: Sequence[Requests | None], key: tuple[str, str, int]) -> dict:
    """Of one question what was asked, each form of it once, and what each result has of it, null where it was not asked."""
    task, part, row = key
    told, forms = [], []
    for result, of in zip(results, requests, strict=True):
        scored = result.tasks[task].questions.get((part, row)) if task in result.tasks else None
        if scored is None:
            told.append(None)
            continue
        line = scored.line
        asked = of(part, line.get("index")) if of else None
        form = None if asked is None else _asked(asked)
        if form is not None and form not in forms:
            forms.append(form)
        told.append(
            {
                "score": scored.score,
                "prediction": line.get("prediction"),
                "gold": line.get("gold"),
                "answers": line.get("answers"),
                "whole": line.get("whole"),
                # TruthfulQA's mc1, which one protocol asks too, stands before the choices that prediction and gold count.
                "counted": "mc1" not in line,
                "asked": None if form is None else forms.index(form),
            }
        )
    return {"asked": forms, "results": told}


def _asked(asked: Sequence[tuple[str, str | None, Sequence[str]]]) -> dict:
    """Contexts, each once, and by request the number of its context and what follows it."""
    contexts = list(dict.fromkeys(context for context, _, _ in asked))
    return {
        "contexts": contexts,
        "requests": [[contexts.index(context), continuation, list(until)] for context, continuation, until in asked],
    }


def _table(grid: Grid) -> str:
    """The table; numbers carry what they are sorted by."""
    head = "".join(
        f'<th class="{"left" if i in grid.left else "right"}"><button type="button">{html.escape(heading)}</button></th>'
        for i, heading in enumerate(grid.headings)
    )
    rows = []
    for row in grid.rows:
        cells = []
        for i, cell in enumerate(row):
            text = html.escape(cell.text)
            side = "left" if i in grid.left else "right"
            cells.append(f'<td class="{side}">{f"<b>{text}</b>" if cell.bold else text}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in grid.notes)
    title = f"<p>{html.escape(grid.title)}</p>" if grid.title else ""
    return (
        f'<section id="scores">{title}<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>\n'
        + "\n".join(rows)
        + f"\n</tbody></table></div><ul>{notes}</ul></section>\n"
    )


def _json(value: object) -> str:
    """JSON in which no tag, comment or line separator can begin."""
    try:
        text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False, default=str)
    except ValueError:
        raise UserError("a number in the questions is not finite", hint="evaluate again") from None
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
