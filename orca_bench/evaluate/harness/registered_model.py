"""The model class that lm-eval's command line finds under the name `orca-bench`: a folder in, its answers by our engine out.

It has all that lm-eval's `hf` class has for its evaluator: the requests, chat templates, the tokenizer's name, what a result says
of the model. Ids, windows, stop rules and so all values are those of `hf`; only the computation is ours. Its own module because
`HarnessModel` knows neither folders nor chat templates.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import tqdm
from jinja2.exceptions import TemplateError
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from transformers import AutoTokenizer

from orca_bench import __version__
from orca_bench.errors import UserError, one_line
from orca_bench.evaluate.answers import portions
from orca_bench.evaluate.answers.portions import Call
from orca_bench.evaluate.engine.token_choice import TokenChoice
from orca_bench.evaluate.engine.tree_engine import load_checked_engine
from orca_bench.evaluate.harness.language_model import HarnessModel
from orca_bench.evaluate.harness.lm_eval_instances import token_choice_of
from orca_bench.evaluate.harness.model_arguments import ModelArguments, read_model_arguments
from orca_bench.evaluate.harness.transformers_encoding import TransformersEncoding
from orca_bench.evaluate.request_encoding import ScoredSequence
from orca_bench.models.model_folder import ModelFolder, locate_model

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase

#: What a folder's generation_config.json may say that changes greedy or sampled texts of `hf`, and that this engine does not do:
#: its name and the values with which it says nothing.
_UNSERVED_SETTINGS: dict[str, tuple[Any, ...]] = {
    "num_beams": (None, 1),
    "no_repeat_ngram_size": (None, 0),
    "bad_words_ids": (None, []),
    "suppress_tokens": (None, []),
    "begin_suppress_tokens": (None, []),
    "forced_bos_token_id": (None,),
    "forced_eos_token_id": (None,),
    "sequence_bias": (None,),
    "exponential_decay_length_penalty": (None,),
    "min_length": (None, 0),
    "min_new_tokens": (None, 0),
    "guidance_scale": (None, 1, 1.0),
    "typical_p": (None, 1, 1.0),
    "epsilon_cutoff": (None, 0, 0.0),
    "eta_cutoff": (None, 0, 0.0),
    "watermarking_config": (None,),
}


class OrcaBenchLM(HarnessModel, TemplateLM):
    """lm-eval's `--model orca-bench`: `--model_args pretrained=DIR,…` as `hf` takes them (see `model_arguments`)."""

    def __init__(self, **arguments: Any):
        """Load the model; raises UserError where the folder has no model that can be evaluated, or an argument is not served."""
        self.arguments = read_model_arguments(arguments)
        _check_device(self.arguments.device)
        folder = _model_folder(self.arguments)
        self.tokenizer = _load_tokenizer(folder, self.arguments)
        engine = load_checked_engine(
            folder, self.arguments.dtype, device_map="auto" if self.arguments.parallelize else None
        )
        generation_config = getattr(engine.model, "generation_config", None)
        encoding = TransformersEncoding(
            self.tokenizer,
            folder.tokenizer,
            self.arguments.max_length or folder.window_tokens,
            _ids_of(getattr(generation_config, "eos_token_id", None)),
            self.arguments.add_bos_token,
            self.arguments.prefix_token_id,
            self.arguments.think_end_token,
        )
        super().__init__(engine, encoding, protocol_name="lm-eval", answer_progress=_ProgressBar())
        self._folder, self._encoding, self._local_engine = folder, encoding, engine
        self._device = engine.device
        self._generation_config = generation_config
        seed = torch.initial_seed() if self.arguments.seed is None else self.arguments.seed  # --seed of lm-eval
        self.default_token_choice = _default_token_choice(generation_config, seed)

    # --- requests -------------------------------------------------------------------------------------------------

    # lm-eval writes responses into its cache and into samples: plain values, which need nothing of ours to be read again.

    def loglikelihood(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[Any]:
        """(log-probability in nats, whether it is greedy) of each instance's continuation, in order."""
        if self.arguments.enable_thinking:
            raise UserError("enable_thinking is for tasks that generate only, as in lm-eval", where="--model_args")
        return [(float(score), bool(greedy)) for score, greedy in super().loglikelihood(requests)]

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[Any]:
        """The log-probability of each instance's whole text in nats, in order."""
        return [float(response) for response in super().loglikelihood_rolling(requests)]

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[Any]:
        """The text after each instance's context, in order."""
        self._check_generation_config()
        return [str(response) for response in super().generate_until(requests)]

    def receive_answers(self, instances: Sequence[Instance], answers: Sequence[Any]) -> None:
        """Put answers into lm-eval's own cache (`--use_cache`) at once, so that a run that is stopped loses little.

        Not those of windows, which are no whole answers, and of sampled texts, which lm-eval does not take from its cache.
        """
        for instance, answer in zip(instances, answers, strict=True):
            if instance.request_type == "loglikelihood":
                self.cache_hook.add_partial("loglikelihood", instance.args, (float(answer[0]), bool(answer[1])))
            elif instance.request_type == "generate_until" and not token_choice_of(instance, self.default_token_choice):
                self.cache_hook.add_partial("generate_until", instance.args, str(answer[0]))

    def _loglikelihood_tokens(self, requests: Sequence[tuple[Any, list[int], list[int]]], **_: Any) -> list[Any]:
        """As `TemplateLM`'s, for code of lm-eval that calls it: requests are (anything, context ids, continuation ids)."""
        sequences = [ScoredSequence(context_ids + ids, len(context_ids)) for _, context_ids, ids in requests]
        return [(float(score), bool(greedy)) for score, greedy in self.engine.log_likelihoods(sequences)]

    def _check_generation_config(self) -> None:
        """Raise UserError where the folder's generation_config.json says what would change the texts of `hf`."""
        settings = [
            f"{name}={value!r}"
            for name, idle_values in _UNSERVED_SETTINGS.items()
            if (value := getattr(self._generation_config, name, None)) not in idle_values
        ]
        if settings:
            raise UserError(
                f"generation_config.json says {', '.join(settings)}, which is not served",
                where=self._folder.path_or_hub_id,
                hint="lm-eval's hf would follow it; remove it to generate without",
            )

    # --- what lm-eval asks of a model -------------------------------------------------------------------------------

    @property
    def eot_token_id(self) -> Any:
        """The id of EOS; None where there is none."""
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        """What an empty context is."""
        return self._encoding.prefix_token_id

    @property
    def max_length(self) -> int:
        """The context window in tokens."""
        return self._encoding.window_tokens

    @property
    def max_gen_toks(self) -> int:
        """The most tokens of a text where a task does not say it."""
        return self._default_max_new_tokens

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """The ids of a text, as `hf` has them."""
        return self._encoding.token_ids(string, add_special_tokens)

    def tok_decode(self, tokens: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of ids."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=skip_special_tokens))

    @property
    def tokenizer_name(self) -> str:
        """The tokenizer's name in the keys of lm-eval's cache of requests, as `hf` writes it."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The turns in the tokenizer's own chat template, as `hf` renders them; a template may refuse a system message.

        Raises UserError where the tokenizer has no template, and where it cannot render the turns.
        """
        if self.tokenizer.chat_template is None:
            raise UserError(
                "the tokenizer has no chat template",
                where=self._folder.path_or_hub_id,
                hint="leave --apply_chat_template out, or put chat_template.jinja into the folder",
            )
        without_system = [message for message in chat_history if message["role"] != "system"]
        try:
            try:
                return self._render_turns(chat_history, add_generation_prompt)
            except TemplateError:
                return self._render_turns(without_system, add_generation_prompt)
        except (TemplateError, ValueError, TypeError) as error:
            raise UserError(
                f"the chat template cannot render these turns ({one_line(error, 160)})",
                where=self._folder.path_or_hub_id,
            ) from None

    def _render_turns(self, messages: list[dict[str, str]], add_generation_prompt: bool) -> str:
        thinking = {} if self.arguments.enable_thinking is None else {"enable_thinking": self.arguments.enable_thinking}
        return str(
            self.tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
                **(self.arguments.chat_template_args or {}),
                **thinking,
            )
        )

    def get_model_info(self) -> dict[str, Any]:
        """What lm-eval's result says of the model."""
        commit = self._folder.commit
        return {
            "model_num_parameters": self._local_engine.model.num_parameters(),
            "model_dtype": str(self._local_engine.model.dtype),
            "model_revision": self.arguments.revision or "main",
            "model_sha": "" if commit is None else commit.commit_sha,
            "engine": {"name": "orca-bench", "version": __version__, **self._local_engine.path_description},
            "sampling_seed": self.default_token_choice.seed,
        }


class _ProgressBar:
    """A bar for each call, in tokens of a prefix tree or in texts."""

    def __init__(self) -> None:
        self._bar: Any = None

    def plan(self, call: Call) -> None:
        """These requests are computed now."""
        if self._bar is not None:
            self._bar.close()
        scores = call.answer_kind == portions.SCORES
        total = call.computed_token_count if scores else call.request_count
        title = f"{call.request_count} log-likelihoods" if scores else "texts"
        self._bar = tqdm.tqdm(total=total, desc=title, unit="tokens" if scores else "texts", disable=None)

    def advance(self, count: int) -> None:
        """So many were just computed."""
        self._bar.update(count)

    def skip(self, count: int) -> None:
        """So many were computed by an earlier run."""
        self._bar.update(count)


def _model_folder(arguments: ModelArguments) -> ModelFolder:
    """The folder of the model that the arguments name, located and checked."""
    path_or_hub_id = arguments.pretrained
    if arguments.gguf_file is not None:
        path_or_hub_id = os.path.join(path_or_hub_id, arguments.gguf_file)
    revision = None if os.path.exists(path_or_hub_id) and arguments.revision == "main" else arguments.revision
    folder = locate_model(path_or_hub_id, revision, revision_option="--model_args revision")
    folder.check_model()
    return folder


def _load_tokenizer(folder: ModelFolder, arguments: ModelArguments) -> PreTrainedTokenizerBase:
    """transformers' own tokenizer of the folder, or the one that the arguments name; raises UserError where there is none."""
    source = folder.path if arguments.tokenizer is None else arguments.tokenizer
    options = {} if arguments.add_bos_token is None else {"add_bos_token": arguments.add_bos_token}
    try:
        return AutoTokenizer.from_pretrained(source, use_fast=True, **options)
    except Exception as error:  # transformers raises whatever its files make it raise
        reason = one_line(error, 200) or type(error).__name__
        raise UserError(f"transformers cannot load a tokenizer here ({reason})", where=source) from None


def _check_device(device: str | None) -> None:
    """Raise UserError where the model would be computed on another device than the one that the user named."""
    # lm_eval 0.4.13 says cuda:0 where the user says nothing, and its `hf` takes the CPU where there is none.
    if device in (None, "auto", "cuda", "cuda:0") or (device == "cpu" and not torch.cuda.is_available()):
        return
    raise UserError(
        f"device {device} is not served", where="--device", hint="CUDA_VISIBLE_DEVICES says which GPU is used, or none"
    )


def _default_token_choice(generation_config: GenerationConfig | None, seed: int) -> TokenChoice:
    """What counts of sampling where a task says nothing: the folder's generation_config.json, else transformers' defaults."""
    defaults = TokenChoice()

    def setting(name: str) -> Any:
        value = getattr(generation_config, name, None)
        return getattr(defaults, name) if value is None else value

    return TokenChoice(
        0.0, setting("top_k"), setting("top_p"), setting("min_p"), setting("repetition_penalty"), seed % 2**63
    )


def _ids_of(value: int | list[int] | None) -> list[int]:
    return [] if value is None else [value] if isinstance(value, int) else list(value)
