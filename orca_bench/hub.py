"""The Hugging Face hub: an id and a revision in, the commit and its files on this machine out; and files of this machine up.

Models, tokenizers, records and benchmark rows all come from it. So the form of an id, how a revision becomes a commit, and
the messages for a hub that does not answer are here once. Files in the hub's cache are used where the hub is out of reach.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from orca_bench.errors import UserError, one_line, spelling_hint

if TYPE_CHECKING:
    from datasets import Dataset

#: What shows the user a line.
ShowMessage = Callable[[str], None]
RepositoryKind = Literal["model", "dataset"]

_ID_PATTERN = re.compile(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*")
#: Endings of files, which ids do not have.
_FILE_NAME_PATTERN = re.compile(
    r"\.(model|json|jsonl|gz|zst|yaml|yml|parquet|csv|tsv|txt|safetensors|bin|gguf)$", re.IGNORECASE
)
_NOUN_BY_KIND = {"model": "model", "dataset": "data set"}
_SHORT_COMMIT_LENGTH = 12  # characters of a commit in messages
_MAX_MESSAGE_LENGTH = 250  # of the hub's own message
#: Small files of a model: everything but its weights.
_SETTINGS_PATTERNS = ("*.json", "*.jinja", "*.model*", "vocab*", "merges.txt", "*.tiktoken")
_SAFETENSORS_PATTERNS, _PICKLE_PATTERNS = ("*.safetensors",), ("pytorch_model*.bin",)
#: Not of the model at the top: other formats in folders of their own, and Mistral's second copy of the weights.
_IGNORED_PATTERNS = ("*/*", "consolidated*", "params.json")


@dataclass(frozen=True)
class Commit:
    """A commit of the hub: the id, the revision (None: the newest), and the SHA of its commit."""

    repository_id: str
    revision: str | None
    commit_sha: str

    def __str__(self) -> str:
        return f"{self.repository_id}@{self.commit_sha[:_SHORT_COMMIT_LENGTH]}"


def is_hub_id(path_or_id: str) -> bool:
    """Whether `path_or_id` is read as an id of the hub: `OWNER/NAME`, where OWNER is nothing that is here."""
    return (
        bool(_ID_PATTERN.fullmatch(path_or_id))
        and not _FILE_NAME_PATTERN.search(path_or_id)
        and not Path(path_or_id.split("/")[0]).exists()
    )


def has_id_form(text: str) -> bool:
    """Whether a text has the form `OWNER/NAME`, whatever is here."""
    return bool(_ID_PATTERN.fullmatch(text))


def check_hub_id(path_or_id: str, expected_noun: str) -> None:
    """Raise UserError where `path_or_id` is no id of the hub: `OWNER/NAME`, where OWNER is not a folder here.

    A path that is spelled wrong must not be read as an id: a stranger's files would be fetched.
    """
    if is_hub_id(path_or_id):
        return
    owner_folder = Path(path_or_id.split("/")[0])
    hint = _nearest_path_hint(path_or_id)
    if hint is None and _ID_PATTERN.fullmatch(path_or_id) and owner_folder.exists():
        hint = f"'{owner_folder}' is a folder here, so this is not taken for an id of the hub"
    if hint is None and "@" in path_or_id and _ID_PATTERN.fullmatch(path_or_id.split("@")[0]):
        hint = "a revision is given by --revision, or in a recipe by model.revision"
    noun = "GGUF file" if path_or_id.endswith(".gguf") else expected_noun
    raise UserError(f"no such {noun}", where=path_or_id, hint=hint or "give a path, or OWNER/NAME for one of the hub")


def resolve_commit(
    repository_id: str,
    revision: str | None,
    repository_kind: RepositoryKind = "model",
    local_hint: str | None = None,
) -> Commit:
    """The commit that a revision (branch, tag or commit; None is the default branch) of a hub id is now.

    Out of the cache where the hub cannot be reached. Raises UserError with what the hub says, and with `local_hint`: what else
    the user can give.
    """
    from huggingface_hub import HfApi

    try:
        resolved_revision = HfApi().resolve_revision(repository_id, repo_type=repository_kind, revision=revision)
    except Exception as error:  # the hub client raises a dozen kinds; for the user they are one
        raise hub_user_error(error, repository_id, revision, repository_kind, local_hint) from error
    return Commit(repository_id, revision, resolved_revision.resolved)


def fetch_model(commit: Commit, with_weights: bool = True) -> Path:
    """The folder of a model at a commit, in the hub's cache; without weights only its small files are fetched."""
    from huggingface_hub import snapshot_download

    def fetch(file_patterns: Sequence[str]) -> Path:
        try:
            return Path(
                snapshot_download(
                    commit.repository_id,
                    revision=commit.commit_sha,
                    allow_patterns=list(file_patterns),
                    ignore_patterns=list(_IGNORED_PATTERNS),
                )
            )
        except Exception as error:
            raise hub_user_error(error, commit.repository_id, commit.revision, "model") from error

    model_folder = fetch([*_SETTINGS_PATTERNS, *(_SAFETENSORS_PATTERNS if with_weights else ())])
    if with_weights and not any(model_folder.glob("*.safetensors")):
        model_folder = fetch([*_SETTINGS_PATTERNS, *_PICKLE_PATTERNS])
    return model_folder


