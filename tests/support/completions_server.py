"""A real OpenAI-compatible completions server over HTTP, for tests: plain transformers in Python's own HTTP server.

    python tests/support/completions_server.py serve MODEL --port P --served-model-name NAME [--fault FAULT]

Takes token ids and texts, echoes prompts and ids, gives log-probabilities, decodes after the prompt and counts what it had in
its prefix cache, as vLLM's server does. It starts as `vllm serve` does, so that a test can put it in vLLM's place. With a window
it refuses a prompt that does not fit with all that may be generated, as vLLM does, and tells its window as vLLM or, with the
fault `props`, as llama.cpp. Faults:
`busy` (every third request is turned away with 429), `strings` (no log-probabilities of the prompt), `small` (400 for long
prompts), `nan`, `html` (not JSON), `dead` (ends at once), `slow` (the first answer takes `first_s` seconds), `bos` (a token
is put in front), `counted` (the same, and the prompt's tokens are counted), `strict` (400 for options that OpenAI does not
have), `hangs` (never answers, once `quick` requests were), `stubborn` (hangs, and ignores SIGTERM), `mute` (no tokens of a
text), `polite` (the token that ends a text is not echoed), `short` (nor is any other), `early`, `late`, `first` (log-
probabilities stand a place too early or too late, or at the first token too), `rounded` (they are float16), `logits` (they
are not normalised), `cut` (only the last tokens of a prompt are read), `other ids` (others are echoed), `old` (none are),
`wordless` (400 for texts), `locked` (401), `topless` (no likeliest tokens), `listed` (they
are a list and no object), `two bos` (in front of texts), `other words`
(another tokenizer), `special` (special tokens are read out of texts), `detail` (422 for echoed prompts, as FastAPI words it),
`dies` (closes connections, once `quick` requests were answered), `details` (cached tokens with each answer). A server that
hangs creates the file that the environment names in HANGING.
"""

import argparse
import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch
from prefix_caching_model import PrefixCachingModel


class Model(PrefixCachingModel):
    """A model folder that answers as vLLM does: blocks of 16 tokens are cached, and an echoed prompt reads none of them."""

    def answer(self, ids: list[int], room: int, stops: list[str], echo: bool, stop_ids: tuple[int, ...]) -> dict:
        new, reason, table, reused = self.complete(ids, room, stops, 0 if echo else len(ids) - 1, stop_ids)
        text, pieces = self.texts(ids, new, stops)
        whole = ids + new if echo else new
        first = 0 if echo else len(ids)
        rows = [None if first + n == 0 else table[first + n - 1 - reused] for n in range(len(whole))]
        values = [None if row is None else float(row[i]) for row, i in zip(rows, whole, strict=True)]
        tops = [
            None if row is None else {f"#{int(row.argmax())}": float(row.max()), f"#{i}": float(row[i])}
            for row, i in zip(rows, whole, strict=True)
        ]
        logprobs = {"token_logprobs": values, "top_logprobs": tops, "tokens": pieces if not echo else [""] * len(whole)}
        return {"index": 0, "text": text, "finish_reason": reason, "logprobs": logprobs, "new": new, "cached": reused}


_STANDARD = {"model", "prompt", "max_tokens", "temperature", "top_p", "presence_penalty", "frequency_penalty"}
_STANDARD |= {"stop", "echo", "logprobs"}


def _plant_fault(fault: str | None, choice: dict) -> None:
    """Plant a fault in a choice whose prompt was echoed."""
    logprobs = choice["logprobs"]
    for key in ("token_logprobs", "top_logprobs"):
        values = logprobs[key]
        if fault == "early":
            logprobs[key] = [None, *values[2:], values[-1]]
        elif fault == "late":
            logprobs[key] = [None, *values[1:2], *values[1:-1]]
        elif fault == "first":
            logprobs[key] = [*values[1:], values[-1]]
    if fault == "logits":
        logprobs["token_logprobs"] = [v and v + 20 for v in logprobs["token_logprobs"]]
    if fault == "rounded":
        logprobs["token_logprobs"] = [v and float(torch.tensor(v).half()) for v in logprobs["token_logprobs"]]


class QuietServer(ThreadingHTTPServer):
    """A server that says nothing of a client that goes away: its threads share the standard error of the test.

    An answer may wait for `hung`.
    """

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.hung = threading.Event()

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class JsonHandler(BaseHTTPRequestHandler):
    """Answers requests with JSON, and logs nothing."""

    def log_message(self, *_):
        pass

    def _send_json(self, code: int, body: object):
        self._send_data(code, json.dumps(body).encode(), "application/json")

    def _send_data(self, code: int, data: bytes, content_type: str):
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        if code == 429:
            self.send_header("Retry-After", "0.05")
        self.end_headers()
        self.wfile.write(data)


