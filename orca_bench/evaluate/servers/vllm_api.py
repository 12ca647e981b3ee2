"""vLLM's completions API: the standard one, with the ids of prompt and text echoed, and texts that get no BOS where asked.

After vLLM's `CompletionRequest` (entrypoints/openai/completion/protocol.py): `return_token_ids` (0.10.2 on) gives `token_ids` and
`prompt_token_ids` with each choice; an older vLLM ignores it, and then nothing is compared with them. A request for a prompt's
log-probabilities reads no prefix cache (`SamplingParams.skip_reading_prefix_cache`), texts do. `orca-bench serve` has the
same parameters. Its own module because no other server has them.
"""

from __future__ import annotations

from typing import Any

from orca_bench.evaluate.servers.completions_api import CompletionsApi
from orca_bench.evaluate.servers.server_api import Prompt, ids_or_none


class VllmApi(CompletionsApi):
    """A server by vLLM's completions API, which computes the whole prompt again where its log-probabilities are requested."""

    def _id_options(self, prompt: Prompt) -> dict[str, Any]:
        text_options = {"add_special_tokens": False} if isinstance(prompt, str) else {}
        if "extra_body" not in self.sampling_options:
            return {}  # what stands before the server takes no parameters but OpenAI's
        return {"extra_body": {"return_token_ids": True} | text_options}

    def _scoring_options(self, prompt: Prompt) -> dict[str, Any]:
        options = self._id_options(prompt)
        # Else the likeliest tokens go by their texts, and two of one text are one.
        return {"extra_body": {"return_tokens_as_token_ids": True} | options["extra_body"]} if options else {}

    def _echoed_ids(self, choice: Any) -> list[int] | None:
        return ids_or_none(getattr(choice, "prompt_token_ids", None))

    def _generated_ids(self, choice: Any) -> list[int] | None:
        return ids_or_none(getattr(choice, "token_ids", None))


class OrcaBenchApi(VllmApi):
    """`orca-bench serve`, which has these parameters of vLLM's, and the scores of a cached prefix with its keys and values."""

    caches_scored_prompts = True
