"""A recipe: one YAML file in, one checked `Recipe` out, or an error that names file, line and key.

A recipe says everything a training run depends on. Its keys, types and defaults are the fields below; `-o a.b=c` on the
command line overrides one. Its own module because training, planning, the demo and the README's tables read it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orca_bench import yaml_files
from orca_bench.errors import UserError, nearest
from orca_bench.files import shipped

Positive = Annotated[int, Field(gt=0, le=2**40)]  # no size or count of a run is near it; larger ones overflow libraries
Share = Annotated[float, Field(ge=0, le=1)]
Beta = Annotated[float, Field(ge=0, lt=1)]  # torch.optim.AdamW's bounds
Place = Annotated[str, Field(min_length=1, pattern=r"^[^\x00-\x1f]+$")]  # a path or a hub id


#: Marks a key that changes no number that training computes: a run may be continued with another value of it. A key without
#: the mark has to be the same.
MAY_CHANGE = "may change"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Architecture(_Section):
    """A LLaMA from random weights, in the names of transformers' LlamaConfig."""

    hidden_size: Positive
    intermediate_size: Positive
    num_hidden_layers: Positive
    num_attention_heads: Positive
    num_key_value_heads: Positive | None = None
    max_position_embeddings: Positive = 2048
    tie_word_embeddings: bool = False
    rope_theta: Annotated[float, Field(gt=0)] = 10000.0
    rms_norm_eps: Annotated[float, Field(gt=0)] = 1e-6


class Model(_Section):
    """Where the student starts: a model folder or hub id (`base`), or random weights (`random`) and a tokenizer.

    Revisions are branches, tags or commits of the hub; without one the newest commit is taken and stands in the manifest.
    """

    base: Place | None = None
    revision: Place | None = None
    random: Architecture | None = None
    tokenizer: Place | None = None
    tokenizer_revision: Place | None = None


class Data(_Section):
    """The records to train on: files (JSON, JSON Lines, Parquet, CSV), folders and patterns of them, or hub ids
    (OWNER/NAME, or OWNER/NAME@REVISION)."""

    records: list[Place] = Field(min_length=1)
    max_length: Positive = 1024
    #: Stop at the first row without an instruction or a response, which is left out and counted otherwise.
    strict: Annotated[bool, MAY_CHANGE] = False


