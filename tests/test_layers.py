"""The order of the source: who may import whom, no import circles, short files, docstrings, names that say what they hold.

The checks read the syntax trees of the files; nothing is imported.
"""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MOST_LINES = 400

#: A room may import from the rooms in the lines below its own, and, unless it is in `APART`, from rooms in its line.
LAYERS = (
    ("__main__", "cli", "api", "mini"),
    ("serve", "report", "evaluate", "train", "data"),
    (
        "cards",
        "results",
        "stats",
        "models",
        "tokenizers",
        "recipe",
        "recipe_file",
        "recipe_layers",
        "suite",
        "question_limit",
        "prompt",
        "system_messages",
    ),
    (
        "files",
        "row_files",
        "disk_space",
        "counts",
        "hub",
        "yaml_files",
        "row_texts",
        "sampling_by_hash",
        "child_processes",
        "library_settings",
        "launcher_environment",
        "errors",
        "__init__",
    ),
)
#: Rooms that meet in files only: they do not import one another. Where one command needs two, `cli` calls both.
APART = LAYERS[1]
#: The one exception: talking to a model uses the engine that evaluates it.
ALLOWED = (("serve", "orca_bench.evaluate.engine"),)

#: Names that say that something happened, not what they hold. `read` is refused for a variable only: it is a verb too.
EMPTY_NAMES = frozenset(
    ["asked", "told", "say", "said", "made", "found", "kept", "shown", "given", "seen", "got", "taken", "drawn"]
    + ["began", "took", "done", "known", "held", "loaded", "measured", "written"]
)
EMPTY_VARIABLES = EMPTY_NAMES | {"read"}


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {_module(path): path for path in _files("orca_bench")}


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and name of each module of the package that a file imports, inside functions too."""
    package = _module(path).split(".") if path.stem == "__init__" else _module(path).split(".")[:-1]
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(
                [*package[: len(package) - node.level + 1], node.module or ""] if node.level else [node.module]
            )
            base = base.rstrip(".")
            names = [f"{base}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else base for name in names]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.split(".")[0] == "orca_bench")


def _room(module: str) -> str:
    return (module.split(".") + ["__init__"])[1]


def _is_inside(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def _layer(room: str) -> int:
    return next((number for number, rooms in enumerate(LAYERS) if room in rooms), -1)


def _expect_none(faults: list[str]) -> None:
    assert not faults, "\n".join(["", *faults])


def test_every_room_stands_in_a_layer() -> None:
    assert {room for room in map(_room, MODULES) if _layer(room) < 0} == set()


def test_the_diagram_of_the_readme_has_the_layers() -> None:
    text = (ROOT / "orca_bench/README.md").read_text(encoding="utf-8").split("## Who may import whom\n")[1]
    diagram = "".join(line for line in text.splitlines() if line.startswith("    ")).split("→")
    rooms = [[room.strip() for room in layer.split(",")] for layer in diagram]
    assert [sorted(layer) for layer in rooms] == [
        sorted(room for room in layer if not room.startswith("__")) for layer in LAYERS
    ]


def test_imports_go_down_the_layers() -> None:
    faults = []
    for module, path in MODULES.items():
        for line, imported in _imports(path):
            room, other = _room(module), _room(imported)
            if other == room or any(room == who and _is_inside(imported, what) for who, what in ALLOWED):
                continue
            if _layer(other) < _layer(room) or (room in APART and other in APART):
                faults.append(f"{path.relative_to(ROOT)}:{line}: {room} imports {imported}")
    _expect_none(faults)


_DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@functools.cache
def _own_names(path: Path) -> set[str]:
    """The names that a module binds itself, at any level: classes, functions and variables, no imports."""
    nodes = list(ast.walk(_tree(path)))
    variables = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return variables | {node.name for node in nodes if isinstance(node, _DEFINITIONS)}


def test_a_name_is_imported_from_the_module_where_it_lives() -> None:
    faults = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {alias.name} does not live in {node.module}"
        for path in _files("orca_bench", "tests")
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.ImportFrom)
        and node.module in MODULES
        and MODULES[node.module].stem != "__init__"  # a package may give the names of its modules
        for alias in node.names
        if alias.name not in _own_names(MODULES[node.module])
    ]
    _expect_none(faults)


def test_a_module_of_a_longer_name_is_not_inside_a_package() -> None:
    assert _is_inside("a.engine", "a.engine") and _is_inside("a.engine.tree", "a.engine")
    assert not _is_inside("a.engine_choice", "a.engine")


def _circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that can be reached from one another."""

    def reachable(start: str) -> set[str]:
        nodes: set[str] = set()
        waiting = [start]
        while waiting:
            new = imports.get(waiting.pop(), set()) - nodes
            nodes |= new
            waiting += new
        return nodes

    reach = {node: reachable(node) for node in imports}
    circles = {
        tuple(sorted(n for n in reach[node] if node in reach.get(n, set()))) for node in imports if node in reach[node]
    }
    return [list(circle) for circle in sorted(circles)]


