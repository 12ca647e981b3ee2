"""A recipe file in, one checked `Recipe` out, or an error that names file, line and key.

A file may extend another: its keys are laid over those of the other file, key by key. `-o a.b=c` on the command line lays
one more value on top. Apart from the models in `recipe`, because only reading needs to know where each value was written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from orca_bench import yaml_files
from orca_bench.errors import UserError, nearest
from orca_bench.files import shipped
from orca_bench.recipe import EXTENDS, NAME_PATTERN, PRINTABLE_PATTERN, Recipe

#: The place of a value: the keys that lead to it, and positions in lists.
Location = tuple[str | int, ...]

_MAX_EXTENDING_FILES = 16  # in one chain, above the file that extends none

#: What a text of each pattern is, for a message.
_PATTERN_WORDS = {
    NAME_PATTERN: "is not a name: use letters, digits and . _ - and begin with a letter or a digit",
    PRINTABLE_PATTERN: "holds a control character",
}


def load(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe file; `overrides` are `section.key=value` with the value in YAML.

    `path` is a file, or the name of a shipped recipe (`13b`) where there is no such file. Raises UserError, with the file and
    line that hold the value, for a file that is absent or not YAML, for files that extend one another in a circle or in a
    chain of more than 16, for unknown keys and wrong types, and for batch numbers that do not multiply.
    """
    path = _existing_or_shipped(Path(path))
    values, places = _read_with_bases(path, ())
    for override in overrides:
        key = _apply_override(values, override)
        places.note(tuple(key.split(".")), f"-o {override}")
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        details = _most_telling(error.errors())
        raise _validation_error(details, places.describe(details["loc"])) from None
    _check_model(recipe, places)
    _check_batch(recipe, places)
    _check_offload(recipe, places)
    return recipe


class _Places:
    """Where each value of a recipe was written: a file and line, or an override.

    Files and overrides are numbered in the order in which they are laid over one another, the base first.
    """

    def __init__(self, path: Path, lines: Mapping[yaml_files.Location, int]):
        self._path = path
        self._layer = 0
        self._places: dict[Location, tuple[int, str]] = {key: (0, f"{path}:{line}") for key, line in lines.items()}

    def lay_over(self, upper: _Places) -> None:
        """Add the places of a file that extends this one; of two, that of `upper` counts."""
        self._layer += 1
        self._path = upper._path
        self._places |= {location: (self._layer, place) for location, (_, place) in upper._places.items()}

    def note(self, location: Location, place: str) -> None:
        """Add an override; it removes the places of the keys it replaces."""
        self._layer += 1
        self.forget(location)
        self._places[location] = (self._layer, place)

    def forget(self, location: Location) -> None:
        """Remove the places of a value, and of all values inside it, because another value replaces them."""
        self._places = {key: entry for key, entry in self._places.items() if key[: len(location)] != location}

    def describe(self, *locations: Location) -> str:
        """The place and dotted key of one of these values: of that written last; a default has the place of its section."""
        location = max(locations, key=lambda location: (location in self._places, self._entry(location)[0]))
        dotted = ".".join(str(part) for part in location if not isinstance(part, int))
        place = self._entry(location)[1]
        return f"{place}: {dotted}" if dotted else place

    def _entry(self, location: Location) -> tuple[int, str]:
        beginnings = (location[:length] for length in range(len(location), 0, -1))
        return next((self._places[part] for part in beginnings if part in self._places), (-1, str(self._path)))


# --- reading files ---------------------------------------------------------------------------------------------------


def _existing_or_shipped(path: Path) -> Path:
    """The path itself; where there is no such file, the shipped recipe that `13b`, `13b.yaml` or `recipes/13b.yaml` names."""
    recipe = _shipped_recipe(path)
    return path if recipe is None or path.is_file() else recipe


def _shipped_recipe(name: Path) -> Path | None:
    """The shipped recipe that `13b`, `13b.yaml` or `recipes/13b.yaml` names, None where it names none."""
    is_name = name.suffix in ("", ".yaml") and str(name.parent) in (".", "recipes")
    return _shipped_recipes().get(name.name.removesuffix(".yaml")) if is_name else None


