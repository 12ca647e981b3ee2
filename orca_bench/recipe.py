"""What a recipe may say: the keys of the YAML file with their types, units and defaults, as pydantic models.

A recipe holds everything that a training run depends on. `recipe_file` reads one; training, planning, the demo and the
table of keys in recipes/README.md use the models here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from orca_bench import yaml_files

#: Tokens that a model attends to where nothing else is said: LLaMA 1's context window, in which the student is trained.
CONTEXT_WINDOW = 2048

RUN_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
PRINTABLE_PATTERN = r"^[^\x00-\x1f]+$"
LICENSE_PATTERN = r"^[a-z0-9][a-z0-9.+-]*$"
LANGUAGE_PATTERN = r"^([a-z]{2,3}|code|multilingual)$"
MODULE_NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"

PositiveInt = Annotated[
    int, Field(gt=0, le=2**40)
]  # no size or count of a run is near it; larger ones overflow libraries
Fraction = Annotated[float, Field(ge=0, le=1)]
Beta = Annotated[float, Field(ge=0, lt=1)]  # torch.optim.AdamW's bounds
PathOrId = Annotated[str, Field(min_length=1, pattern=PRINTABLE_PATTERN)]  # a path or a hub id

#: Marks a key that changes no number that training computes: a run may be continued with another value of it. A key without
#: the mark must keep its value.
MAY_CHANGE_MARK = "may change"

#: Marks a key that says how the computation is split: a run may be continued with another value of it, with the same updates
#: to rounding.
MAY_SPLIT_MARK = "may be split otherwise"

#: The key that names the recipe that a file extends. Only files have it: a loaded `Recipe` is complete.
EXTENDS_KEY = "extends"
EXTENDS_DESCRIPTION = (
    "Another recipe, as a path relative to this file or the name of a shipped recipe. Its keys hold where this file does "
    "not give them. A list replaces a list. `null` takes a value away."
)


#: A recipe of a training or of data.
RecipeModel = TypeVar("RecipeModel", bound=BaseModel)


class RecipeSection(BaseModel):
    """A part of a recipe, of a training or of data: no further keys, no values of another type, no infinity."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Architecture(RecipeSection):
    """A LLaMA with random weights, in the names of transformers' LlamaConfig."""

    hidden_size: PositiveInt = Field(description="Width of the hidden states, in numbers per token.")
    intermediate_size: PositiveInt = Field(description="Width of each feed-forward layer.")
    num_hidden_layers: PositiveInt = Field(description="Number of layers.")
    num_attention_heads: PositiveInt = Field(description="Attention heads per layer. It divides hidden_size.")
    num_key_value_heads: PositiveInt | None = Field(
        None, description="Key and value heads per layer. It divides num_attention_heads, which is the default."
    )
    max_position_embeddings: PositiveInt = Field(CONTEXT_WINDOW, description="Context window, in tokens.")
    tie_word_embeddings: bool = Field(False, description="Whether the output head shares the input embeddings.")
    rope_theta: Annotated[float, Field(gt=0)] = Field(10000.0, description="Base of the rotary position embeddings.")
    rms_norm_eps: Annotated[float, Field(gt=0)] = Field(
        1e-6, description="Small number in the denominator of each normalisation."
    )


class Model(RecipeSection):
    """Where the student starts: a trained model (`base`), or random weights (`random`) with a tokenizer.

    Revisions are branches, tags or commits of the hub. The manifest of a run holds the commit.
    """

    base: PathOrId | None = Field(None, description="Model folder or hub id (OWNER/NAME) to train further.")
    revision: PathOrId | None = Field(
        None, description="Branch, tag or commit of `base` on the hub. Default: the newest commit."
    )
    random: Architecture | None = Field(None, description="Shape of a LLaMA with random weights, instead of `base`.")
    tokenizer: PathOrId | None = Field(
        None,
        description="Folder, hub id or SentencePiece file of the tokenizer. Default: that of `base`.",
    )
    tokenizer_revision: PathOrId | None = Field(
        None, description="Branch, tag or commit of `tokenizer` on the hub. Default: the newest commit."
    )

    @property
    def tokenizer_source(self) -> str:
        """The path or hub id of the tokenizer: `tokenizer`, or where there is none the base."""
        path_or_id = self.tokenizer or self.base
        assert path_or_id is not None, "`recipe_file.read_recipe_file` refuses a model with neither"
        return path_or_id


