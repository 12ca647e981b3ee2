"""A YAML recipe in, a checked model and the place of each value out, or an error that names file, line and key.

A file may extend another: its keys are laid over those of the other file, key by key. `-o a.b=c` on the command line lays
one more value on top. Its own module because recipes of trainings and of data are read alike; what must hold between their
values is checked where each kind is read (`recipe_file`, `data/build/data_recipe_file`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from orca_bench import yaml_files
from orca_bench.errors import UserError, spelling_hint
from orca_bench.files import shipped_folder
from orca_bench.recipe import (
    EXTENDS_KEY,
    LANGUAGE_PATTERN,
    LICENSE_PATTERN,
    MODULE_NAME_PATTERN,
    PRINTABLE_PATTERN,
    RUN_NAME_PATTERN,
    RecipeModel,
)

#: The place of a value: the keys that lead to it, and positions in lists.
KeyPath = tuple[str | int, ...]

_MAX_CHAIN_LENGTH = 16  # in one chain, above the file that extends none

#: What a text of each pattern is, for a message.
_DESCRIPTION_BY_PATTERN = {
    RUN_NAME_PATTERN: "is not a name: use letters, digits and . _ - and begin with a letter or a digit",
    PRINTABLE_PATTERN: "holds a control character",
    LICENSE_PATTERN: "is no licence as the hub spells it: write apache-2.0, cc-by-nc-4.0, other, …",
    MODULE_NAME_PATTERN: "is not the name of a module: write q_proj, without the names of the modules around it",
    LANGUAGE_PATTERN: "is no ISO 639 code of a language: write en, de, …",
}


@dataclass(frozen=True)
class RecipeKind:
    """A kind of recipe: what messages call it, its required keys in words, and its folder below the shipped recipes."""

    noun: str
    required_keys_text: str
    subfolder: str = ""

    def shipped_file_by_name(self) -> dict[str, Path]:
        """The shipped recipes of this kind by their names."""
        return {path.stem: path for path in sorted((shipped_folder("recipes") / self.subfolder).glob("*.yaml"))}

    def shipped_text(self) -> str:
        """Which recipes of this kind are shipped, for a message."""
        return f"shipped with orca-bench are {', '.join(self.shipped_file_by_name())}"


def read_checked(
    file_or_name: str | Path, overrides: Sequence[str], recipe_model: type[RecipeModel], kind: RecipeKind
) -> tuple[RecipeModel, KeyLocations]:
    """The recipe of a file with `overrides` (`section.key=value`, the value in YAML) laid on top, and where values stand.

    `file_or_name` is a file, or the name of a shipped recipe (`13b`) where there is no such file. Raises UserError, with the
    file and line that hold the value, for a file that is absent or not YAML, for files that extend one another in a circle or
    in a chain of more than 16, and for unknown keys and wrong types.
    """
    path = _existing_or_shipped(Path(file_or_name), kind)
    recipe_values, key_locations = _read_with_bases(path, kind, ())
    for override in overrides:
        dotted_key = _apply_override(recipe_values, override)
        key_locations.note(tuple(dotted_key.split(".")), f"-o {override}")
    try:
        return recipe_model.model_validate(recipe_values), key_locations
    except ValidationError as error:
        first_error = _most_specific_error(error.errors())
        raise _validation_error(first_error, recipe_model, key_locations.describe(first_error["loc"])) from None


class KeyLocations:
    """Where each value of a recipe was written: a file and line, or an override.

    Files and overrides are numbered in the order in which they are laid over one another, the base first.
    """

    def __init__(self, path: Path, line_by_key: Mapping[yaml_files.KeyPath, int]):
        self._path = path
        self._layer_index = 0
        self._layer_and_location_by_key: dict[KeyPath, tuple[int, str]] = {
            key: (0, f"{path}:{line}") for key, line in line_by_key.items()
        }

    def lay_over(self, upper_locations: KeyLocations) -> None:
        """Add the places of a file that extends this one; of two, that of `upper_locations` counts."""
        self._layer_index += 1
        self._path = upper_locations._path
        self._layer_and_location_by_key |= {
            key_path: (self._layer_index, file_location)
            for key_path, (_, file_location) in upper_locations._layer_and_location_by_key.items()
        }

    def note(self, key_path: KeyPath, file_location: str) -> None:
        """Add an override; it removes the places of the keys it replaces."""
        self._layer_index += 1
        self.forget(key_path)
        self._layer_and_location_by_key[key_path] = (self._layer_index, file_location)

    def forget(self, key_path: KeyPath) -> None:
        """Remove the places of a value, and of all values inside it, because another value replaces them."""
        self._layer_and_location_by_key = {
            key: entry for key, entry in self._layer_and_location_by_key.items() if key[: len(key_path)] != key_path
        }

    def describe(self, *key_paths: KeyPath) -> str:
        """The place and dotted key of one of these values: of that written last; a default has the place of its section."""
        key_path = max(
            key_paths,
            key=lambda key_path: (key_path in self._layer_and_location_by_key, self._nearest_entry(key_path)[0]),
        )
        dotted_key = ".".join(str(key_part) for key_part in key_path if not isinstance(key_part, int))
        file_location = self._nearest_entry(key_path)[1]
        return f"{file_location}: {dotted_key}" if dotted_key else file_location

    def _nearest_entry(self, key_path: KeyPath) -> tuple[int, str]:
        key_path_prefixes = (key_path[:prefix_part_count] for prefix_part_count in range(len(key_path), 0, -1))
        return next(
            (
                self._layer_and_location_by_key[prefix]
                for prefix in key_path_prefixes
                if prefix in self._layer_and_location_by_key
            ),
            (-1, str(self._path)),
        )


# --- reading files ---------------------------------------------------------------------------------------------------


def _existing_or_shipped(file_or_name: Path, kind: RecipeKind) -> Path:
    """The path itself; where there is no such file, the shipped recipe that `13b`, `13b.yaml` or `recipes/13b.yaml` names."""
    shipped_recipe = _find_shipped_recipe(file_or_name, kind)
    return file_or_name if shipped_recipe is None or file_or_name.is_file() else shipped_recipe


def _find_shipped_recipe(name: Path, kind: RecipeKind) -> Path | None:
    """The shipped recipe that `13b`, `13b.yaml` or `recipes/13b.yaml` names, None where it names none."""
    may_be_shipped_name = name.suffix in ("", ".yaml") and name.parent in (Path("."), Path("recipes") / kind.subfolder)
    return kind.shipped_file_by_name().get(name.name.removesuffix(".yaml")) if may_be_shipped_name else None


def _read_with_bases(
    path: Path, kind: RecipeKind, extending_files: tuple[Path, ...]
) -> tuple[dict[str, Any], KeyLocations]:
    """The values of a file laid over those of the files it extends; `extending_files` are those that extend it."""
    recipe_values, line_by_key = yaml_files.read_yaml_file(path, kind.noun, missing_file_hint=kind.shipped_text())
    if not isinstance(recipe_values, dict):
        raise UserError(f"a {kind.noun} is a mapping with the keys {kind.required_keys_text}", where=path)
    key_locations = KeyLocations(path, line_by_key)
    if EXTENDS_KEY not in recipe_values:
        return recipe_values, key_locations
    extends_location = key_locations.describe((EXTENDS_KEY,))
    base_path = _base_file(recipe_values.pop(EXTENDS_KEY), path, kind, extends_location)
    file_chain = (*extending_files, path)
    if any(base_path.samefile(file) for file in file_chain):
        file_names = " extends ".join(str(file) for file in (*file_chain, base_path))
        raise UserError(f"recipes that extend one another in a circle: {file_names}", where=extends_location)
    if len(file_chain) > _MAX_CHAIN_LENGTH:
        raise UserError(f"more than {_MAX_CHAIN_LENGTH} recipes extend one another", where=extends_location)
    base_values, base_locations = _read_with_bases(base_path, kind, file_chain)
    _lay_over(base_values, recipe_values, base_locations, ())
    base_locations.lay_over(key_locations)
    return base_values, base_locations


def _base_file(extends_value: Any, extending_path: Path, kind: RecipeKind, extends_location: str) -> Path:
    """The file that the recipe at `extending_path` extends: relative to it, or a shipped one."""
    if not isinstance(extends_value, str) or not extends_value:
        raise UserError("should be the path of one recipe", where=extends_location, hint="e.g. extends: 13b.yaml")
    try:
        sibling_file = extending_path.parent / extends_value
        base_path = (
            sibling_file if sibling_file.is_file() else _find_shipped_recipe(Path(extends_value), kind)
        )  # never a file of the current folder
        if base_path is not None:
            return base_path
    except (OSError, ValueError):  # too long a path, no permission, a null character
        pass
    hint = f"a path is relative to {extending_path.parent}/; {kind.shipped_text()}"
    raise UserError(f"no such recipe '{extends_value}'", where=extends_location, hint=hint)


def _lay_over(
    base_values: dict[str, Any], upper_values: dict[str, Any], base_locations: KeyLocations, key_path: KeyPath
) -> None:
    """Put the values of one mapping into another, key by key; any other value replaces the whole one in its place."""
    for key, upper_value in upper_values.items():
        base_value = base_values.get(key)
        if isinstance(base_value, dict) and isinstance(upper_value, dict):
            _lay_over(base_value, upper_value, base_locations, (*key_path, key))
        else:
            base_values[key] = upper_value
            base_locations.forget((*key_path, key))


def _apply_override(recipe_values: dict[str, Any], override: str) -> str:
    """Set one value as `override` says; returns its dotted key."""
    dotted_key, separator, value_text = override.partition("=")
    if not separator or not dotted_key:
        raise UserError("an override is section.key=value", where=f"-o {override}", hint="e.g. -o train.lr=1e-5")
    new_value, _ = yaml_files.parse_yaml(value_text, f"-o {override}")
    *section_names, last_key = dotted_key.split(".")
    section = recipe_values
    for section_name in section_names:
        subsection = section.get(section_name)
        if subsection is None:
            subsection = section[section_name] = {}
        if not isinstance(subsection, dict):
            raise UserError(f"'{section_name}' is not a section", where=f"-o {override}")
        section = subsection
    section[last_key] = new_value
    return dotted_key


# --- what is wrong with a value ---------------------------------------------------------------------------------------


def _most_specific_error(validation_errors: Sequence[ErrorDetails]) -> ErrorDetails:
    """An unknown key first: it is often the reason why another one is missing."""
    return next((error for error in validation_errors if error["type"] == "extra_forbidden"), validation_errors[0])


def _validation_error(error: ErrorDetails, recipe_model: type[BaseModel], file_location: str) -> UserError:
    error_type, key_path, input_value = error["type"], error["loc"], error.get("input")
    if error_type == "extra_forbidden":
        known_keys = _keys_of_section(recipe_model, key_path[:-1])
        hint = spelling_hint(str(key_path[-1]), known_keys) or f"known keys here: {', '.join(known_keys)}"
        return UserError(f"unknown key '{key_path[-1]}'", where=file_location, hint=hint)
    if error_type == "missing":
        return UserError("this key is needed and missing", where=file_location)
    if error_type == "literal_error":
        choices = error["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
        return UserError(f"{input_value!r} is not one of {choices}", where=file_location)
    if error_type == "string_pattern_mismatch":
        return UserError(f"{input_value!r} {_DESCRIPTION_BY_PATTERN[error['ctx']['pattern']]}", where=file_location)
    description = "a section" if isinstance(input_value, dict) else repr(input_value)
    message = error["msg"].replace("Input should be", "should be")
    return UserError(f"{description}: {message[0].lower()}{message[1:]}", where=file_location)


def _keys_of_section(recipe_model: type[BaseModel], key_path: KeyPath) -> list[str]:
    """The known keys of the section at `key_path`; the name of an entry in a mapping of sections is no key of its own."""
    section: Any = recipe_model
    for section_key in key_path:
        is_mapping = get_origin(section) is dict
        section = (
            get_args(section)[1] if is_mapping else _section_type(section.model_fields[str(section_key)].annotation)
        )
    return list(section.model_fields)


def _section_type(annotation: Any) -> Any:
    """The class of a section, or the type of a mapping of sections, in the annotation of a field that may be absent."""
    candidates = [annotation, *get_args(annotation)]
    return next(
        candidate
        for candidate in candidates
        if get_origin(candidate) is dict or (isinstance(candidate, type) and issubclass(candidate, BaseModel))
    )
