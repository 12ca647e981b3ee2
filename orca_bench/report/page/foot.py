"""Results in, the foot of the page as HTML out: warnings in full, where each number comes from, and how to verify it.

Its own module because it is for those who check, and nobody else reads it.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from orca_bench.report.grid_formats import escape_html
from orca_bench.results.models import Result
from orca_bench.results.reading import ResultFile


def page_foot(result_files: Sequence[ResultFile], notes: Sequence[str], absence_reasons: Sequence[str]) -> str:
    """The foot; `notes` are warnings and remarks in full, `absence_reasons` say what could not be put into the page."""
    items = "".join(f"<li>{escape_html(note)}</li>" for note in notes)
    notes_html = f'<h2 id="notes">Warnings and remarks</h2>\n<ul class="notes">{items}</ul>\n' if notes else ""
    absence_items = "".join(f"<li>{escape_html(text)}</li>" for text in dict.fromkeys(absence_reasons))
    absence_html = f"<h2>What is not in this page</h2>\n<ul>{absence_items}</ul>\n" if absence_reasons else ""
    provenance = "".join(_provenance(result_file) for result_file in result_files)
    names = " ".join(dict.fromkeys(shlex.quote(_path_text(result_file.path)) for result_file in result_files))
    return (
        f'<footer>\n{notes_html}{absence_html}<h2 id="provenance">Where the numbers come from</h2>\n{provenance}'
        '<h2 id="verify">How to verify them</h2>\n'
        "<p>With the result files and their questions (<code>NAME.questions.jsonl</code>), this "
        "computes every score, error and hash again:</p>\n"
        f"<pre>orca-bench verify {escape_html(names)}</pre>\n"
        "<p>With the model, <code>orca-bench eval</code> asks the questions again. Log-probabilities in this page are rounded to "
        "three decimals; the result files have all digits.</p>\n</footer>\n"
    )


def _provenance(result_file: ResultFile) -> str:
    facts = {name: value for name, value in _facts(result_file.result).items() if value}
    rows = "".join(
        f'<tr><th scope="row">{escape_html(name)}</th><td>{escape_html(str(value))}</td></tr>'
        for name, value in facts.items()
    )
    return (
        f"<details><summary><bdi>{escape_html(result_file.label)}</bdi>: model, versions and hashes</summary>"
        '<div class="scroll" tabindex="0" role="region" aria-label="Provenance">'
        f'<table class="facts">{rows}</table></div></details>\n'
    )


def _facts(result: Result) -> dict[str, object]:
    model, protocol = result.model, result.protocol
    engine = model.engine
    return {
        "model": model.name,
        "revision": model.commit or model.revision,
        "run and step": None if model.run is None else f"{model.run}, step {model.step}",
        "parameters": None if model.parameters is None else f"{model.parameters:,}",
        "dtype, device": ", ".join(filter(None, [model.dtype, model.device])),
        "engine": None if engine is None else " ".join(filter(None, [engine.name, engine.version, engine.path])),
        "protocol": protocol.name_and_version,
        "system message": protocol.system,
        "window, tokens": protocol.max_length,
        "measured": result.created,
        "versions": ", ".join(f"{name} {version}" for name, version in result.versions.items()),
        "SHA-256 of the model": (model.identity or {}).get("sha256"),
        "of its weights": model.fingerprint or (model.identity or {}).get("weights"),
        "of the requests": result.requests_sha256,
        "of the questions and answers": result.questions_sha256,
        "of the result": result.result_sha256,
    }


def _path_text(path: Path) -> str:
    """A path as the user gave it; of an absolute one the name, because a page is given to others."""
    return path.name if path.is_absolute() else path.as_posix()
