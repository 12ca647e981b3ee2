"""A path, hub id or GGUF file in, the model's folder out: where it lies, and everything that its small files say, read once.

Everybody who needs a model passes one `ModelFolder` on and asks it, so no file is read or checked a second time. Its own
module because evaluation, generation, training and reports all begin with it; `model_loading` loads the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orca_bench import hub, tokenizers
from orca_bench.errors import UserError
from orca_bench.files import read_json
from orca_bench.models import architecture, model_names, quantization, weights
from orca_bench.models.gguf import gguf_import
from orca_bench.models.gguf.gguf_file import is_gguf
from orca_bench.models.gptq import gptq_import
from orca_bench.tokenizers import Disagreement, Tokenizer
from orca_bench.tokenizers.chat_template import ChatTemplate, has_chat_template, load_chat_template

if TYPE_CHECKING:
    from transformers import PretrainedConfig

#: The largest `step` that is believed: that of a result file (results/models.py).
MAX_TRAINING_STEP = 10**12
#: The file of a model folder that says which run wrote it, after which step.
METADATA_FILE_NAME = "orca_bench.json"


def locate_model(
    path_or_hub_id: str,
    revision: str | None = None,
    show_message: hub.ShowMessage = lambda line: None,
    with_weights: bool = True,
    revision_option: str = "--revision",
    dequantizes: bool = True,
) -> ModelFolder:
    """The folder of the model or tokenizer that a path or a hub id names. `show_message` gets a line before something is fetched.

    A GGUF file and, with `dequantizes`, a GPTQ folder give the plain folder in the cache that is written from them.
    `revision_option` is the command-line option or recipe key of the revision. Raises UserError for an empty name, a path to
    nothing, a hub id that the hub does not give, and a revision of something that is here.
    """
    if not path_or_hub_id.strip():
        raise UserError("an empty name of a model", hint="is a variable unset?")
    if revision is not None and not revision.strip():
        raise UserError("an empty revision", where=revision_option, hint="is a variable unset?")
    if Path(path_or_hub_id).exists():
        if revision is not None:
            raise UserError(
                f"'{path_or_hub_id}' is here, and only models of the hub have revisions", where=revision_option
            )
        if is_gguf(path_or_hub_id):
            imported_folder = gguf_import.folder_of(Path(path_or_hub_id), show_message)
            return ModelFolder(str(imported_folder), gguf_path=path_or_hub_id)
        return _plain_folder(ModelFolder(path_or_hub_id), show_message, with_weights and dequantizes)
    hub.check_hub_id(path_or_hub_id, "model folder")
    commit = hub.resolve_commit(path_or_hub_id, revision)
    show_message(f"fetching {commit} from the hub, as far as it is not in the cache")
    folder = ModelFolder(str(hub.fetch_model(commit, with_weights)), commit)
    return _plain_folder(folder, show_message, with_weights and dequantizes)


def _plain_folder(folder: ModelFolder, show_message: hub.ShowMessage, dequantizes: bool) -> ModelFolder:
    """The folder itself, or the one in the cache with a GPTQ folder's weights dequantised."""
    if not (dequantizes and Path(folder.path).is_dir() and gptq_import.is_gptq(Path(folder.path))):
        return folder
    plain_folder = gptq_import.folder_of(Path(folder.path), show_message)
    return ModelFolder(str(plain_folder), folder.commit, gptq_path=folder.path)


