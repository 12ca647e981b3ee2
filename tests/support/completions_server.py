"""A real OpenAI-compatible completions server over HTTP, for tests: plain transformers in Python's own HTTP server.

    python tests/support/completions_server.py serve MODEL --port P --served-model-name NAME [--fault FAULT]

Takes token ids, echoes prompts, gives log-probabilities and decodes after the prompt, as vLLM's server does. It starts as
`vllm serve` does, so that a test can put it in vLLM's place. With a window it refuses a prompt that does not fit with all that
may be generated, as vLLM does, and tells its window as vLLM or, with the fault `props`, as llama.cpp. Faults:
`busy` (every third request is turned away with 429), `strings` (no log-probabilities of the prompt), `small` (400 for long
prompts), `nan`, `html` (not JSON), `dead` (ends at once), `slow` (the first answer takes `first_s` seconds), `bos` (a token is
put in front), `counted` (the same, and the prompt's tokens are counted), `strict` (400 for options that OpenAI does not have),
`hangs` (never answers, once `quick` requests were), `stubborn` (hangs, and ignores SIGTERM), `mute` (no tokens of a text),
`polite` (the token that ends a text is not echoed), `short` (nor is any other). A server that hangs creates the file that the
environment names in HANGING.
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
from transformers import AutoModelForCausalLM

from orca_bench import tokenizers


class Model:
    """A model folder that answers one request at a time."""

    def __init__(self, folder: str):
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = tokenizers.load_tokenizer(folder)
        self.lock = threading.Lock()

    @torch.inference_mode()
    def complete(self, ids: list[int], room: int, stops: list[str], echo: bool) -> dict:
        with self.lock:
            new, before, fed, cache, reason = [], self.tokenizer.decode(ids), ids, None, "length"
            for _ in range(room):
                out = self.model(torch.tensor([fed]), past_key_values=cache, use_cache=True)
                new.append(int(out.logits[0, -1].argmax()))
                fed, cache = new[-1:], out.past_key_values
                text = self.tokenizer.decode(ids + new)[len(before) :]
                if new[-1] == self.tokenizer.eos_id or any(stop in text for stop in stops):
                    reason = "stop"
                    break
            spoken = [i for i in new if i != self.tokenizer.eos_id]
            grown = [self.tokenizer.decode(ids + spoken[:n])[len(before) :] for n in range(len(spoken) + 1)]
            text = grown[-1]
            for stop in stops:
                text = text.split(stop)[0]
            table = self.model(torch.tensor([ids + new])).logits[0].log_softmax(-1)
        whole = ids + new if echo else new
        first = 0 if echo else len(ids)
        values = [None if first + n == 0 else float(table[first + n - 1, i]) for n, i in enumerate(whole)]
        tops = [
            None
            if first + n == 0
            else {f"#{int(table[first + n - 1].argmax())}": float(table[first + n - 1].max()), f"#{i}": values[n]}
            for n, i in enumerate(whole)
        ]
        pieces = [b[len(a) :] for a, b in zip(grown, grown[1:], strict=False)]
        logprobs = {"token_logprobs": values, "top_logprobs": tops, "tokens": pieces if not echo else [""] * len(whole)}
        return {"index": 0, "text": text, "finish_reason": reason, "logprobs": logprobs}


_STANDARD = {"model", "prompt", "max_tokens", "temperature", "top_p", "presence_penalty", "frequency_penalty"}
_STANDARD |= {"stop", "echo", "logprobs"}


class _QuietServer(ThreadingHTTPServer):
    """A server that says nothing of a client that goes away: its threads share the standard error of the test."""

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def serve(
    folder: str, host: str, port: int, name: str, fault: str | None, window: int | None = None
) -> ThreadingHTTPServer:
    """A server that is ready to `serve_forever`; `requests` are what came in, `model` is what answers them."""
    model = Model(folder)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def _send_json(self, code: int, body: object):
            data = b"<html>hello" if fault == "html" else json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            if code == 429:
                self.send_header("Retry-After", "0.05")
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self):
            self.path = self.path.split("?")[0]
            if self.path == "/v1/models":
                card = {"id": name, "object": "model", "created": 0, "owned_by": "vllm"}
                card |= {"max_model_len": window} if window and fault != "props" else {}
                self._send_json(200, {"object": "list", "data": [card]})
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
            if fault == "slow" and len(server.requests) == 1:
                server.hung.wait(server.first_s)
            if fault == "strict" and set(request) - _STANDARD:
                return self._send_json(400, {"error": {"message": f"unknown options: {set(request) - _STANDARD}"}})
            if window and len(request["prompt"]) + request["max_tokens"] > window:
                return self._send_json(400, {"error": {"message": f"maximum context length is {window} tokens"}})
            if self.path != "/v1/completions" or request["model"] != name:
                return self._send_json(404, {"error": {"message": "no such path or model"}})
            if fault == "busy" and len(server.requests) % 3 == 0:
                return self._send_json(429, {"error": {"message": "busy"}})
            if fault == "small" and len(request["prompt"]) > 20:
                return self._send_json(400, {"error": {"message": "the context window is 20 tokens"}})
            echo, wanted = request.get("echo", False), request.get("logprobs")
            added = [2] if fault in ("bos", "counted") else []
            prompt = added + request["prompt"]
            choice = model.complete(prompt, request["max_tokens"], request.get("stop") or [], echo)
            if fault in ("polite", "short") and echo:
                choice["logprobs"] = {key: values[: len(prompt)] for key, values in choice["logprobs"].items()}
                choice["finish_reason"] = "stop" if fault == "polite" else "length"
            if fault == "mute":
                choice["logprobs"]["tokens"] = None
            if wanted is None:
                choice["logprobs"] = None
            elif fault == "strings":
                choice["logprobs"]["token_logprobs"] = choice["logprobs"]["token_logprobs"][:1]
            elif fault == "nan" and len(request["prompt"]) > 20:
                choice["logprobs"]["token_logprobs"][-2] = float("nan")
            body = {"id": "1", "object": "text_completion", "created": 0, "model": name, "choices": [choice]}
            if fault == "counted":
                body["usage"] = {"prompt_tokens": len(prompt), "completion_tokens": 1, "total_tokens": len(prompt) + 1}
            self._send_json(200, body)

    server = _QuietServer((host, port), Handler)
    server.requests, server.headers, server.paths, server.model = [], [], [], model.model
    server.quick, server.hung, server.first_s = 5, threading.Event(), 0.0
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