def _shipped_recipes() -> dict[str, Path]:
    return {path.stem: path for path in sorted(shipped("recipes").glob("*.yaml"))}


def _read_with_bases(path: Path, upper_files: tuple[Path, ...]) -> tuple[dict[str, Any], _Places]:
    """The values of a file laid over those of the files it extends; `upper_files` are those that extend it."""
    values, lines = yaml_files.read(path, "recipe", hint=f"shipped with orca-bench are {', '.join(_shipped_recipes())}")
    if not isinstance(values, dict):
        raise UserError("a recipe is a mapping with the keys name, model, data and train", where=path)
    places = _Places(path, lines)
    if EXTENDS not in values:
        return values, places
    where = places.describe((EXTENDS,))
    base = _base_file(values.pop(EXTENDS), path, where)
    chain = (*upper_files, path)
    if any(base.samefile(file) for file in chain):
        names = " extends ".join(str(file) for file in (*chain, base))
        raise UserError(f"recipes that extend one another in a circle: {names}", where=where)
    if len(chain) > _MAX_EXTENDING_FILES:
        raise UserError(f"more than {_MAX_EXTENDING_FILES} recipes extend one another", where=where)
    base_values, base_places = _read_with_bases(base, chain)
    _lay_over(base_values, values, base_places, ())
    base_places.lay_over(places)
    return base_values, base_places


def _base_file(name: Any, path: Path, where: str) -> Path:
    """The file that the recipe at `path` extends: relative to it, or a shipped one."""
    if not isinstance(name, str) or not name:
        raise UserError("should be the path of one recipe", where=where, hint="e.g. extends: 13b.yaml")
    try:
        beside = path.parent / name
        base = beside if beside.is_file() else _shipped_recipe(Path(name))  # never a file of the current folder
        if base is not None:
            return base
    except (OSError, ValueError):  # too long a path, no permission, a null character
        pass
    hint = f"a path is relative to {path.parent}/; shipped with orca-bench are {', '.join(_shipped_recipes())}"
    raise UserError(f"no such recipe '{name}'", where=where, hint=hint)


def _lay_over(base: dict[str, Any], upper: dict[str, Any], base_places: _Places, location: Location) -> None:
    """Put the values of `upper` into `base`, mapping by mapping; any other value replaces the whole one in its place."""
    for key, value in upper.items():
        inner = base.get(key)
        if isinstance(inner, dict) and isinstance(value, dict):
            _lay_over(inner, value, base_places, (*location, key))
        else:
            base[key] = value
            base_places.forget((*location, key))