class Data(RecipeSection):
    """The records to train on."""

    records: list[PathOrId] = Field(
        min_length=1,
        description="Files (JSON, JSON Lines, Parquet, CSV), folders or patterns of them, or hub ids (OWNER/NAME or "
        "OWNER/NAME@REVISION).",
    )
    max_length: PositiveInt = Field(1024, description="Longest example, in tokens. The end of a longer one is cut off.")
    strict: Annotated[bool, MAY_CHANGE_MARK] = Field(
        False,
        description="Stop at the first row without an instruction or a response. Otherwise such rows are left out and "
        "counted.",
    )
    held_out: Annotated[int, Field(ge=0, le=2**40)] = Field(
        0,
        description="Number of examples held out of training, chosen by `train.seed`. Records with the same prompt as one of "
        "them are left out of training too, and counted.",
    )
    report: Annotated[PathOrId | None, MAY_CHANGE_MARK] = Field(
        None,
        description="Report of `orca-bench data check` on these records. It goes into the run and the model's folder, and `eval` "
        "marks the questions that are in the records.",
    )
    benchmarks: Annotated[PathOrId | None, MAY_CHANGE_MARK] = Field(
        None,
        description="Folder of benchmark rows (`mini:benchmarks` is the embedded suite), instead of `report`: the report is "
        "made before training.",
    )


class Lora(RecipeSection):
    """LoRA (Hu et al. 2021, arXiv 2106.09685): the weights W stay, and beside each target two small matrices are trained.

    A target computes W x + (alpha / rank) B A x, with A [rank, inputs] and B [outputs, rank]. There is no dropout: with it
    packed and padded examples, and other splits of a batch, would give other updates.
    """

    rank: PositiveInt = Field(
        description="Rows of A and columns of B: at most the smaller side of each target's matrix."
    )
    alpha: Annotated[float, Field(gt=0)] = Field(description="What B A x is multiplied by is alpha / rank.")
    targets: Annotated[list[Annotated[str, Field(pattern=MODULE_NAME_PATTERN)]], Field(min_length=1)] | None = Field(
        None,
        description="Names of linear layers of the model, as in [q_proj, v_proj]: each in every layer. Default: all linear "
        "layers but the output head.",
    )


