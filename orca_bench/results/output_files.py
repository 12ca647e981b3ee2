"""The path of an output in, an error out where writing it would destroy an input or a result.

Its own module because every command that writes a file which the user names calls it before the work begins.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from orca_bench.errors import UserError
from orca_bench.results.reading import COMPRESSED_SUFFIX, QUESTIONS_SUFFIX, find_questions_path, is_result_file


def check_output_file(out: Path, inputs: Iterable[Path | str | None], *, may_replace_result: bool = False) -> None:
    """Raise UserError where `out` is an input, a file in an input folder, or the questions of an input; or a result.

    Links and other spellings of a path are seen through. Inputs that are None, or that are no file or folder, are passed over.
    With `may_replace_result` a result that is no input may be replaced: by a command that writes results.
    """
    if not out.exists():
        return
    for input_path in inputs:
        if input_path is not None and os.path.exists(input_path) and _is_part_of(out, Path(input_path)):
            raise UserError(
                f"{input_path} is an input, and writing would destroy it", where=out, hint="name another file"
            )
    if not may_replace_result and out.is_file() and (is_result_file(out) or _is_questions_file(out)):
        raise UserError("a result of orca-bench stands there", where=out, hint="name another file")


def _is_part_of(out: Path, path: Path) -> bool:
    if path.is_dir():
        return path.resolve() in out.resolve().parents
    questions_path = find_questions_path(path)
    return out.samefile(path) or (questions_path.is_file() and out.samefile(questions_path))


def _is_questions_file(path: Path) -> bool:
    """Whether a file is the questions of a result that stands beside it."""
    resolved_path = Path(os.path.realpath(path))
    name = resolved_path.name.removesuffix(COMPRESSED_SUFFIX)
    return name.endswith(QUESTIONS_SUFFIX) and is_result_file(
        resolved_path.with_name(f"{name.removesuffix(QUESTIONS_SUFFIX)}.json")
    )