class Train(_Section):
    """The optimisation. Defaults are those of the card and of the training code it names."""

    epochs: Positive = 3
    max_steps: Positive | None = None
    global_batch: Positive = 16
    micro_batch: Positive = 2
    accumulation: Positive = 1
    processes: Positive = 8
    lr: Annotated[float, Field(gt=0)] = 2e-5
    betas: Annotated[list[Beta], Field(min_length=2, max_length=2)] = [0.9, 0.95]
    eps: Annotated[float, Field(gt=0)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.001
    grad_clip: Annotated[float, Field(ge=0)] = 1.0
    warmup_ratio: Share = 0.1
    warmup_min_steps: Annotated[int, Field(ge=0)] = 10
    warmup: Literal["log", "linear"] = "log"
    precision: Literal["bf16", "fp16", "fp32"] = "bf16"
    zero_stage: Literal[0, 1, 2, 3] = 3
    offload: Literal["none", "cpu"] = "none"
    gradient_checkpointing: bool = True
    checkpoint_every: Annotated[Positive, MAY_CHANGE] = 500
    #: Every so many steps a model folder too, to be evaluated on its own; none but the last where it is left out.
    export_every: Annotated[Positive | None, MAY_CHANGE] = None
    #: A loss (nats a token) above which the run has diverged and stops. Random weights begin at the logarithm of the number
    #: of words, 10.4 for 32,000; no run that learns comes near the default.
    max_loss: Annotated[float, Field(gt=0), MAY_CHANGE] = 100.0
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


class Recipe(_Section):
    """Everything a training run depends on."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    model: Model
    data: Data
    train: Train = Train()

    def dump(self) -> str:
        """The recipe as YAML with every default written out; `load` gives an equal recipe back."""
        return yaml_files.dump(self.model_dump())


def load(path: str | Path, overrides: tuple[str, ...] = ()) -> Recipe:
    """Read and check a recipe file; `overrides` are `section.key=value` with the value in YAML.

    Raises UserError, with file and line, for a file that is absent or not YAML, for unknown keys, wrong types, and
    batch numbers that do not multiply.
    """
    path = _shipped_or_own(Path(path))
    tree, lines = yaml_files.read(path, "recipe", hint=f"shipped with orca-bench are {', '.join(_shipped())}")
    if not isinstance(tree, dict):
        raise UserError("a recipe is a mapping with the keys name, model, data and train", where=path)
    overridden = {}
    for override in overrides:
        key = _apply(tree, override)
        overridden[key] = f"-o {override}"

    def where(location: tuple) -> str:
        dotted = ".".join(str(part) for part in location if not isinstance(part, int))
        if dotted in overridden:
            return f"{overridden[dotted]}: {dotted}"
        line = next((lines[location[:n]] for n in range(len(location), 0, -1) if location[:n] in lines), None)
        return f"{path}{f':{line}' if line else ''}: {dotted}" if dotted else str(path)

    try:
        recipe = Recipe.model_validate(tree)
    except ValidationError as error:
        first = _most_telling(error.errors())
        raise _explain(first, where(first["loc"])) from None
    _check_model(recipe, where)
    _check_batch(recipe, where)
    _check_offload(recipe, where)
    return recipe


# --- reading ---------------------------------------------------------------------------------------------------------


def _shipped_or_own(path: Path) -> Path:
    """The file itself; where there is none, the shipped recipe that `13b`, `13b.yaml` or `recipes/13b.yaml` names."""
    own = _shipped().get(path.name.removesuffix(".yaml"))
    named = own is not None and path.suffix in ("", ".yaml") and str(path.parent) in (".", "recipes")
    return own if named and not path.exists() else path


def _shipped() -> dict[str, Path]:
    return {path.stem: path for path in sorted(shipped("recipes").glob("*.yaml"))}


def _apply(tree: dict, override: str) -> str:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError("an override is section.key=value", where=f"-o {override}", hint="e.g. -o train.lr=1e-5")
    value, _ = yaml_files.parse(text, f"-o {override}")
    *sections, last = key.split(".")
    place = tree
    for section in sections:
        inner = place.get(section)
        if inner is None:
            inner = place[section] = {}
        if not isinstance(inner, dict):
            raise UserError(f"'{section}' is not a section", where=f"-o {override}")
        place = inner
    place[last] = value
    return key


def difference(earlier: Recipe, recipe: Recipe) -> str | None:
    """The first key that makes a recipe compute other numbers than an earlier one, with both values; None where none does."""
    before, after = _flat(earlier), _flat(recipe)
    for key in before | after:
        if before.get(key) != after.get(key):
            return f"{key} was {before.get(key)!r}, now {after.get(key)!r}"
    return None


def _flat(section: BaseModel, prefix: str = "") -> dict:
    """Values by dotted key, those that may change left out."""
    entries = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            entries |= _flat(value, f"{prefix}{name}.")
        elif MAY_CHANGE not in field.metadata:
            entries[prefix + name] = value
    return entries


# --- saying what is wrong -------------------------------------------------------------------------------------------


def _most_telling(errors: list[dict]) -> dict:
    """An unknown key first: it is often the reason why another one is missing."""
    return next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])


def _explain(error: dict, where: str) -> UserError:
    kind, location, value = error["type"], error["loc"], error.get("input")
    if kind == "extra_forbidden":
        known = _fields_at(location[:-1])
        hint = nearest(str(location[-1]), known) or f"known keys here: {', '.join(known)}"
        return UserError(f"unknown key '{location[-1]}'", where=where, hint=hint)
    if kind == "missing":
        return UserError("this key is needed and missing", where=where)
    if kind == "literal_error":
        choices = error["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
        return UserError(f"{value!r} is not one of {choices}", where=where)
    shown = repr(value) if not isinstance(value, dict) else "a section"
    message = error["msg"].replace("Input should be", "should be")
    return UserError(f"{shown}: {message[0].lower()}{message[1:]}", where=where)


def _fields_at(location: tuple) -> list[str]:
    kind: Any = Recipe
    for part in location:
        annotation = kind.model_fields[part].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        kind = next(o for o in options if isinstance(o, type) and issubclass(o, BaseModel))
    return list(kind.model_fields)


def _check_model(recipe: Recipe, where) -> None:
    model = recipe.model
    if (model.base is None) == (model.random is None):
        raise UserError(
            "give either base (a model folder or hub id) or random (an architecture)", where=where(("model",))
        )
    if model.random is None:
        return
    if model.tokenizer is None:
        raise UserError("random weights need a tokenizer: a folder or a SentencePiece file", where=where(("model",)))
    shape = model.random
    heads = shape.num_attention_heads
    if shape.hidden_size % heads:
        raise UserError(
            f"hidden_size {shape.hidden_size} is not a multiple of num_attention_heads {heads}",
            where=where(("model", "random", "hidden_size")),
        )
    if shape.num_key_value_heads and heads % shape.num_key_value_heads:
        raise UserError(
            f"num_attention_heads {heads} is not a multiple of num_key_value_heads {shape.num_key_value_heads}",
            where=where(("model", "random", "num_key_value_heads")),
        )
    if (shape.hidden_size // heads) % 2:
        raise UserError(
            f"heads of {shape.hidden_size // heads} numbers: rotary embeddings need an even number",
            where=where(("model", "random", "num_attention_heads")),
        )
    if recipe.data.max_length > shape.max_position_embeddings:
        raise UserError(
            f"max_length {recipe.data.max_length} is more than max_position_embeddings {shape.max_position_embeddings}",
            where=where(("data", "max_length")),
        )


def _check_batch(recipe: Recipe, where) -> None:
    train = recipe.train
    product = train.micro_batch * train.accumulation * train.processes
    if product == train.global_batch:
        return
    rest = train.micro_batch * train.processes
    if train.global_batch % rest == 0:
        change = f"set accumulation to {train.global_batch // rest}"
    elif train.global_batch % (train.accumulation * train.processes) == 0:
        change = f"set micro_batch to {train.global_batch // (train.accumulation * train.processes)}"
    else:
        change = f"set global_batch to {product}"
    raise UserError(
        f"global_batch {train.global_batch} is not micro_batch {train.micro_batch} × accumulation "
        f"{train.accumulation} × processes {train.processes} = {product}",
        where=where(("train", "global_batch")),
        hint=change,
    )


def _check_offload(recipe: Recipe, where) -> None:
    if recipe.train.offload == "cpu" and recipe.train.zero_stage == 0:
        raise UserError(
            "offload needs a ZeRO stage that divides the optimizer's states",
            where=where(("train", "offload")),
            hint="set zero_stage to 1, 2 or 3, or offload to none",
        )