def _apply_override(values: dict[str, Any], override: str) -> str:
    """Set one value as `override` says; returns its dotted key."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError("an override is section.key=value", where=f"-o {override}", hint="e.g. -o train.lr=1e-5")
    value, _ = yaml_files.parse(text, f"-o {override}")
    *sections, last = key.split(".")
    section = values
    for name in sections:
        inner = section.get(name)
        if inner is None:
            inner = section[name] = {}
        if not isinstance(inner, dict):
            raise UserError(f"'{name}' is not a section", where=f"-o {override}")
        section = inner
    section[last] = value
    return key


# --- what is wrong with a value ---------------------------------------------------------------------------------------


def _most_telling(errors: Sequence[ErrorDetails]) -> ErrorDetails:
    """An unknown key first: it is often the reason why another one is missing."""
    return next((error for error in errors if error["type"] == "extra_forbidden"), errors[0])


def _validation_error(error: ErrorDetails, where: str) -> UserError:
    kind, location, value = error["type"], error["loc"], error.get("input")
    if kind == "extra_forbidden":
        known = _keys_of_section(location[:-1])
        hint = nearest(str(location[-1]), known) or f"known keys here: {', '.join(known)}"
        return UserError(f"unknown key '{location[-1]}'", where=where, hint=hint)
    if kind == "missing":
        return UserError("this key is needed and missing", where=where)
    if kind == "literal_error":
        choices = error["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
        return UserError(f"{value!r} is not one of {choices}", where=where)
    if kind == "string_pattern_mismatch":
        return UserError(f"{value!r} {_PATTERN_WORDS[error['ctx']['pattern']]}", where=where)
    description = "a section" if isinstance(value, dict) else repr(value)
    message = error["msg"].replace("Input should be", "should be")
    return UserError(f"{description}: {message[0].lower()}{message[1:]}", where=where)


def _keys_of_section(location: Location) -> list[str]:
    section: type[BaseModel] = Recipe
    for part in location:
        annotation = section.model_fields[str(part)].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        section = next(option for option in options if isinstance(option, type) and issubclass(option, BaseModel))
    return list(section.model_fields)


def _check_model(recipe: Recipe, places: _Places) -> None:
    """Raise UserError where the student is not one model, or its shape and lengths do not fit one another."""
    model = recipe.model
    if (model.base is None) == (model.random is None):
        raise UserError(
            "give either base (a model folder or hub id) or random (an architecture)",
            where=places.describe(("model", "base"), ("model", "random"), ("model",)),
            hint=None if model.base is None else "`base: null` takes away the one of a recipe that is extended",
        )
    if model.random is None:
        return
    if model.tokenizer is None:
        raise UserError(
            "random weights need a tokenizer: a folder or a SentencePiece file", where=places.describe(("model",))
        )
    shape = model.random
    heads = shape.num_attention_heads
    if shape.hidden_size % heads:
        raise UserError(
            f"hidden_size {shape.hidden_size} is not a multiple of num_attention_heads {heads}",
            where=places.describe(("model", "random", "hidden_size")),
        )
    if shape.num_key_value_heads and heads % shape.num_key_value_heads:
        raise UserError(
            f"num_attention_heads {heads} is not a multiple of num_key_value_heads {shape.num_key_value_heads}",
            where=places.describe(("model", "random", "num_key_value_heads")),
        )
    if (shape.hidden_size // heads) % 2:
        raise UserError(
            f"heads of {shape.hidden_size // heads} numbers: rotary embeddings need an even number",
            where=places.describe(("model", "random", "num_attention_heads")),
        )
    if recipe.data.max_length > shape.max_position_embeddings:
        raise UserError(
            f"max_length {recipe.data.max_length} is more than max_position_embeddings {shape.max_position_embeddings}",
            where=places.describe(("data", "max_length")),
        )


def _check_batch(recipe: Recipe, places: _Places) -> None:
    """Raise UserError where global_batch is not the product of its parts, with one number that would make it so."""
    train = recipe.train
    product = train.micro_batch * train.accumulation * train.processes
    if product == train.global_batch:
        return
    per_accumulation = train.micro_batch * train.processes
    per_micro_batch = train.accumulation * train.processes
    if train.global_batch % per_accumulation == 0:
        change = f"set accumulation to {train.global_batch // per_accumulation}"
    elif train.global_batch % per_micro_batch == 0:
        change = f"set micro_batch to {train.global_batch // per_micro_batch}"
    else:
        change = f"set global_batch to {product}"
    keys = ("global_batch", "micro_batch", "accumulation", "processes")
    raise UserError(
        f"global_batch {train.global_batch} is not micro_batch {train.micro_batch} × accumulation "
        f"{train.accumulation} × processes {train.processes} = {product}",
        where=places.describe(*(("train", key) for key in keys)),
        hint=change,
    )


def _check_offload(recipe: Recipe, places: _Places) -> None:
    """Raise UserError for offloaded optimizer states that no ZeRO stage divides."""
    if recipe.train.offload == "cpu" and recipe.train.zero_stage == 0:
        raise UserError(
            "offload needs a ZeRO stage that divides the optimizer's states",
            where=places.describe(("train", "offload")),
            hint="set zero_stage to 1, 2 or 3, or offload to none",
        )