class Train(RecipeSection):
    """The optimisation. Defaults are those of the model card and of the training code that it names."""

    epochs: PositiveInt = Field(3, description="How many times every example is used.")
    max_steps: PositiveInt | None = Field(None, description="Optimizer steps after which the run ends earlier.")
    global_batch: PositiveInt = Field(
        16, description="Examples per optimizer step: micro_batch × accumulation × processes."
    )
    packing: Literal["none", "exact", "dense"] = Field(
        "exact",
        description="How examples share a forward pass. `none`: micro_batch examples, padded to the longest. `exact`: the "
        "examples of a step without padding, shared out so that all forward passes cost the same; the updates are those "
        "of `none`. `dense`: rows of max_length tokens filled with examples, as in the Orca paper; global_batch and "
        "micro_batch then count rows, so that a step has more examples and the run fewer steps.",
    )
    micro_batch: Annotated[PositiveInt, MAY_SPLIT_MARK] = Field(
        2,
        description="Examples per forward pass of one process; packed: at most as many tokens as micro_batch examples of the "
        "greatest length have.",
    )
    accumulation: Annotated[PositiveInt, MAY_SPLIT_MARK] = Field(
        1, description="Gradient accumulation: forward passes per step of one process."
    )
    processes: Annotated[PositiveInt, MAY_SPLIT_MARK] = Field(
        8, description="Number of training processes (world size), one per GPU."
    )
    lr: Annotated[float, Field(gt=0)] = Field(2e-5, description="Peak learning rate.")
    betas: Annotated[list[Beta], Field(min_length=2, max_length=2)] = Field(
        [0.9, 0.95], description="AdamW's two decay rates of the running averages."
    )
    eps: Annotated[float, Field(gt=0)] = Field(1e-8, description="AdamW's small number in the denominator.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.001, description="AdamW's decoupled weight decay.")
    grad_clip: Annotated[float, Field(ge=0)] = Field(
        1.0, description="Largest norm of the gradient of a step. 0 does not clip."
    )
    warmup_ratio: Fraction = Field(0.1, description="Share of the steps in which the learning rate rises, from 0 to 1.")
    warmup_min_steps: Annotated[int, Field(ge=0)] = Field(10, description="Smallest number of warm-up steps.")
    warmup: Literal["log", "linear"] = Field("log", description="How the learning rate rises during the warm-up.")
    precision: Literal["bf16", "fp16", "fp32"] = Field("bf16", description="Number type of weights and arithmetic.")
    lora: Lora | None = Field(
        None,
        description="Train low-rank matrices beside frozen weights (LoRA) instead of the weights. Needs `model.base` and the "
        "extra `lora`.",
    )
    zero_stage: Literal[0, 1, 2, 3] = Field(
        3,
        description="DeepSpeed ZeRO stage, what is sharded over the processes: nothing (0), optimizer states (1), also "
        "gradients (2), also weights (3).",
    )
    offload: Literal["none", "cpu"] = Field("none", description="Where the optimizer states lie: GPU or main memory.")
    gradient_checkpointing: bool = Field(
        True, description="Compute activations again in the backward pass: less memory, more time, the same numbers."
    )
    checkpoint_every: Annotated[PositiveInt, MAY_CHANGE_MARK] = Field(
        500, description="Steps between checkpoints, from which a run continues."
    )
    keep_checkpoints: Annotated[PositiveInt, MAY_CHANGE_MARK] = Field(
        2, description="How many checkpoints stay; older ones are removed."
    )
    export_every: Annotated[PositiveInt | None, MAY_CHANGE_MARK] = Field(
        None, description="Steps between model folders to evaluate. Default: only the last step gives one."
    )
    export_dtype: Annotated[Literal["bf16", "fp16", "fp32"] | None, MAY_CHANGE_MARK] = Field(
        None,
        description="Number type of the weights in model folders. fp32 gives the optimizer's own weights, also after bf16 or "
        "fp16 training. Default: `train.precision`.",
    )
    export_shard_gb: Annotated[Annotated[float, Field(gt=0)], MAY_CHANGE_MARK] = Field(
        5.0,
        description="Largest file of weights in model folders, in GB (10⁹ bytes). A larger model is written as several files "
        "with an index. Process 0 needs this much main memory while it writes.",
    )
    max_loss: Annotated[float, Field(gt=0), MAY_CHANGE_MARK] = Field(
        100.0,
        description="Loss (nats per token) above which the run counts as diverged and stops. Random weights begin at the "
        "logarithm of the vocabulary size, 10.4 for 32,000 tokens.",
    )
    held_out_every: Annotated[PositiveInt | None, MAY_CHANGE_MARK] = Field(
        None,
        description="Steps between computations of the loss on the held-out examples. The last step always has one. Default: "
        "as `checkpoint_every`.",
    )
    keep_best: Annotated[bool, MAY_CHANGE_MARK] = Field(
        False,
        description="Export the model with the lowest held-out loss so far to `exports/best`. Needs `data.held_out`.",
    )
    spike_factor: Annotated[Annotated[float, Field(gt=0)] | None, MAY_CHANGE_MARK] = Field(
        None,
        description="Height of a spike of the loss at which the run stops: after the warm-up, so many deviations (1.4826 × "
        "the median absolute deviation, at least 5 % of the median) above the median of the last 50 steps. Default: no spike "
        "stops a run.",
    )
    trackers: Annotated[list[Literal["tensorboard", "wandb"]], MAY_CHANGE_MARK] = Field(
        [],
        description="Where else the metrics go: tensorboard, wandb (Weights & Biases) or both. Each needs the extra of its "
        "name.",
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(
        0, description="Seed of the random weights and of the order of the examples."
    )


class Card(RecipeSection):
    """What the model card states that nothing else of a run says. It changes no number."""

    license: Annotated[Annotated[str, Field(pattern=LICENSE_PATTERN)] | None, MAY_CHANGE_MARK] = Field(
        None,
        description="Licence of the model, as the hub spells it: apache-2.0, cc-by-nc-4.0, other, … Default: the card says "
        "that it is not known.",
    )
    language: Annotated[list[Annotated[str, Field(pattern=LANGUAGE_PATTERN)]] | None, MAY_CHANGE_MARK] = Field(
        None,
        description="Languages of the records by their ISO 639 codes: [en]. Default: English where all records are of known "
        "English sets, else the card says that it is not known.",
    )


class Recipe(RecipeSection):
    """Everything a training run depends on."""

    name: Annotated[str, Field(pattern=RUN_NAME_PATTERN, max_length=100)] = Field(
        description="Name of the run and of its folder: letters, digits and the signs . _ - only."
    )
    model: Model = Field(description="Where the student starts.")
    data: Data = Field(description="The records to train on.")
    train: Train = Field(Train(), description="The optimisation.")
    card: Card = Field(Card(), description="What the model card states.")

    def to_yaml(self) -> str:
        """The recipe as YAML with every default written out; `recipe_file.read_recipe_file` gives an equal recipe back."""
        return yaml_files.to_yaml_text(self.model_dump())


def first_difference(earlier_recipe: RecipeModel, new_recipe: RecipeModel) -> str | None:
    """The first key that makes a recipe compute other numbers than an earlier one, with both values; None where none does.

    Another split over processes and micro batches computes the same to rounding, and counts as no difference.
    """
    return next(iter(_differences(earlier_recipe, new_recipe, (MAY_CHANGE_MARK, MAY_SPLIT_MARK))), None)


def split_differences(earlier_recipe: Recipe, new_recipe: Recipe) -> list[str]:
    """The keys by which a recipe splits the same computation otherwise than an earlier one, each with both values."""
    all_differences = _differences(earlier_recipe, new_recipe, (MAY_CHANGE_MARK,))
    other_differences = _differences(earlier_recipe, new_recipe, (MAY_CHANGE_MARK, MAY_SPLIT_MARK))
    return [difference for difference in all_differences if difference not in other_differences]


def _differences(earlier_recipe: BaseModel, new_recipe: BaseModel, ignored_marks: tuple[str, ...]) -> list[str]:
    """The keys without one of the marks that differ, each with both values."""
    earlier_values = values_by_key(earlier_recipe, ignored_marks)
    new_values = values_by_key(new_recipe, ignored_marks)
    return [
        f"{key} was {earlier_values.get(key)!r}, now {new_values.get(key)!r}"
        for key in earlier_values | new_values
        if earlier_values.get(key) != new_values.get(key)
    ]


def values_by_key(section: BaseModel, ignored_marks: tuple[str, ...] = (), key_prefix: str = "") -> dict[str, Any]:
    """Values by dotted key, those with one of the marks left out."""
    value_by_key: dict[str, Any] = {}
    for field_name, field in type(section).model_fields.items():
        value = getattr(section, field_name)
        if set(ignored_marks) & {mark for mark in field.metadata if isinstance(mark, str)}:
            continue
        if isinstance(value, BaseModel):
            value_by_key |= values_by_key(value, ignored_marks, f"{key_prefix}{field_name}.")
        else:
            value_by_key[key_prefix + field_name] = value
    return value_by_key