@dataclass(frozen=True)
class ModelFolder:
    """A model's folder, its commit where it is one of the hub, and the GGUF file or GPTQ folder that it was written from, if any.

    `path` may also be the file of a tokenizer alone.

    A property reads its files when it is used for the first time, and raises UserError where they are not valid; what it gives
    stays, also where a file changes later. A copy in another process reads for itself.
    """

    path: str
    commit: hub.Commit | None = None
    gguf_path: str | None = None
    gptq_path: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        """What a copy is made of: the fields, and nothing that was read."""
        return {
            "path": self.path,
            "commit": self.commit,
            "gguf_path": self.gguf_path,
            "gptq_path": self.gptq_path,
        }

    def check_model(self) -> None:
        """Raise UserError where this is no whole causal language model of text.

        `weights.check_weights`, which reads the headers of the files of weights, says what is refused of them.
        """
        folder = Path(self.path)
        if folder.is_file():
            raise UserError("a file, not a model folder", where=self.path, hint="name the folder that it is in")
        if not folder.is_dir():
            raise UserError("no such model folder", where=self.path)
        if (folder / "adapter_config.json").is_file():
            raise UserError(
                "a PEFT adapter, not a whole model",
                where=folder / "adapter_config.json",
                hint=f"name {folder.resolve().parent}, into whose weights it is merged"
                if (folder.resolve().parent / METADATA_FILE_NAME).is_file()
                else "merge it into its base (merge_and_unload, save_pretrained) and name the merged folder",
            )
        if not (folder / "config.json").is_file():
            raise UserError("no config.json: not a model folder", where=self.path)
        generation_file = folder / "generation_config.json"
        if generation_file.is_file() and not isinstance(read_json(generation_file), dict):
            raise UserError("not a JSON object", where=generation_file)
        if not any(folder.glob("*.safetensors")) and not any(folder.glob("pytorch_model*.bin")):
            raise UserError("no weights (*.safetensors) in this model folder", where=self.path)
        if reason := architecture.unsupported_reason(self.config):
            raise UserError(f"{reason}; only causal language models of text can be used", where=self.path)
        architecture.context_window_tokens(self.config)
        quantization.check_quantization(folder)
        _ = self.unused_weight_names

    def check_tokenizer(self) -> None:
        """Raise UserError where no tokenizer is here, or two and nothing says which is the model's."""
        _ = self.tokenizer

    @cached_property
    def config(self) -> PretrainedConfig:
        """The configuration with which transformers loads the model; not to be changed."""
        return architecture.load_config(self.path)

    @cached_property
    def window_tokens(self) -> int:
        """The context window in tokens, from config.json alone."""
        return architecture.context_window_tokens(self.config)

    @cached_property
    def unused_weight_names(self) -> list[str]:
        """The weights that the model has no place for; raises UserError where others are missing or do not fit."""
        return weights.check_weights(self.path, self.config)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the model was trained with."""
        return tokenizers.load_tokenizer(self.path)

    @cached_property
    def tokenizer_disagreement(self) -> Disagreement | None:
        """A text to which plain transformers gives other ids, loading this folder; None where there is none."""
        return None if Path(self.path).is_file() else tokenizers.find_folder_disagreement(self.tokenizer)

    @cached_property
    def training_origin(self) -> dict[str, str | int]:
        """The name of the `run` that wrote the folder and the `step` after which it did; empty for another model.

        The folder may come from anywhere: a value that no run writes is left out.
        """
        metadata_file = Path(self.path) / METADATA_FILE_NAME
        export_metadata = read_json(metadata_file) if metadata_file.is_file() else {}
        if not isinstance(export_metadata, dict):
            return {}
        origin: dict[str, str | int] = {}
        run_name, step = export_metadata.get("run"), export_metadata.get("step")
        if isinstance(run_name, str):
            origin["run"] = run_name
        if isinstance(step, int) and not isinstance(step, bool) and 0 <= step <= MAX_TRAINING_STEP:
            origin["step"] = step
        return origin

    @cached_property
    def chat_template(self) -> ChatTemplate:
        """The chat template of the model; raises UserError where there is none, or none that can be used."""
        # An export encodes what its template writes without looking for special tokens, and the template of a GGUF file that
        # was imported is another one.
        is_own_export = (Path(self.path) / METADATA_FILE_NAME).is_file()
        return load_chat_template(self.tokenizer, Path(self.path), splits_special_tokens=is_own_export)

    @cached_property
    def has_own_prompt(self) -> bool:
        """Whether the model was tuned in another prompt than Orca's: its chat template writes another one.

        Not so a folder with an orca_bench.json, which this program trained.
        """
        folder = Path(self.path)
        if (folder / METADATA_FILE_NAME).is_file() or not has_chat_template(folder):
            return False
        try:
            return not self.chat_template.writes_orca_prompt
        except UserError:
            return True

    @cached_property
    def gguf_bits_per_weight(self) -> float | None:
        """The bits of a weight in the GGUF file that the folder was imported from; None for another folder."""
        return gguf_import.stored_bits_per_weight(Path(self.path))

    @cached_property
    def gguf_sha256(self) -> str | None:
        """The hash of the GGUF file that the folder was imported from; None for another folder, or where it says none."""
        return gguf_import.stored_sha256(Path(self.path))

    @cached_property
    def gptq_bits_per_weight(self) -> float | None:
        """The bits of a weight in the GPTQ folder that this is or was written from; None for another, or where unknown."""
        return gptq_import.stored_bits_per_weight(Path(self.path))

    @property
    def is_quantized(self) -> bool:
        """Whether the weights of the folder itself are quantised; not those of one that was written from a GPTQ folder."""
        return bool(quantization.quantization_settings(Path(self.path)))

    @property
    def path_or_hub_id(self) -> str:
        """What names it outside of this machine's caches: its path, the GGUF file's, the GPTQ folder's, or the id on the hub."""
        return self.commit.repository_id if self.commit is not None else self.gguf_path or self.gptq_path or self.path

    @property
    def name(self) -> str:
        """What the model is called where the user gives no name: after the GGUF file or GPTQ folder, not after the cache."""
        if self.gguf_path is not None:
            return model_names.model_name_of(str(gguf_import.path_without_suffix(Path(self.gguf_path))), self.commit)
        return model_names.model_name_of(self.gptq_path or self.path, self.commit)

    @property
    def run_folder(self) -> Path | None:
        """The run whose model, or one of whose exports, this is."""
        return model_names.run_folder_of_model(self.path)

    def describe(self) -> dict[str, str | int | float | None]:
        """A result's `path`, `run`, `step`, `tokenizer_note`, the hub's `revision` and `commit`, a file's `bits` and hash."""
        location: dict[str, str | int | float | None] = {"path": self.path_or_hub_id}
        if self.commit is not None:  # revision None is the newest
            location |= {"revision": self.commit.revision, "commit": self.commit.commit_sha}
        disagreement = self.tokenizer_disagreement
        note = {"tokenizer_note": None if disagreement is None else str(disagreement)}
        bits_per_weight = self.gguf_bits_per_weight or self.gptq_bits_per_weight
        bits = {} if bits_per_weight is None else {"bits": bits_per_weight}
        file_hash = {} if self.gguf_sha256 is None else {"gguf_sha256": self.gguf_sha256}
        return location | self.training_origin | note | bits | file_hash