def load_dataset_rows(
    commit: Commit, configuration: str | None = None, split: str = "train", local_hint: str | None = None
) -> Dataset:
    """The rows of a data set at a commit; raises UserError with what the hub or the reader of its files says."""
    from datasets import load_dataset

    try:
        rows = load_dataset(commit.repository_id, configuration, split=split, revision=commit.commit_sha)
    except Exception as error:
        raise hub_user_error(error, commit.repository_id, commit.revision, "dataset", local_hint) from error
    # datasets 5.2 takes the newest version in its cache, whichever it is, where the hub does not answer.
    cached_files = [str(cached_path["filename"]) for cached_path in rows.cache_files]
    if any(commit.commit_sha not in cached_path for cached_path in cached_files):
        raise UserError(
            f"the cache holds another commit than {commit.commit_sha} of this data set, and the hub does not answer",
            where=commit.repository_id,
            hint="connect, or name the revision that is in the cache",
        )
    return rows


def check_push(repository_id: str) -> None:
    """Raise UserError, before anything is computed, for what is no repository's id, and where there is no token."""
    if not has_id_form(repository_id):
        raise UserError(f"'{repository_id}' is no repository of the hub", where="--push", hint="it is OWNER/NAME")
    _hub_token()


def upload_files(
    repository_id: str,
    path_by_name: Mapping[str, Path],
    noun: str,
    commit_message: str,
    repository_kind: RepositoryKind = "model",
) -> str:
    """Upload files to a repository of the hub as one commit; returns the commit's address.

    Large files that an earlier upload has brought there are not sent again, and files that are there already make no commit.
    The token is that of the environment. Raises UserError, which calls the files `noun`, where it fails.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=path) for name, path in path_by_name.items()]
    try:
        commit = HfApi(token=_hub_token()).create_commit(
            repo_id=repository_id, repo_type=repository_kind, operations=operations, commit_message=commit_message
        )
    except UserError:
        raise
    except Exception as error:  # of many kinds: no such repository, no right to it, no network
        reason = f"{type(error).__name__}: {one_line(error, 200)}"
        raise UserError(f"the hub did not take the {noun} ({reason})", where=repository_id) from None
    return str(commit.commit_url)


def _hub_token() -> str:
    token = os.environ.get("HF_TOKEN")
    if not token:
        raise UserError("no token", where="--push", hint="set HF_TOKEN to one that may write to the repository")
    return token


def hub_user_error(
    error: Exception,
    repository_id: str,
    revision: str | None,
    repository_kind: RepositoryKind,
    local_hint: str | None = None,
) -> UserError:
    """The error of the hub's client as a UserError: the hub's own message, and what to do."""
    from huggingface_hub import errors

    repository_noun, local_source_noun = (
        _NOUN_BY_KIND[repository_kind],
        "a file or folder of rows" if repository_kind == "dataset" else "the path of a folder",
    )
    local_hint, absent_text = local_hint or f"give {local_source_noun}", f"no such {repository_noun} here"
    error_chain = list(_error_chain(error))
    status_code = next((c.response.status_code for c in error_chain if isinstance(c, errors.HfHubHTTPError)), None)
    server_message = next((text for cause in error_chain if (text := getattr(cause, "server_message", None))), None)
    server_text = f": {one_line(server_message, _MAX_MESSAGE_LENGTH)}" if server_message else ""
    if any(isinstance(cause, errors.GatedRepoError) for cause in error_chain):
        return UserError(
            f"the hub gives this {repository_noun} only to whom its owners admitted{server_text}",
            where=repository_id,
            hint="ask for access on its page and set HF_TOKEN",
        )
    if any(isinstance(cause, errors.RevisionNotFoundError) for cause in error_chain):
        return UserError(
            f"the hub has no revision '{revision}' of this {repository_noun}{server_text}", where=repository_id
        )
    if status_code in (401, 403, 404):
        return UserError(
            f"{absent_text}, and the hub shows no such {repository_noun} (HTTP {status_code}{server_text})",
            where=repository_id,
            hint=f"check the name; for a private one set HF_TOKEN; or {local_hint}",
        )
    if any(isinstance(cause, errors.OfflineModeIsEnabled) for cause in error_chain):
        return UserError(
            f"{absent_text}, nor in the hub's cache, and HF_HUB_OFFLINE forbids to fetch it",
            where=repository_id,
            hint=local_hint,
        )
    # A refused connection says more than the error that it led to.
    cause = error_chain[-1] if isinstance(error_chain[-1], OSError) else error
    reason = one_line(cause, _MAX_MESSAGE_LENGTH) if status_code is None else f"HTTP {status_code}{server_text}"
    return UserError(f"{absent_text}, and the hub does not give it ({reason})", where=repository_id, hint=local_hint)


def _error_chain(error: BaseException) -> list[BaseException]:
    """An error and those that it was raised from, the first one last."""
    error_chain = [error]
    while (
        next_error := error_chain[-1].__cause__ or error_chain[-1].__context__
    ) is not None and next_error not in error_chain:
        error_chain.append(next_error)
    return error_chain


def _nearest_path_hint(absent_path_text: str) -> str | None:
    """A hint with the path here that is most like `absent_path_text`; it begins with ./ where that does."""
    absent_path = Path(absent_path_text)
    existing_folder = next((parent for parent in absent_path.parents if parent.is_dir()), None)
    if existing_folder is None:
        return None
    absent_name = absent_path.relative_to(existing_folder).parts[0]
    start = "./" if absent_path_text.startswith("./") else ""
    start += "" if existing_folder == Path(".") else os.path.join(existing_folder, "")
    return spelling_hint(absent_name, (entry.name for entry in existing_folder.iterdir()), prefix=start)
