"""What a data recipe may say: sources, system messages, teacher, prices and budget, as pydantic models.

A data recipe holds everything that the records of `orca-bench data build` depend on. `data_recipe_file` reads one; the requests,
the teacher and the ledger take their settings from the models here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from orca_bench import yaml_files
from orca_bench.recipe import (
    LICENSE_PATTERN,
    MAY_CHANGE_MARK,
    PRINTABLE_PATTERN,
    RUN_NAME_PATTERN,
    PathOrId,
    PositiveInt,
    RecipeSection,
)

#: The keys of a request's parameters that bound the number of its response tokens.
TOKEN_LIMIT_KEYS = ("max_tokens", "max_completion_tokens")

#: Bounds far above any real price, budget and answer, so that sums of prices fit into SQLite's integers.
Budget = Annotated[float, Field(ge=0, le=1e6)]
TokenPrice = Annotated[float, Field(ge=0, le=10_000)]
MOST_RESPONSE_TOKENS = 10**7

Seconds = Annotated[float, Field(gt=0)]


class Columns(RecipeSection):
    """Which column of a row holds what, for files whose columns are those of no known set."""

    instruction: PathOrId = Field(description="Column of the instruction.")
    response: PathOrId | None = Field(None, description="Column of the reference answer, where there is one.")
    input: PathOrId | None = Field(None, description="Column of the input.")
    system: PathOrId | None = Field(None, description="Column of a row's own system message.")


class Source(RecipeSection):
    """Where instructions come from: files or a data set of the hub, how many of them, and their system messages."""

    files: PathOrId | None = Field(None, description="A file, a folder or a pattern of files, instead of `hub`.")
    hub: PathOrId | None = Field(None, description="Data set of the hub (OWNER/NAME), instead of `files`.")
    revision: PathOrId | None = Field(
        None, description="Branch, tag or commit of `hub`. The manifest has the commit. Default: the newest commit."
    )
    configuration: PathOrId | None = Field(
        None, description="Configuration of the hub's data set, where it has several."
    )
    split: PathOrId = Field("train", description="Split of the hub's data set.")
    columns: Columns | None = Field(None, description="Columns to read. Default: those of the known sets.")
    where: dict[str, list[str]] | None = Field(
        None, description="Rows to take: a column, and the values that it may have. Default: all rows."
    )
    sample: PositiveInt | None = Field(
        None, description="Number of rows, chosen by `seed` and the rows' texts. Default: all."
    )
    system_policy: Literal["uniform", "cot", "niv2", "t0", "flan2021"] | None = Field(
        None,
        description="The Orca paper's system messages for rows without one of their own (an empty one is none), for each row by "
        "`seed` and its texts: one of 2 to 16 (`uniform`), or of those that the paper takes for this collection of FLAN-v2. "
        "Default: uniform.",
    )
    system_ids: list[Annotated[int, Field(ge=1, le=16)]] | None = Field(
        None, min_length=1, description="Ids of the messages to choose among, instead of `system_policy`."
    )
    task_column: PathOrId | None = Field(None, description="Column that names a row's task, for `most_per_task`.")
    most_per_task: PositiveInt | None = Field(
        None, description="Largest number of rows of one task, chosen as `sample` chooses, before `sample`."
    )
    license: Annotated[str, Field(pattern=LICENSE_PATTERN)] | None = Field(
        None, description="Licence of the source as the hub spells it, for the data card: cc-by-nc-4.0, cc-by-sa-3.0, …"
    )


class Price(RecipeSection):
    """What the teacher costs, in dollars per million tokens."""

    input: TokenPrice = Field(description="Dollars per million prompt tokens.")
    output: TokenPrice = Field(description="Dollars per million response tokens, thinking included.")


class BatchSettings(RecipeSection):
    """How requests are sent through the endpoint's Batch API (`/files` and `/batches`), which answers within a day for less.

    The largest `most_requests` and `most_megabytes` are OpenAI's (https://developers.openai.com/api/docs/guides/batch).
    """

    price_factor: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="Price of a request in a batch, as a share of `teacher.price`."
    )
    most_requests: Annotated[PositiveInt, Field(le=50_000)] = Field(
        50_000, description="Largest number of requests in a batch."
    )
    most_megabytes: Annotated[float, Field(gt=0, le=200)] = Field(
        200.0, description="Largest size of a batch's file, in millions of bytes."
    )
    most_open: PositiveInt = Field(10, description="Largest number of batches that are open at one time.")
    poll_seconds: Seconds = Field(60.0, description="Seconds between two looks at the open batches.")
    ask_lost_again: bool = Field(
        False,
        description="Ask for lost answers again, though they may have been paid: those of a batch of an earlier build that the "
        "server does not know, those whose file it does not have, and those of a batch that it has not ended a day after its "
        "`expires_at`. Without it, they end the build.",
    )


class Teacher(RecipeSection):
    """The model that answers, behind an OpenAI-compatible endpoint (`/chat/completions`)."""

    base_url: Annotated[str, Field(pattern=PRINTABLE_PATTERN), MAY_CHANGE_MARK] = Field(
        "https://api.openai.com/v1", description="Address of the endpoint, up to and including /v1."
    )
    api_key_variable: Annotated[str, MAY_CHANGE_MARK] = Field(
        "OPENAI_API_KEY",
        description="Name of the environment variable that holds the key, in capitals. The key itself is in no file.",
    )
    model: PathOrId = Field(description="Name of the model at the endpoint.")
    parameters: dict[str, Any] = Field(
        description="Parameters of each request as the endpoint takes them: temperature, top_p, seed, … with max_tokens or "
        "max_completion_tokens, which bounds what a request can cost.",
    )
    price: Annotated[Price, MAY_CHANGE_MARK] = Field(description="What the teacher costs.")
    batch: Annotated[BatchSettings | None, MAY_CHANGE_MARK] = Field(
        None,
        description="The endpoint's Batch API instead of single requests; `{}` takes the defaults. Default: single requests.",
    )
    thinking: Annotated[Literal["omit", "column"], MAY_CHANGE_MARK] = Field(
        "omit",
        description="What becomes of a reasoning model's thinking (`reasoning_content`, or <think>…</think> before the "
        "answer): left out, or in the column `reasoning`. It is never part of the response.",
    )
    most_in_flight: Annotated[PositiveInt, MAY_CHANGE_MARK] = Field(
        64, description="Largest number of requests at one time. Fewer are sent where the endpoint limits them."
    )
    timeout: Annotated[Seconds, MAY_CHANGE_MARK] = Field(
        600.0, description="Seconds after which a request without a complete answer has failed."
    )
    attempts: Annotated[PositiveInt, MAY_CHANGE_MARK] = Field(
        6, description="How often a request is sent before it is given up. Refusals for the rate limit do not count."
    )


class DataRecipe(RecipeSection):
    """Everything that the records of one build depend on."""

    name: Annotated[str, Field(pattern=RUN_NAME_PATTERN, max_length=100)] = Field(
        description="Name of the data set: letters, digits and the signs . _ - only."
    )
    output: Annotated[PathOrId | None, MAY_CHANGE_MARK] = Field(
        None, description="Folder of the records, the ledger, the manifest and the data card. Default: records/NAME."
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(0, description="Seed of samples and system messages.")
    sources: Annotated[dict[str, Source], MAY_CHANGE_MARK] = Field(
        description="The sources by name, in the order of the records. A row that stays the same keeps its answer."
    )
    teacher: Teacher = Field(description="Who answers.")
    budget: Annotated[Budget, MAY_CHANGE_MARK] = Field(
        description="Dollars that all requests together may cost. No request is sent whose worst case would pass it, which is "
        "computed from the token limit of the parameters."
    )
    keep_truncated: Annotated[bool, MAY_CHANGE_MARK] = Field(
        False, description="Whether answers that the token limit cut off become records. They are counted either way."
    )

    def to_yaml(self) -> str:
        """The recipe as YAML with every default written out; `read_data_recipe` gives an equal recipe back."""
        return yaml_files.to_yaml_text(self.model_dump())
