"""The wheel, built and installed in an environment of its own, away from the checkout, does what the checkout does.

Its dependencies are taken from the environment of the tests; with ORCA_BENCH_FULL_INSTALL=1, as in CI, they are installed anew
from what the wheel itself asks for.
"""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # builds and installs a wheel
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder of the programs of an environment that has orca-bench from its wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if name.endswith(".md")]
    shipped = {*(ROOT / "recipes").rglob("*.yaml"), *(ROOT / "results" / "reported").glob("*.json")}
    assert {Path(name).name for name in names if "/shipped/" in name} == {path.name for path in shipped}
    venv.create(folder / "environment", with_pip=True)
    programs = folder / "environment" / "bin"
    install = [programs / "python", "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    if os.environ.get("ORCA_BENCH_FULL_INSTALL"):
        # Not compiled: the few modules that the tests import are, when they are imported.
        constrained = [*install, "--no-compile", "--constraint", ROOT / "constraints.txt"]
        run(*constrained, "torch", cwd=folder)
        run(*constrained, wheel, cwd=folder)
    else:
        run(*install, "--no-deps", wheel, cwd=folder)
        # Its lines are paths, of which `site` reads no further .pth files: the checkout of an editable install stays out.
        (site_packages,) = (folder / "environment" / "lib").glob("python*/site-packages")
        (site_packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return programs


def run(*words, cwd) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1"}
    process = subprocess.run([*map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=3600)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def test_the_package_is_the_wheels_and_not_the_checkouts(installed, tmp_path):
    where = run(installed / "python", "-c", "import orca_bench; print(orca_bench.__file__)", cwd=tmp_path)
    assert where.startswith(str(installed.parent))


def test_a_shipped_recipe_is_planned(installed, tmp_path):
    text = run(installed / "orca-bench", "train", "recipes/mini.yaml", "--dry-run", cwd=tmp_path)
    assert "name: mini" in text and "steps" in text


def test_another_packages_recipes_do_not_win(installed, tmp_path):
    (site_packages,) = (installed.parent / "lib").glob("python*/site-packages")
    foreign = site_packages / "recipes"
    foreign.mkdir()
    try:
        text = run(installed / "orca-bench", "train", "mini", "--dry-run", cwd=tmp_path)
    finally:
        foreign.rmdir()
    assert "name: mini" in text


def test_a_tiny_model_is_evaluated_and_shown_beside_the_reported_scores(installed, tmp_path, tiny_model):
    words = ["--model", tiny_model, "--benchmarks", "mini:", "--tasks", "arc_challenge,gsm8k", "--limit", "2"]
    text = run(installed / "orca-bench", "eval", *words, cwd=tmp_path)
    assert "42.06" in text and "ARC-Challenge" in text
