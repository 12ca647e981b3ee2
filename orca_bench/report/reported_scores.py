"""A file of reported scores in, typed scores with their source out.

Reported scores were published by others; only the numbers are known, not the answers. Its own module because
tables, comparisons, pictures and pages put them beside measured ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orca_bench.errors import UserError
from orca_bench.files import read_json, shipped_folder

Percent = Annotated[float, Field(ge=0, le=100)]


class ReportedScores(BaseModel):
    """The reported scores of one model, percent, by task and by average (`all seven`, `six without DROP`).

    `model` is its id on the hub, `source` where the scores were published; `notes`, by task, are remarks on a score.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    model: str
    suite: str = ""
    source: str = "source not stated"
    tasks: dict[str, Percent]
    averages: dict[str, Percent] = {}
    notes: dict[str, str] = {}

    @property
    def name(self) -> str:
        """The model's name without its owner."""
        return self.model.split("/")[-1]


#: The word for no reported scores.
NO_REPORTED_SCORES = "none"


def find_reported_scores(word: str) -> ReportedScores | None:
    """The reported scores that a user names, or None for `none`; raises UserError as `read_reported_scores`."""
    return None if word == NO_REPORTED_SCORES else read_reported_scores(word)


def reported_score_names() -> list[str]:
    """The names of the reported scores that come with this program."""
    return sorted(path.stem for path in shipped_folder("reported").glob("*.json"))


def read_reported_scores(name: str = "orca_mini_13b") -> ReportedScores:
    """The reported scores of a model: `name` is one of those that come with this program, or the path of a JSON file.

    Raises UserError where there is no such file or name, or a key of it is missing or of another type.
    """
    if not name.endswith(".json") and name not in reported_score_names():
        raise UserError(
            f"no reported scores of the name '{name}'",
            where="--reported",
            hint=f"known: {', '.join(reported_score_names())}; or {NO_REPORTED_SCORES}, or a JSON file",
        )
    path = Path(name) if name.endswith(".json") else shipped_folder("reported") / f"{name}.json"
    content = read_json(path)
    if not isinstance(content, dict) or "tasks" not in content:
        raise UserError("not a file of reported scores", where=path)
    try:
        return ReportedScores.model_validate(content)
    except ValidationError as error:
        first_error = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first_error["loc"])
        raise UserError(f"'{key}': {first_error['msg']}", where=path) from None
