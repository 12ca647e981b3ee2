"""What the page asks beside OpenAI's API: itself, its settings, the exact prompt of a chat, and a turn kept as a record.

Its own module because no other client needs these routes.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib.resources import files
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from orca_bench.errors import UserError
from orca_bench.prompt import Turn
from orca_bench.serve.http.answer_memory import AnswerMemory
from orca_bench.serve.http.api_error import ApiError
from orca_bench.serve.http.endpoint import Answer, JsonEndpoint
from orca_bench.serve.http.requests import PromptBody, RecordBody, parse_body
from orca_bench.serve.http.served_model import ServedModel
from orca_bench.serve.record_file import RecordFile, turn_record
from orca_bench.system_messages import SYSTEM_MESSAGES, system_id_of

#: The file of records in the folder of --records.
RECORDS_FILE_NAME = "records.jsonl"
#: So many tokens of a prompt get their texts: the page displays no more of them.
_MAX_TOKEN_TEXTS = 5000


class PageRoutes:
    """The routes of the page for some models. `find_model` gives that of a name; without `records_folder` nothing is kept."""

    def __init__(
        self,
        models: Sequence[ServedModel],
        find_model: Callable[[str], ServedModel],
        records_folder: Path | None,
        answer_memory: AnswerMemory,
    ):
        self._models, self._find_model, self._answer_memory = models, find_model, answer_memory
        self._record_file = None if records_folder is None else RecordFile(records_folder / RECORDS_FILE_NAME)

    def routes(self) -> list[Route]:
        """The routes of the page."""
        return [
            Route("/", self._show_page, methods=["GET"]),
            Route("/page/settings", self._show_settings, methods=["GET"]),
            Route("/page/prompt", JsonEndpoint(self._show_prompt, self._answer_memory), methods=["POST"]),
            Route("/page/records", JsonEndpoint(self._keep_record, self._answer_memory), methods=["POST"]),
        ]

    @cached_property
    def _page(self) -> tuple[str, str]:
        """The page and its content security policy: its own script, no other, and no request but to this server."""
        text = files("orca_bench.serve").joinpath("page.html").read_text(encoding="utf-8")
        scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
        hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
        script_sources = " ".join(f"'sha256-{script_hash}'" for script_hash in hashes) or "'none'"
        policy = (
            f"default-src 'none'; script-src {script_sources}; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        return text, policy

    async def _show_page(self, request: Request) -> Response:
        text, policy = self._page
        return HTMLResponse(text, headers={"Content-Security-Policy": policy, "Cache-Control": "no-cache"})

    async def _show_settings(self, request: Request) -> Response:
        first_model = self._models[0]
        sampling, system = first_model.chat_sampling, first_model.default_system
        models = [{"id": model.name, "window": model.window, "dtype": model.scheduler.dtype} for model in self._models]
        system_id = system_id_of(system)
        return JSONResponse(
            {
                "models": models,
                "system_messages": [{"id": number, "text": text} for number, text in SYSTEM_MESSAGES.items()],
                "default_system_message": system if system_id is None else system_id,
                "keeps_records": self._record_file is not None,
                "defaults": {
                    "temperature": 0 if sampling.greedy else sampling.temperature,
                    "top_p": sampling.top_p,
                    "top_k": sampling.top_k,
                    "max_tokens": sampling.max_new_tokens,
                },
            }
        )

    async def _show_prompt(self, body: bytes) -> Answer:
        request = await parse_body(PromptBody, body)
        model = self._find_model(request.model)
        text = model.prompt_text(request.messages)
        token_ids = await model.encode(text)
        # BOS and other special tokens have no text: they are shown as the tokenizer's file spells them.
        tokenizer = model.tokenizer
        first_ids = token_ids[:_MAX_TOKEN_TEXTS]
        texts = [
            tokenizer.spelling(token_id) or "" if token_id in tokenizer.special_ids else token_text
            for token_id, token_text in zip(first_ids, await model.token_texts(first_ids), strict=True)
        ]
        return {
            "text": text,
            "token_ids": token_ids,
            "token_texts": texts,
            "token_count": len(token_ids),
            "window": model.window,
        }

    async def _keep_record(self, body: bytes) -> Answer:
        if self._record_file is None:
            raise ApiError(404, "this server keeps no records: --records DIR names a folder for them")
        request = await parse_body(RecordBody, body)
        turn = Turn(request.instruction, request.input, request.response)
        record = turn_record(request.system, turn, self._find_model(request.model).name, request.was_cut)
        try:
            count = await asyncio.to_thread(self._record_file.append, record)
        except UserError as error:  # the disk is full, or the file holds something else
            raise ApiError(507, f"the record was not stored: {error}") from error
        return JSONResponse({"file": RECORDS_FILE_NAME, "count": count}, 201)
