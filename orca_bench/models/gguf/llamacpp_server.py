"""A GGUF file in, llama.cpp running it out: a server on this machine that takes JSON and ends with the block that uses it.

llama.cpp is the package xllamacpp, an extra of orca-bench. It runs in a process of its own, so that a crash of it is an error
here and costs nothing that was computed. Its own module because the check of an import and the evaluation of a file both need
llama.cpp, its token ids and its probabilities of a next token.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import importlib.metadata
import json
import math
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from orca_bench.errors import UserError, one_line
from orca_bench.models.gguf import llamacpp_process
from orca_bench.tokenizers import Tokenizer

#: Nothing but the likeliest token: no sampler besides the temperature, no penalty (`repeat_penalty` 1 is llama.cpp's default).
GREEDY_OPTIONS: dict[str, Any] = {
    "temperature": 0,
    "samplers": ["temperature"],
    "repeat_penalty": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "dry_multiplier": 0,
    "mirostat": 0,
}
_LOGIT_BIAS = 1e9
_LOG_LINE_START = re.compile(r"[\d.]+ [A-Z] +")
_END_TIMEOUT_S = 10  # that the process may take to end before it is killed


class LlamaCppEnded(UserError):
    """llama.cpp's process ended while it was to answer."""


@dataclass(frozen=True)
class LlamaCppSettings:
    """How llama.cpp runs a file; the defaults are its own.

    `context_tokens` is what each of the `slot_count` requests at a time may have, prompt and text. `cache_type` is one of
    KV_CACHE_TYPES. `uses_flash_attention` is whether llama.cpp may use it, as it decides itself. `thread_count` 0 is the number
    of torch's threads: more than there are cores to run on take many times as long, for they wait for one another in a loop.
    """

    context_tokens: int
    slot_count: int = 1
    cache_type: str = "f16"
    uses_flash_attention: bool = True
    thread_count: int = 0

    @property
    def used_thread_count(self) -> int:
        """How many threads compute."""
        import torch

        return self.thread_count or torch.get_num_threads()


def check_installed(purpose: str) -> None:
    """Raise UserError, which names what needs it, where xllamacpp is not installed."""
    try:
        import xllamacpp  # noqa: F401
    except ImportError:
        raise UserError(
            f"{purpose} needs the package xllamacpp", hint="install it: pip install 'orca-bench[llamacpp]'"
        ) from None


def installed_version() -> str:
    """The version of xllamacpp, which is that of the llama.cpp in it."""
    return importlib.metadata.version("xllamacpp")


def device_name() -> str:
    """What llama.cpp computes on: `cpu`, or its name of the first GPU."""
    import xllamacpp

    kinds = xllamacpp.ggml_backend_dev_type
    gpu_kinds = (kinds.GGML_BACKEND_DEVICE_TYPE_GPU, kinds.GGML_BACKEND_DEVICE_TYPE_IGPU)
    return next((str(device["name"]) for device in xllamacpp.get_device_info() if device["type"] in gpu_kinds), "cpu")


