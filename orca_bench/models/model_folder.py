"""A model folder, hub id or GGUF file in, a transformers model and its tokenizer out; or an error that says what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orca_bench import hub, launcher_environment, library_settings, tokenizers
from orca_bench.errors import UserError
from orca_bench.files import read_json
from orca_bench.models import architecture, weights
from orca_bench.models.gguf import gguf_import
from orca_bench.models.gguf.gguf_file import is_gguf
from orca_bench.prompt import TURN_HEADERS
from orca_bench.tokenizers import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: The largest `step` that is believed: that of a result file (results/models.py).
MAX_TRAINING_STEP = 10**12


@dataclass(frozen=True)
class ModelSource:
    """Where a model or a tokenizer lies: the path or hub id that names it, its folder (or file) here, its commit on the hub."""

    path_or_hub_id: str
    local_path: str
    commit: hub.Commit | None = None

    def describe(self) -> dict[str, str | None]:
        """Its entry in a result or manifest: `path`, and for a hub id `revision` (None: the newest) and `commit`."""
        if self.commit is None:
            return {"path": self.path_or_hub_id}
        return {"path": self.path_or_hub_id, "revision": self.commit.revision, "commit": self.commit.commit_sha}


def locate_model(
    path_or_hub_id: str,
    revision: str | None = None,
    show_message: hub.ShowMessage = lambda line: None,
    with_weights: bool = True,
    revision_option: str = "--revision",
) -> ModelSource:
    """Find the model or tokenizer that a path or a hub id names. `show_message` gets a line before something is fetched.

    `revision_option` is the command-line option or recipe key of the revision. Raises UserError for an empty name, a path to
    nothing, a hub id that the hub does not give, and a revision of something that is here.
    """
    if not path_or_hub_id.strip() or (
        revision is not None and not revision.strip()
    ):  # an unset variable of a shell, as a rule
        empty_input = "revision" if path_or_hub_id.strip() else "name of a model"
        raise UserError(
            f"an empty {empty_input}",
            where=revision_option if path_or_hub_id.strip() else None,
            hint="is a variable unset?",
        )
    if Path(path_or_hub_id).exists():
        if revision is not None:
            raise UserError(
                f"'{path_or_hub_id}' is here, and only models of the hub have revisions", where=revision_option
            )
        if is_gguf(path_or_hub_id):
            return ModelSource(path_or_hub_id, str(gguf_import.folder_of(Path(path_or_hub_id), show_message)))
        return ModelSource(path_or_hub_id, path_or_hub_id)
    hub.check_hub_id(path_or_hub_id, "model folder")
    commit = hub.resolve_commit(path_or_hub_id, revision)
    show_message(f"fetching {commit} from the hub, as far as it is not in the cache")
    return ModelSource(path_or_hub_id, str(hub.fetch_model(commit, with_weights)), commit)


def check_model_folder(folder_text: str) -> list[str]:
    """Raise UserError where a folder holds no whole model, or a path leads to nothing; returns the weights that are not used.

    See `weights.check_weights`.
    """
    folder = Path(folder_text)
    if folder.is_file():
        raise UserError("a file, not a model folder", where=folder_text, hint="name the folder that it is in")
    if not folder.is_dir():
        raise UserError("no such model folder", where=folder_text)
    if (folder / "adapter_config.json").is_file():
        raise UserError(
            "a PEFT adapter, not a whole model",
            where=folder / "adapter_config.json",
            hint="merge it into its base (merge_and_unload, save_pretrained) and name the merged folder",
        )
    if not (folder / "config.json").is_file():
        raise UserError("no config.json: not a model folder", where=folder_text)
    generation_file = folder / "generation_config.json"
    if generation_file.is_file() and not isinstance(read_json(generation_file), dict):
        raise UserError("not a JSON object", where=generation_file)
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("pytorch_model*.bin")):
        raise UserError("no weights (*.safetensors) in this model folder", where=folder_text)
    check_architecture(folder_text)
    return weights.check_weights(folder_text)


def check_architecture(folder: str) -> None:
    """Raise UserError where the configuration of a folder is no causal text model's, or has no context window."""
    config = architecture.load_config(folder)
    if reason := architecture.unsupported_reason(config):
        raise UserError(f"{reason}; only causal language models of text can be used", where=folder)
    architecture.context_window_tokens(config)


