"""What is written appears whole or not at all."""

import os
import signal
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orca_bench.errors import UserError, WriteError
from orca_bench.files import (
    cache_folder,
    catch_write_errors,
    make_writable_folder,
    open_binary_replacement,
    open_folder_replacement,
    remove_temporary_files,
    write_text,
)


def fill(folder, text):
    (folder / "inner").mkdir()
    (folder / "inner" / "a.txt").write_text(text)


def content(folder):
    return (folder / "inner" / "a.txt").read_text()


def test_a_folder_takes_the_place_of_an_earlier_one_whole(tmp_path):
    for text in ("first", "second"):
        with open_folder_replacement(tmp_path / "model") as folder:
            fill(folder, text)
            assert not (tmp_path / "model").exists() or content(tmp_path / "model") == "first"
        assert content(tmp_path / "model") == text
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_a_folder_that_fails_leaves_the_earlier_one(tmp_path):
    with open_folder_replacement(tmp_path / "model") as folder:
        fill(folder, "first")
    with (
        pytest.raises(UserError, match="cannot write: No space left"),
        open_folder_replacement(tmp_path / "model") as folder,
    ):
        fill(folder, "second")
        raise OSError(28, "No space left on device")
    assert content(tmp_path / "model") == "first"
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_threads_may_prepare_a_folder_and_write_a_file_at_the_same_time(tmp_path):
    texts = [str(number) * 200_000 for number in range(8)]

    def write(text):
        for _ in range(20):
            write_text(make_writable_folder(tmp_path / "runs") / "file", text)

    with ThreadPoolExecutor(len(texts)) as threads:
        list(threads.map(write, texts))
    assert (tmp_path / "runs" / "file").read_text() in texts
    assert [entry.name for entry in (tmp_path / "runs").iterdir()] == ["file"]


def test_a_kill_in_the_middle_leaves_nothing_that_looks_whole_and_the_rest_is_cleared(tmp_path):
    script = """
        import os, sys
        from pathlib import Path
        from orca_bench.files import cache_folder, open_binary_replacement, open_folder_replacement
        with open_binary_replacement(Path("tokens.npz")) as handle, open_folder_replacement(Path("model")) as folder:
            handle.write(b"half")
            (folder / "config.json").write_text("{}")
            os.kill(os.getpid(), 9)
    """.replace("\n        ", "\n")
    killed = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=os.environ)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "model").exists() and not (tmp_path / "tokens.npz").exists()
    assert len(list(tmp_path.iterdir())) == 2
    remove_temporary_files(tmp_path)
    assert not list(tmp_path.iterdir())


def test_processes_with_the_same_id_write_a_file_under_different_names(tmp_path):
    """As those of two containers with one folder may have."""
    script = """
        import os
        from pathlib import Path
        os.getpid = lambda: 7
        from orca_bench.files import path_replacement
        with path_replacement(Path("file")) as path:
            path.write_text("")
            print(path.name)
    """.replace("\n        ", "\n")
    words = [sys.executable, "-c", script]
    names = {subprocess.check_output(words, cwd=tmp_path, env=os.environ, text=True) for _ in range(2)}
    assert len(names) == 2


def test_a_nul_character_in_a_path_is_an_error_of_the_user_and_other_value_errors_stay(tmp_path):
    with pytest.raises(WriteError, match="cannot write: a NUL character in the path"):
        write_text(tmp_path / "a\0b", "text")
    with pytest.raises(ValueError, match="of a library"), catch_write_errors(tmp_path):
        raise ValueError("of a library")


def test_a_link_to_a_folder_elsewhere_stays_one(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "model").symlink_to(tmp_path / "disk")
    with open_folder_replacement(tmp_path / "model") as folder:
        fill(folder, "first")
    assert (tmp_path / "model").is_symlink() and content(tmp_path / "disk") == "first"


def test_bytes_replace_a_file_in_one_step(tmp_path):
    path = tmp_path / "a.bin"
    with open_binary_replacement(path) as handle:
        handle.write(b"first")
    with pytest.raises(ValueError), open_binary_replacement(path) as handle:
        handle.write(b"second")
        raise ValueError
    assert path.read_bytes() == b"first" and [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]


def test_the_wheel_names_every_shipped_file_and_no_page():
    root = Path(__file__).resolve().parents[1]
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = settings["tool"]["hatch"]["build"]["targets"]["wheel"]
    files = [*(root / "recipes").rglob("*.yaml"), *(root / "results" / "reported").glob("*.json")]
    assert {root / name for name in wheel["force-include"]} == set(files)
    assert wheel["exclude"] == ["**/*.md"]


def test_the_cache_is_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("ORCA_BENCH_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder("gguf") == tmp_path / "own" / "gguf"
    monkeypatch.delenv("ORCA_BENCH_CACHE")
    assert cache_folder("gptq") == tmp_path / "xdg" / "orca-bench" / "gptq"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder("gguf") == tmp_path / ".cache" / "orca-bench" / "gguf"