class LlamaCppServer:
    """llama.cpp with a file, running; `start` makes one, and `end` ends it. Its methods may be called in several threads."""

    def __init__(self, gguf_path: Path, process: subprocess.Popen[bytes], log_path: Path, host_and_port: str):
        """For `start`."""
        self._gguf_path, self._process, self._log_path, self._host_and_port = (
            gguf_path,
            process,
            log_path,
            host_and_port,
        )

    @classmethod
    def start(cls, gguf_path: Path, settings: LlamaCppSettings) -> LlamaCppServer:
        """Load a file and wait until it answers. Raises UserError where llama.cpp is not installed or cannot load the file."""
        check_installed("running llama.cpp")
        settings_json = dataclasses.asdict(settings) | {
            "path": str(gguf_path),
            "thread_count": settings.used_thread_count,
        }
        # -P: the script's own folder, whose modules may have the names of others, is not searched for modules.
        command = [sys.executable, "-P", llamacpp_process.__file__, json.dumps(settings_json)]
        with tempfile.NamedTemporaryFile(prefix="orca-bench-llamacpp-", suffix=".log", delete=False) as log_file:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log_file,
                start_new_session=True,  # Ctrl-C is for the command alone, which ends it
            )
        server = cls(gguf_path, process, Path(log_file.name), "")
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            report = json.loads(line) if line else {}
            if "address" not in report:
                raise server._start_error(report, settings)
            server._host_and_port = urlsplit(report["address"]).netloc
        except BaseException:
            server.end()
            raise
        return server

    def post(self, path: str, content: dict[str, Any]) -> dict[str, Any]:
        """The JSON answer to JSON. Raises UserError where llama.cpp refuses, or has ended."""
        connection = http.client.HTTPConnection(self._host_and_port)  # not urllib, which heeds a proxy
        try:
            connection.request("POST", path, json.dumps(content), {"Content-Type": "application/json"})
            response = connection.getresponse()
            status, body = response.status, response.read()
            answer = json.loads(body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._broken_off_error(error) from None
        finally:
            connection.close()
        if status != http.client.OK or not isinstance(answer, dict):
            message = answer.get("error", answer) if isinstance(answer, dict) else answer
            message = message.get("message", message) if isinstance(message, dict) else message
            raise UserError(f"llama.cpp refused ({status}): {one_line(message, 300)}", where=self._gguf_path)
        return answer

    def has_same_ids(self, tokenizer: Tokenizer, text: str, with_bos: bool) -> bool:
        """Whether llama.cpp gives a text the tokenizer's ids; special tokens that stand in it are text to both.

        `with_bos`: with what either puts in front of a text of its own accord.
        """
        bos_ids = [tokenizer.bos_id] if with_bos and tokenizer.adds_bos else []
        request = {"content": text, "add_special": with_bos, "parse_special": False}
        try:
            token_ids = self.post("/tokenize", request)["tokens"]
        except KeyError:
            raise self._format_error("no token ids of a text") from None
        return bool(token_ids == [*bos_ids, *tokenizer.encode(text)])

    def next_token_log_probabilities(
        self, token_ids: Sequence[int], tokenizer: Tokenizer, listed_count: int, uses_cache: bool = True
    ) -> dict[int, float]:
        """The log-probabilities, nats, of the `listed_count` likeliest tokens after a prompt by their ids, the likeliest first.

        They are the model's own, over the whole vocabulary; NaN where llama.cpp has no number. `uses_cache`: what is in the
        cache of the prompt is not computed again.
        """
        request = GREEDY_OPTIONS | {
            "prompt": list(token_ids),
            "cache_prompt": uses_cache,
            "id_slot": 0,
            "n_predict": 1,
            "n_probs": listed_count,
            "post_sampling_probs": False,
            # A token with a text: none are listed where llama.cpp takes EOS or a part of a character. It changes what is taken,
            # not what is listed.
            "logit_bias": [[tokenizer.encode("a")[-1], _LOGIT_BIAS]],
        }
        try:
            entries = self.post("/completion", request)["completion_probabilities"][0]["top_logprobs"]
            return {entry["id"]: math.nan if entry["logprob"] is None else float(entry["logprob"]) for entry in entries}
        except (KeyError, IndexError, TypeError):
            raise self._format_error("no probabilities of the next token") from None

    def end(self) -> None:
        """End the process, and with it the requests that are under way; its log goes where there is nothing to read in it."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        if self._process.returncode == 0:
            self._log_path.unlink(missing_ok=True)

    def _start_error(self, report: dict[str, Any], settings: LlamaCppSettings) -> UserError:
        """Why there is no address: what llama.cpp says of the file, or how its process ended."""
        lines = self._log_lines()
        if "error" in report:
            # Its own error is the same for all reasons, and so are the lines after the first. `end` removes this log.
            reason = next(iter(lines), str(report["error"]))
            is_of_cache = re.search(r"\b[KV] cache\b", reason) is not None
            settings_text = f" with its keys and values in {settings.cache_type}" if is_of_cache else ""
            return UserError(
                f"llama.cpp cannot run the file{settings_text} ({reason})",
                where=self._gguf_path,
                hint="orca-bench import checks the file itself; a newer file needs a newer xllamacpp",
            )
        last_line = "".join(f": {line}" for line in lines[-1:])  # a traceback's says what it is
        return UserError(
            f"llama.cpp {self._ending_text()} before it could answer{last_line}",
            where=self._gguf_path,
            hint=f"its log: {self._log_path}",
        )

    def _format_error(self, missing_text: str) -> UserError:
        return UserError(
            f"llama.cpp tells {missing_text}", where=self._gguf_path, hint="another version of xllamacpp may"
        )

    def _broken_off_error(self, error: Exception) -> UserError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)  # its sockets close before it has ended
        if self._process.poll() is None:
            return UserError(
                f"llama.cpp gave no answer ({one_line(error, 200) or type(error).__name__})", where=self._gguf_path
            )
        last_line = "".join(f": {line}" for line in self._log_lines()[-1:])
        return LlamaCppEnded(
            f"llama.cpp {self._ending_text()}{last_line}", where=self._gguf_path, hint=f"its log: {self._log_path}"
        )

    def _ending_text(self) -> str:
        exit_code = self._process.wait()
        return f"was ended by signal {-exit_code}" if exit_code < 0 else f"ended with exit code {exit_code}"

    def _log_lines(self) -> list[str]:
        """What llama.cpp has logged, without times and levels."""
        lines = self._log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return [one_line(_LOG_LINE_START.sub("", line), 200) for line in lines]


@contextlib.contextmanager
def serve(gguf_path: Path, settings: LlamaCppSettings) -> Iterator[LlamaCppServer]:
    """llama.cpp with a file for a block; see `LlamaCppServer.start`."""
    server = LlamaCppServer.start(gguf_path, settings)
    try:
        yield server
    finally:
        server.end()
