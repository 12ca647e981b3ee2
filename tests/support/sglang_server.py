"""A real server over HTTP that speaks SGLang's own API, for tests: `/generate` with ids, scores from any place on, a radix cache.

A prompt's cached prefix is read up to `logprob_start_len`, token by token, and counted, as SGLang does with pages of one token.
Faults: `early` (log-probabilities stand a place too early), `late` (a place too late), `stale` (prefixes of other prompts are
taken from the cache), `cut` (only the last tokens of a prompt are read), `bos` (a token is put in front), `other ids` (other
ids are scored), `other words` (another tokenizer), `silent` (no word of log-probabilities), `abort` (texts are broken
off that may be long), `textless` (ids are not decoded), `null` (log-probabilities are NaN, which SGLang's JSON has as null).
"""

import json
from http.server import ThreadingHTTPServer

from completions_server import JsonHandler, QuietServer
from prefix_caching_model import PrefixCachingModel


def serve(folder: str, fault: str | None = None, window: int = 1024, capacity: int = 100_000) -> ThreadingHTTPServer:
    """A server that is ready to `serve_forever`; `requests` are what came in, `answers` is the model and counts tokens."""
    model = PrefixCachingModel(folder, 1, capacity, stale=fault == "stale")

    def generate(request: dict) -> dict:
        sampling = request["sampling_params"]
        ids = request.get("input_ids")
        if ids is None:
            text = request["text"]
            ids = [model.tokenizer.bos_id, *model.tokenizer.encode(text.swapcase() if fault == "other words" else text)]
        if fault == "cut":
            ids = ids[-8:]
        if fault == "bos":
            ids = [model.tokenizer.bos_id, *ids]
        start = request.get("logprob_start_len", -1) if request.get("return_logprob") else -1
        start = len(ids) - 1 if start < 0 else start
        stops, stop_ids = sampling.get("stop") or [], tuple(sampling.get("stop_token_ids") or ())
        new, reason, table, reused = model.complete(ids, sampling["max_new_tokens"], stops, start, stop_ids)
        text, pieces = model.texts(ids, new, stops)
        meta = {
            "finish_reason": {"type": reason},
            "prompt_tokens": len(ids),
            "completion_tokens": len(new),
            "cached_tokens": reused,
        }
        if request.get("return_logprob") and fault != "silent":
            rows = [table[n - reused] for n in range(start, len(ids) - 1)]
            scored = ids[start + 1 :]
            values = [float(row[i]) for row, i in zip(rows, scored, strict=True)]
            tops = [[[float(row.max()), int(row.argmax()), None]] for row in rows]
            if fault == "early":
                values, tops = [*values[1:], *values[-1:]], [*tops[1:], *tops[-1:]]
            if fault == "late":
                values, tops = [*values[:1], *values[:-1]], [*tops[:1], *tops[:-1]]
            # As SGLang does, for ids of images: the last id of a text's vocabulary is one of them.
            echoed_ids = [i if i < model.model.config.vocab_size - 1 else 0 for i in scored]
            echoed_ids = scored[::-1] if fault == "other ids" else echoed_ids
            meta["input_token_logprobs"] = [
                [None, ids[start], None],
                *([v, i, None] for v, i in zip(values, echoed_ids, strict=True)),
            ]
            meta["input_top_logprobs"] = [None, *tops]
            after = [table[len(ids) - 1 - reused + n] for n in range(len(new))]
            pieces += [""] * (len(new) - len(pieces))
            meta["output_token_logprobs"] = [
                [float(row[i]), i, piece if request.get("return_text_in_logprobs") else None]
                for row, i, piece in zip(after, new, pieces, strict=True)
            ]
            meta["output_top_logprobs"] = [[[float(row.max()), int(row.argmax()), None]] for row in after]
            if fault == "null":
                for entry in meta["input_token_logprobs"] + meta["output_token_logprobs"]:
                    entry[0] = None
        return {"text": text, "output_ids": new, "meta_info": meta}

    class Handler(JsonHandler):
        def do_GET(self):
            if self.path == "/v1/models":
                card = {"id": "tiny", "object": "model", "created": 0, "owned_by": "sglang", "max_model_len": window}
                return self._send_json(200, {"object": "list", "data": [card]})
            if self.path == "/server_info":
                return self._send_json(200, {"version": "0.5.9", "model_path": folder})
            return self._send_json(404, {"detail": "Not Found"})

        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.requests.append(request)
            if self.path != "/generate":
                return self._send_json(404, {"detail": "Not Found"})
            ids = request.get("input_ids") or []
            token_count = len(ids) + request["sampling_params"]["max_new_tokens"]
            if token_count >= window or len(ids) >= window - 6:
                error = f"The input ({token_count} tokens) is longer than the model's context length ({window} tokens)."
                return self._send_json(400, {"error": {"message": error}})
            answer = generate(request)
            if fault == "abort" and request["sampling_params"]["max_new_tokens"] > 16:
                answer["text"] = answer["text"][:2]
                answer["meta_info"]["finish_reason"] = {"type": "abort", "message": "out of\nmemory"}
            if fault == "textless":
                del answer["text"]
            return self._send_json(200, answer)

    server = QuietServer(("127.0.0.1", 0), Handler)
    server.requests, server.answers = [], model
    return server
