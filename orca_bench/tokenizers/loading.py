"""A folder, a SentencePiece file or a hub id in, the tokenizer that its model uses out."""

from __future__ import annotations

from pathlib import Path

from orca_bench.errors import UserError
from orca_bench.tokenizers.hugging_face import FolderTokenizer
from orca_bench.tokenizers.sentencepiece_file import SENTENCEPIECE_FILE, Tokenizer


def load(where: str | Path) -> Tokenizer | FolderTokenizer:
    """The tokenizer of a folder, of a `.model` file, or of a hub id.

    Raises UserError where nothing there is a tokenizer.
    """
    path = Path(where)
    if path.is_file():
        return Tokenizer(path)
    if path.is_dir():
        if (path / SENTENCEPIECE_FILE).is_file():
            return Tokenizer(path / SENTENCEPIECE_FILE)
        if (path / "tokenizer.json").is_file():
            return FolderTokenizer(str(path))
        raise UserError(
            "no tokenizer here", where=path, hint=f"expected {SENTENCEPIECE_FILE} or tokenizer.json beside config.json"
        )
    return load(from_hub(str(where)))


def from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(name, allow_patterns=["tokenizer*", "special_tokens_map.json", "config.json"]))
    except HFValidationError:
        raise UserError("no such file or folder, and not a hub id", where=name) from None
    except Exception as error:  # the hub client raises a dozen kinds; for the user they are one
        raise UserError(
            f"no such folder here, and the hub did not give it ({type(error).__name__})",
            where=name,
            hint="give the path of a downloaded model folder",
        ) from error
