"""A result in, a file of it out that loses nothing: tasks of one setting are put together, other settings keep a file each.

`eval --tasks winogrande` after `eval --tasks all` replaces one task of seven. Where the file holds a result of another setting
(protocol, limit, suite, model, versions, rows) this one is renamed, not replaced. Its own module because a result is made
without knowing what lies on the disk.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from orca_bench.errors import UserError
from orca_bench.evaluate import protocols, result_building
from orca_bench.evaluate.scoring import Question
from orca_bench.files import read_json_lines, sha256, writing
from orca_bench.results.reading import is_result, is_sealed, questions_file, read_result
from orca_bench.suite import BY_NAME, task_of
from orca_bench.system_messages import DEFAULT_SYSTEM_ID, SYSTEM_MESSAGES, id_of


def stem(protocol: str, limit: int | None, system: str, rooms: Mapping[str, int]) -> str:
    """The name of a result's file without its ending: the protocol, and what an option changed of it."""
    name = protocol
    if protocol == "orca" and system != SYSTEM_MESSAGES[DEFAULT_SYSTEM_ID]:
        known = id_of(system)
        name += (
            f"-system{known}"
            if known
            else f"-system-{hashlib.sha256(system.encode('utf-8', 'replace')).hexdigest()[:8]}"
        )
    own = (protocols.Orca if protocol == "orca" else protocols.Leaderboard).DEFAULT_MAX_NEW_TOKENS
    name += "".join(f"-{task}-room{room}" for task, room in sorted(rooms.items()) if room != own[task])
    return name if limit is None else f"{name}-limit{limit}"


def check(path: Path) -> None:
    """Raise UserError where a file that is no result is in the way: it is not replaced."""
    if path.is_dir() or (path.is_file() and not is_result(path)):
        raise UserError("what is there is no result", where=path, hint="choose another --out")


class Output:
    """The file that a result goes to, with what it held before.

    `notes` says in words what becomes of it. The result takes over the tasks of the same setting that it does not order.
    """

    def __init__(self, path: Path, result: dict, hashes: Mapping[str, dict[str, str]]):
        """Read what is at `path`; `hashes` are the hashes of the rows of each task that is ordered.

        Raises UserError where the file is there and is no result: it is not replaced.
        """
        check(path)
        self.path = path
        self.notes: list[str] = []
        self._lines: list[dict] = []
        self._source = next((file for file in _candidates(path) if _fits(file, result, hashes)), None)
        self._aside = _aside(path) if path.is_file() and self._source != path else None
        if self._aside is not None:
            self.notes.append(
                f"{path} is of another setting ({_difference(path, result)}): it becomes {self._aside.name} when the first "
                "task is done"
            )
        result["order"] = list(hashes)
        if self._source is not None:
            self._take_over(result)

    def _take_over(self, result: dict) -> None:
        earlier = read_result(self._source)
        others = [name for name in BY_NAME if name in earlier["tasks"] and name not in result["order"]]
        result["order"] = [
            name for name in BY_NAME if name in {*(earlier.get("order") or ()), *others, *result["order"]}
        ]
        for part in ("tasks", "data_hashes", "data_commits", "lm_eval"):
            earlier_part = earlier.get(part) or {}
            result[part] |= {name: earlier_part[name] for name in others if name in earlier_part}
        self._lines = [
            line for _, line in read_json_lines(questions_file(self._source)) if task_of(line["task"]) in others
        ]
        if others:
            titles = ", ".join(BY_NAME[name].title for name in others)
            self.notes.append(f"{self._source} has {titles} of the same setting, which stay in the result")

    def write(self, result: dict, questions: Sequence[Question]) -> None:
        """Write the result and its questions, those that were taken over among them."""
        if self._aside is not None:
            _move(self.path, self._aside)
            self._aside = None
        result_building.write(self.path, result, questions, self._lines)
        if self._source not in (None, self.path):
            with writing(self.path):
                questions_file(self._source).unlink(missing_ok=True)
                self._source.unlink(missing_ok=True)
        self._source = self.path


def _setting(result: dict) -> dict:
    """What two results must have in common for their tasks to stand in one file."""
    model = result["model"].get("identity")
    if "answers" in result:  # made elsewhere: nothing is known of the model but its name
        model = {"name": result["model"]["name"], "answers": result["answers"]["sha256"]}
    return {
        "format": result["format"],
        "protocol": result["protocol"],
        "limit": result.get("limit"),
        "suite": [result["suite"]["name"], result["suite"]["comparable"]],
        "model": model,
        "versions": result.get("versions"),
    }


def _candidates(path: Path) -> list[Path]:
    """The result at `path`, and those that were once there."""
    once = (
        sorted(path.parent.glob(f"{glob.escape(path.stem)}-{'[0-9a-f]' * 8}{path.suffix}"))
        if path.parent.is_dir()
        else []
    )
    return [file for file in (path, *once) if file.is_file() and is_result(file)]


def _fits(file: Path, result: dict, hashes: Mapping[str, dict[str, str]]) -> bool:
    """Whether a file holds a whole result of the same setting, and of the same rows where both have a task."""
    try:
        earlier = read_result(file)
    except UserError:
        return False
    questions = questions_file(file)
    if not is_sealed(earlier) or not questions.is_file() or earlier.get("questions_sha256") != sha256(questions):
        return False
    rows = earlier.get("data_hashes") or {}
    same_rows = all(rows[name] == digests for name, digests in hashes.items() if name in rows)
    return same_rows and _plain(_setting(earlier)) == _plain(_setting(result))


def _plain(value: object) -> object:
    """A value as it comes back from a file."""
    return json.loads(json.dumps(value, default=str))


def _difference(path: Path, result: dict) -> str:
    """What makes the setting of the result at `path` another one, in words."""
    try:
        earlier = read_result(path)
    except UserError:
        return "it cannot be read"
    before, now = _plain(_setting(earlier)), _plain(_setting(result))
    return ", ".join(name for name in before if before[name] != now[name]) or "rows, or questions that are not its own"


def _aside(path: Path) -> Path:
    """A free name for the result at `path`, by a hash of it."""
    digest = hashlib.sha256(path.read_bytes())
    while (aside := path.with_name(f"{path.stem}-{digest.hexdigest()[:8]}{path.suffix}")).exists():
        digest.update(b"again")
    return aside


def _move(path: Path, to: Path) -> None:
    with writing(path):
        if questions_file(path).is_file():
            os.replace(questions_file(path), questions_file(to))
        os.replace(path, to)
