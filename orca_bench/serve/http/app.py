"""Models in, the application out that answers for them over HTTP: OpenAI's API, what monitors ask, and the page's routes.

Its own module because it alone knows all routes; what they do stands in the modules beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from orca_bench.serve.http.answer_memory import MAX_ANSWER_BYTES, AnswerMemory
from orca_bench.serve.http.api_error import ApiError
from orca_bench.serve.http.chats import Chat
from orca_bench.serve.http.completions import Completion
from orca_bench.serve.http.endpoint import Answer, JsonEndpoint
from orca_bench.serve.http.guard import Guard
from orca_bench.serve.http.metrics import metrics_text
from orca_bench.serve.http.page_routes import PageRoutes
from orca_bench.serve.http.requests import ChatBody, CompletionBody, TokenizeBody, parse_body

if TYPE_CHECKING:
    from orca_bench.serve.http.served_model import ServedModel

#: Who owns the models, as `/v1/models` says; `evaluate/servers/server_kinds.py` knows the server by it.
OWNER = "orca-bench"


class ModelServer:
    """The application for some models, which are found by their names; the page's records go to `records_folder`, if anywhere.

    Answers that are not taken yet have `max_answer_bytes` of memory.
    """

    def __init__(
        self,
        models: Sequence[ServedModel],
        records_folder: Path | None = None,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ):
        self._models = {model.name: model for model in models}
        self._answer_memory = AnswerMemory(max_answer_bytes)
        self._page = PageRoutes(list(models), self._model, records_folder, self._answer_memory)

    def application(self, api_key: str | None = None, host_names: Sequence[str] = ()) -> Guard:
        """The application of ASGI, behind the checks of `Guard`."""
        routes = [
            Route("/v1/models", self._list_models, methods=["GET"]),
            Route("/v1/models/{name:path}", self._show_model, methods=["GET"]),
            Route("/health", self._health, methods=["GET"]),
            Route("/version", self._version, methods=["GET"]),
            Route("/metrics", self._metrics, methods=["GET"]),
            Route("/tokenize", JsonEndpoint(self._tokenize, self._answer_memory), methods=["POST"]),
            Route("/v1/completions", JsonEndpoint(self._complete, self._answer_memory), methods=["POST"]),
            Route("/v1/chat/completions", JsonEndpoint(self._chat, self._answer_memory), methods=["POST"]),
            *self._page.routes(),
        ]
        application = Starlette(routes=routes, exception_handlers={HTTPException: _http_error, ApiError: _refusal})
        return Guard(application, api_key, host_names)

    @property
    def is_computing(self) -> bool:
        """Whether any model has a request."""
        return any(model.is_computing for model in self._models.values())

    async def close(self) -> None:
        """End the models, with all requests that they still have."""
        for model in self._models.values():
            await model.close()

    def _model(self, name: str) -> ServedModel:
        """The model of a name; raises ApiError (404) where there is none."""
        if name not in self._models:
            message = f"no model {name[:100]!r} is served here; there is {', '.join(map(repr, self._models))}"
            raise ApiError(404, message, "model", "model_not_found")
        return self._models[name]

    async def _list_models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [_model_object(model) for model in self._models.values()]})

    async def _show_model(self, request: Request) -> Response:
        return JSONResponse(_model_object(self._model(request.path_params["name"])))

    async def _health(self, request: Request) -> Response:
        broken = [name for name, model in self._models.items() if not model.scheduler.is_working]
        if broken:
            message = f"{', '.join(broken)} can compute nothing more: start the server again"
            return JSONResponse(ApiError(503, message).to_json(), 503)
        return JSONResponse({"status": "ok"})

    async def _version(self, request: Request) -> Response:
        from orca_bench import __version__

        return JSONResponse({"version": __version__})

    async def _metrics(self, request: Request) -> Response:
        statistics_by_name = {name: model.scheduler.statistics() for name, model in self._models.items()}
        return PlainTextResponse(metrics_text(statistics_by_name), media_type="text/plain; version=0.0.4")

    async def _tokenize(self, body: bytes) -> Answer:
        request = await parse_body(TokenizeBody, body)
        model = self._model(next(iter(self._models)) if request.model is None else request.model)
        token_ids = await model.encode(request.prompt, request.add_special_tokens)
        return {"tokens": token_ids, "count": len(token_ids), "max_model_len": model.window}

    async def _complete(self, body: bytes) -> Answer:
        request = await parse_body(CompletionBody, body)
        return await Completion.prepare(request, self._model(request.model))

    async def _chat(self, body: bytes) -> Answer:
        request = await parse_body(ChatBody, body)
        return await Chat.prepare(request, self._model(request.model))


def _model_object(model: ServedModel) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": OWNER,
        "max_model_len": model.window,
        "dtype": model.scheduler.dtype,
    }


async def _http_error(request: Request, error: Exception) -> Response:
    """What starlette refuses: paths and methods that do not exist."""
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path[:100]}: {error.detail}"
    return JSONResponse(ApiError(error.status_code, message).to_json(), error.status_code, error.headers)


async def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.to_json(), error.status, error.headers)