def test_no_modules_import_one_another_in_a_circle() -> None:
    imports = {m: {i for _, i in _imports(path) if i != m} for m, path in MODULES.items()}
    faults = [f"{MODULES[circle[0]].relative_to(ROOT)}: {' '.join(circle)}" for circle in _circles(imports)]
    _expect_none(faults)


def test_no_rooms_import_one_another_in_a_circle() -> None:
    imports: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        rooms = {_room(imported) for _, imported in _imports(path)} - {_room(module), "__init__"}
        imports.setdefault(_room(module), set()).update(rooms)
    _expect_none([f"orca_bench/{circle[0]}: {' '.join(circle)}" for circle in _circles(imports)])


def test_a_circle_is_noticed() -> None:
    assert _circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]


def test_no_file_is_long() -> None:
    lengths = {
        path.relative_to(ROOT): len(path.read_text(encoding="utf-8").splitlines())
        for path in _files("orca_bench", "tests")
    }
    faults = [f"{path}: {length} lines" for path, length in lengths.items() if length > MOST_LINES]
    _expect_none(faults)


def _public(node: ast.Module | ast.ClassDef) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not child.name.startswith("_"):
            yield child
            if isinstance(child, ast.ClassDef):
                yield from _public(child)


def test_everything_public_has_a_docstring() -> None:
    faults = []
    for path in _files("orca_bench"):
        if not ast.get_docstring(_tree(path)):
            faults.append(f"{path.relative_to(ROOT)}: the module")
        faults += [
            f"{path.relative_to(ROOT)}:{node.lineno}: {node.name}"
            for node in _public(_tree(path))
            if not ast.get_docstring(node)
        ]
    _expect_none(faults)


def _defined(tree: ast.Module) -> Iterator[tuple[int, str, bool]]:
    """Line, name, and whether it is a variable, of everything that a file defines: imported names but those of libraries."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id, True
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr, True
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg, True
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name, False
        elif isinstance(node, ast.alias) and node.asname:
            yield node.lineno, node.asname, False
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs) and node.name:
            yield node.lineno, node.name, True


def test_names_say_what_they_hold() -> None:
    faults = []
    for path in _files("orca_bench", "tests"):
        if path.stem in EMPTY_NAMES:
            faults.append(f"{path.relative_to(ROOT)}: the module")
        for line, name, variable in _defined(_tree(path)):
            if name.strip("_") in (EMPTY_VARIABLES if variable else EMPTY_NAMES):
                faults.append(f"{path.relative_to(ROOT)}:{line}: {name}")
    _expect_none(faults)


@pytest.mark.parametrize("source", ["found = 1", "def f(made): ...", "class A:\n def told(self): ...", "a.kept = 1"])
def test_an_empty_name_is_noticed(source: str) -> None:
    assert any(name in EMPTY_NAMES for _, name, _ in _defined(ast.parse(source)))


def test_what_a_module_exports_is_there() -> None:
    """Linters do not look at `__all__` in a package's own module."""
    faults = []
    for path in _files("orca_bench"):
        tree = _tree(path)
        names = {name for _, name, _ in _defined(tree)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        for node in tree.body:
            if isinstance(node, ast.Assign) and any(ast.unparse(target) == "__all__" for target in node.targets):
                faults += [
                    f"{path.relative_to(ROOT)}: {name}" for name in ast.literal_eval(node.value) if name not in names
                ]
    assert not faults
