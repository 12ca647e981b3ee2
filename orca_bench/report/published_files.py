"""The files that `publish` is to write in; which of the folder's files they may replace, and which old ones go, out.

A list in the folder has the name and the hash of each file that `publish` wrote there: only such files, unchanged since, are
replaced or removed. Its own module because the folder may be anybody's, and the list is read from a disk.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from orca_bench.errors import UserError, join_names
from orca_bench.files import catch_write_errors, file_sha256, read_json, write_json

#: The list of what was written, in the folder of a publication.
LIST_NAME = "orca-bench-files.json"
_LIST_FORMAT = "orca-bench-files-1"
_MAX_NAMES_IN_MESSAGE = 4


@dataclass(frozen=True)
class PublishedFiles:
    """What an earlier publication wrote to a folder: the hash of each file by its name; None where it was interrupted."""

    folder: Path
    hash_by_name: dict[str, str | None]

    def check_replacement(self, names: Collection[str], own_prefix: str) -> None:
        """Raise UserError where one of these names is that of a file which `publish` did not write, or which was changed.

        Names that begin with `own_prefix` are always those of `publish`.
        """
        paths = [self.folder / name for name in names if not name.startswith(own_prefix)]
        foreign_names = [path.name for path in paths if _exists(path) and not self._is_own(path)]
        if foreign_names:
            raise UserError(
                f"not written by orca-bench publish, or changed since: {join_names(foreign_names, _MAX_NAMES_IN_MESSAGE)}",
                where=self.folder,
                hint="name another folder with --to, or move these files",
            )

    def begin(self, names: Collection[str]) -> None:
        """Put the names into the list before the files are written, so that an interrupted publication can be done again."""
        self._write_list(self.hash_by_name | dict.fromkeys(names, None))

    def finish(self, names: Sequence[str], inputs: Collection[Path]) -> list[str]:
        """Write the list of these files, and remove those of the earlier publication that are not among them.

        Returns notes on files that stay because they were changed; `inputs` stay too.
        """
        notes = []
        resolved_inputs = {path.resolve() for path in inputs}
        for name in self.hash_by_name.keys() - set(names):
            path = self.folder / name
            if not _exists(path) or path.resolve() in resolved_inputs:
                continue
            if self.hash_by_name[name] is not None and self._is_own(path):
                with catch_write_errors(path):
                    path.unlink()
            else:
                notes.append(f"{path}, of an earlier publication, was changed, or not written whole, and stays")
        self._write_list({name: file_sha256(self.folder / name) for name in names})
        return sorted(notes)

    def _is_own(self, path: Path) -> bool:
        """Whether a file is as `publish` left it."""
        if path.is_symlink() or not path.is_file() or path.name not in self.hash_by_name:
            return False
        sha256 = self.hash_by_name[path.name]
        return sha256 is None or sha256 == file_sha256(path)

    def _write_list(self, hash_by_name: dict[str, str | None]) -> None:
        write_json(self.folder / LIST_NAME, {"format": _LIST_FORMAT, "files": dict(sorted(hash_by_name.items()))})


def read_published_files(folder: Path) -> PublishedFiles:
    """The list of a folder, empty where it has none; raises UserError where a file of that name is no such list."""
    list_path = folder / LIST_NAME
    if not _exists(list_path):
        return PublishedFiles(folder, {})
    content = None if list_path.is_symlink() else read_json(list_path)
    entries = content.get("files") if isinstance(content, dict) and content.get("format") == _LIST_FORMAT else None
    if not isinstance(entries, dict) or not all(_is_entry(name, sha256) for name, sha256 in entries.items()):
        raise UserError(
            "not a list that orca-bench publish wrote", where=list_path, hint="name another folder with --to"
        )
    return PublishedFiles(folder, entries)


def _is_entry(name: str, sha256: object) -> bool:
    """Whether an entry names a file in the folder itself."""
    is_plain_name = Path(name).name == name and name not in ("", ".", "..", LIST_NAME) and "\0" not in name
    return is_plain_name and (sha256 is None or isinstance(sha256, str))


def _exists(path: Path) -> bool:
    return path.exists() or path.is_symlink()