def serve(
    folder: str, host: str, port: int, name: str, fault: str | None, window: int | None = None
) -> ThreadingHTTPServer:
    """A server that is ready to `serve_forever`; `requests` are what came in, `model` is what answers them."""
    model = Model(folder, 16)

    class Handler(JsonHandler):
        def _send_json(self, code: int, body: object):
            if fault == "html":
                return self._send_data(code, b"<html>hello", "application/json")
            return super()._send_json(code, body)

        def do_GET(self):
            self.path = self.path.split("?")[0]
            if self.path == "/v1/models":
                card = {"id": name, "object": "model", "created": 0, "owned_by": "vllm"}
                card |= {"max_model_len": window} if window and fault != "props" else {}
                self._send_json(200, {"object": "list", "data": [card]})
            elif self.path == "/version" and fault != "props":
                self._send_json(200, {"version": "0.33.0"})
            elif self.path == "/metrics" and fault != "props":
                counts = {"queries": model.queried, "hits": model.cached}
                lines = [f'vllm:prefix_cache_{n}_total{{engine="0"}} {float(c)}' for n, c in counts.items()]
                text = "\n".join(["# HELP vllm:prefix_cache_hits", *lines, ""])
                self._send_data(200, text.encode(), "text/plain; version=0.0.4; charset=utf-8")
            elif self.path == "/props" and fault == "props":
                self._send_json(200, {"default_generation_settings": {"n_ctx": window}})
            else:
                self._send_json(200 if self.path == "/health" else 404, {})

        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.requests.append(request)
            server.headers.append({name.lower(): value for name, value in self.headers.items()})
            server.paths.append(self.path)
            self.path = self.path.split("?")[0]
            if fault in ("hangs", "stubborn") and len(server.requests) > server.quick:
                if mark := os.environ.get("HANGING"):
                    Path(mark).touch()
                return server.hung.wait()
            if fault == "dies" and len(server.requests) > server.quick:
                return self.connection.close()
            if fault == "slow" and len(server.requests) == 1:
                server.hung.wait(server.first_s)
            if fault == "strict" and set(request) - _STANDARD:
                return self._send_json(400, {"error": {"message": f"unknown options: {set(request) - _STANDARD}"}})
            if window and len(request["prompt"]) + request["max_tokens"] > window:
                return self._send_json(400, {"error": {"message": f"maximum context length is {window} tokens"}})
            if self.path != "/v1/completions" or request["model"] != name:
                return self._send_json(404, {"error": {"message": "no such path or model"}})
            if fault == "detail" and request.get("echo"):
                return self._send_json(
                    422, {"detail": [{"loc": ["body", "echo"], "msg": "extra fields\n not permitted"}]}
                )
            if fault == "busy" and len(server.requests) % 3 == 0:
                return self._send_json(429, {"error": {"message": "busy"}})
            if fault == "small" and len(request["prompt"]) > 20:
                return self._send_json(400, {"error": {"message": "the context window is 20 tokens"}})
            echo, wanted = request.get("echo", False), request.get("logprobs")
            added = [2] if fault in ("bos", "counted") else []
            prompt = request["prompt"]
            if isinstance(prompt, str):
                if fault == "locked":
                    return self._send_json(401, {"error": {"message": "texts need another key"}})
                if fault == "wordless":
                    return self._send_json(400, {"error": {"message": "prompt must be token ids"}})
                bos = [model.tokenizer.bos_id] * (
                    2 if fault == "two bos" else int(request.get("add_special_tokens", True))
                )
                parts = prompt.split("</s>") if fault == "special" else [prompt]
                parts = [model.tokenizer.encode(p.swapcase() if fault == "other words" else p) for p in parts]
                prompt = bos + parts[0] + [i for part in parts[1:] for i in (model.tokenizer.eos_id, *part)]
            prompt = added + prompt
            if fault == "cut":
                prompt = prompt[-8:]
            choice = model.answer(
                prompt,
                request["max_tokens"],
                request.get("stop") or [],
                echo,
                tuple(request.get("stop_token_ids") or ()),
            )
            new, cached = choice.pop("new"), choice.pop("cached")
            if request.get("return_token_ids") and fault != "old":
                echoed = [prompt[0], *reversed(prompt[1:])] if fault == "other ids" else prompt
                choice |= {"token_ids": new, "prompt_token_ids": echoed}
            if echo:
                _plant_fault(fault, choice)
            if fault in ("polite", "short") and echo:
                choice["logprobs"] = {key: values[: len(prompt)] for key, values in choice["logprobs"].items()}
                choice["finish_reason"] = "stop" if fault == "polite" else "length"
            if fault == "topless":
                choice["logprobs"]["top_logprobs"] = None
            if fault == "listed":
                choice["logprobs"]["top_logprobs"] = [
                    list((top or {}).items()) for top in choice["logprobs"]["top_logprobs"]
                ]
            if fault == "mute":
                choice["logprobs"]["tokens"] = None
            if wanted is None:
                choice["logprobs"] = None
            elif fault == "strings":
                choice["logprobs"]["token_logprobs"] = choice["logprobs"]["token_logprobs"][:1]
            elif fault == "nan" and len(request["prompt"]) > 20:
                choice["logprobs"]["token_logprobs"][-2] = float("nan")
            body = {"id": "1", "object": "text_completion", "created": 0, "model": name, "choices": [choice]}
            if fault in ("counted", "details"):
                body["usage"] = {"prompt_tokens": len(prompt), "completion_tokens": 1, "total_tokens": len(prompt) + 1}
                body["usage"]["prompt_tokens_details"] = (
                    {"cached_tokens": cached} if fault == "details" and cached else None
                )
            self._send_json(200, body)

    server = QuietServer((host, port), Handler)
    server.requests, server.headers, server.paths, server.model, server.answers = [], [], [], model.model, model
    server.quick, server.first_s = 13, 0.0
    return server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("serve")
    parser.add_argument("model")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--served-model-name", default="model")
    parser.add_argument("--fault")
    parser.add_argument("--max-model-len", type=int)
    options, _ = parser.parse_known_args()
    if options.fault == "dead":
        sys.exit("ValueError: no GPU here")
    if options.fault == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    name, window = options.served_model_name, options.max_model_len
    server = serve(options.model, options.host, options.port, name, options.fault, window)
    server.quick = int(os.environ.get("QUICK", server.quick))
    server.serve_forever()


if __name__ == "__main__":
    main()