def load_model_and_tokenizer(
    folder: str, dtype: str, gpu_dtype: str, device_map: str | None = None
) -> tuple[PreTrainedModel, Tokenizer]:
    """(model in evaluation mode, tokenizer); on a GPU where there is one, of several that of LOCAL_RANK.

    dtype is a torch dtype's name, or `auto`: float32 on a CPU, `gpu_dtype` on a GPU (`auto` there: the checkpoint's own).
    `device_map` is transformers': with `auto` the model is spread over all devices.
    """
    library_settings.prepare_libraries()
    import torch
    from transformers import AutoModelForCausalLM

    check_model_folder(folder)
    tokenizer = tokenizers.load_tokenizer(folder)
    has_gpu = torch.cuda.is_available()
    dtype_name = (gpu_dtype if has_gpu else "float32") if dtype == "auto" else dtype
    placement_options = {} if device_map is None else {"device_map": device_map}
    load_options = {"dtype": dtype_name if dtype_name == "auto" else getattr(torch, dtype_name), **placement_options}
    with weights.catch_loading_errors(folder):
        model = architecture.load_with_attention(
            lambda attention: AutoModelForCausalLM.from_pretrained(
                folder, config=architecture.load_config(folder), attn_implementation=attention, **load_options
            )
        )
    if (vocabulary_size := architecture.vocabulary_size(model)) < tokenizer.min_model_vocab_size:
        raise UserError(
            f"the tokenizer has {tokenizer.min_model_vocab_size} ids and the model takes {vocabulary_size}",
            where=folder,
            hint="this folder's tokenizer is another model's",
        )
    if device_map is None:
        model = model.to(_target_device(has_gpu))
    return model.eval(), tokenizer


def _target_device(has_gpu: bool) -> str:
    if not has_gpu:
        return "cpu"
    import torch

    local_rank = launcher_environment.local_rank()
    if local_rank >= torch.cuda.device_count():
        raise UserError(
            f"process {local_rank} has no GPU: {torch.cuda.device_count()} here", hint="start as many processes as GPUs"
        )
    return f"cuda:{local_rank}"


def training_origin(folder: str) -> dict[str, str | int]:
    """The `run_name` that a model folder comes from and the `step` after which it was written; empty for another model folder.

    The folder may come from anywhere: a value that no run writes is left out.
    """
    metadata_file = Path(folder) / "orca_bench.json"
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


def has_own_prompt(folder: str) -> bool:
    """Whether a model was tuned in another prompt than Orca's: it has its own chat template, and no orca_bench.json."""
    folder_path = Path(folder)
    if (folder_path / "orca_bench.json").is_file():
        return False
    tokenizer_config = (
        read_json(folder_path / "tokenizer_config.json") if (folder_path / "tokenizer_config.json").is_file() else {}
    )
    chat_templates = (
        [str(tokenizer_config["chat_template"])]
        if isinstance(tokenizer_config, dict) and tokenizer_config.get("chat_template")
        else []
    )
    chat_templates += [
        file.read_text(encoding="utf-8", errors="replace") for file in sorted(folder_path.glob("*.jinja"))
    ]
    return any(
        not all(header in template for header in (TURN_HEADERS[0], TURN_HEADERS[-1])) for template in chat_templates
    )


def window_tokens_of(folder: str) -> int:
    """The context window in tokens of a model folder, from its config.json alone; raises UserError where there is none."""
    return architecture.context_window_tokens(architecture.load_config(folder))
