"""A real OpenAI-compatible server with files and batches that misbehaves as it is told, for tests of `data build` in batches.

It answers the requests of a batch when the batch is created, and bills and counts them as `TeacherServer` does; the batch is
completed when `batch_delay_s` has passed. `call_fault_of` names what happens to a call: it gets the call's name (CALLS) and its
number, from 1; `newest_call` is the last one that began. `batch_fault_of` names what is wrong with the n-th batch, `fault_of`
what is wrong with a request.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from teacher_server import STATUS_FAULTS, TeacherServer, send

CALLS = ("upload", "list files", "create", "list batches", "retrieve", "download")
#: What may become of a call, besides the names in `STATUS_FAULTS`: its reply is lost, before or after it has done its work;
#: its reply has no id; its body is cut in half though its length is right.
CALL_FAULTS = ("reply lost", "not done", "no id", "half", "not found", "file not found")
#: What may be wrong with a batch.
BATCH_FAULTS = (
    *("expired", "cancelled", "failed", "unknown model", "no room", "vanished", "no lines", "null output"),
    *("repeated lines", "foreign lines", "no choices", "status 0", "never ends", "half and never ends"),
)


@dataclass
class BatchServer(TeacherServer):
    """A server of files and batches; `batch_billed` counts answers in batches by the user's message.

    `expired` and `cancelled` batches have answered every second request. A batch says that it ends in `expires_in_s` seconds,
    and has `open_status` until it ends. `half and never ends` shows a file with half of the answers meanwhile.
    """

    call_fault_of: Callable[[str, int], str | None] = lambda call, number: None
    batch_fault_of: Callable[[int], str | None] = lambda number: None
    batch_delay_s: float = 0.0
    call_delay_s: float = 0.0
    calls: Counter[str] = field(default_factory=Counter)
    newest_call: str = ""
    files: dict[str, dict] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, dict] = field(default_factory=dict)
    custom_ids: list[str] = field(default_factory=list)
    page_size: int = 2
    keeps_metadata: bool = True
    expires_in_s: float | None = 24 * 3600.0
    open_status: str = "in_progress"

    async def answer_other(
        self, method: str, path: str, headers: dict[str, str], content: bytes, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer a call for files or batches."""
        path, _, query = path.removeprefix("/v1").partition("?")
        call, run = self._call_of(method, path, query, headers, content)
        self.calls[call] += 1
        self.newest_call = call
        fault = self.call_fault_of(call, self.calls[call])
        if fault in STATUS_FAULTS:
            status, code, message, fault_headers = STATUS_FAULTS[fault]
            return await self._error(writer, status, code, message.format(key=""), fault_headers)
        if fault in ("not found", "file not found"):
            message = "No such File object: file-1" if fault == "file not found" else "File Not Found"
            return await self._error(writer, 404, None, message)
        if fault == "not done":
            return False
        await asyncio.sleep(self.call_delay_s / 2)
        reply = run()
        await asyncio.sleep(self.call_delay_s / 2)
        if reply is None:
            return await self._error(writer, 404, None, f"No object with the id in {path}")
        if fault == "reply lost":
            return False
        if fault == "no id":
            reply = {"object": "error"}
        data = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        return await send(writer, 200, data[: len(data) // 2] if fault == "half" else data, {})

    async def _error(self, writer, status: int, code: str | None, message: str, headers: dict | None = None) -> bool:
        error = {"message": message, "code": code, "type": "invalid_request_error"}
        return await send(writer, status, json.dumps({"error": error}).encode(), headers or {})

    def _call_of(self, method: str, path: str, query: str, headers: dict[str, str], content: bytes):
        if path == "/files" and method == "POST":
            return "upload", lambda: self._upload(headers["content-type"], content)
        if path == "/files":
            return "list files", lambda: self._page(list(self.files.values()), query)
        if path.endswith("/content"):
            return "download", lambda: self.contents.get(path.split("/")[2])
        if path == "/batches" and method == "POST":
            return "create", lambda: self._create(json.loads(content))
        if path == "/batches":
            return "list batches", lambda: self._page([self._batch_view(batch_id) for batch_id in self.batches], query)
        return "retrieve", lambda: self._batch_view(path.split("/")[2])

    def _upload(self, content_type: str, body: bytes) -> dict:
        boundary = re.search("boundary=(.*)", content_type)[1].encode()
        parts = body.split(b"--" + boundary)
        (part,) = (part for part in parts if b'name="file"' in part)
        head, _, content = part.partition(b"\r\n\r\n")
        name = re.search(rb'filename="([^"]*)"', head)[1].decode()
        return self._add_file(content.removesuffix(b"\r\n"), name, "batch")

    def _add_file(self, content: bytes, name: str, purpose: str) -> dict:
        file_id = f"file-{len(self.files) + 1}"
        self.contents[file_id] = content
        self.files[file_id] = {
            **{"id": file_id, "object": "file", "filename": name, "bytes": len(content), "purpose": purpose},
            **{"created_at": 0, "status": "processed"},
        }
        return self.files[file_id]

    def _page(self, items: list[dict], query: str) -> dict:
        after = re.search("after=([^&]*)", query)
        newest_first = [item for item in items if item is not None][::-1]
        if after:
            ids = [item["id"] for item in newest_first]
            newest_first = newest_first[ids.index(after[1]) + 1 :]
        page = newest_first[: self.page_size]
        return {"object": "list", "data": page, "has_more": len(newest_first) > len(page)}

    def _create(self, body: dict) -> dict | None:
        if body["input_file_id"] not in self.contents:
            return None
        number = len(self.batches) + 1
        fault = self.batch_fault_of(number)
        lines = [json.loads(line) for line in self.contents[body["input_file_id"]].splitlines()]
        metadata = body.get("metadata") if self.keeps_metadata else None
        batch = {
            **{"id": f"batch-{number}", "object": "batch", "endpoint": body["endpoint"], "errors": None},
            **{"input_file_id": body["input_file_id"], "completion_window": body["completion_window"]},
            **{
                "created_at": int(time.time()),
                "expires_at": None if self.expires_in_s is None else int(time.time() + self.expires_in_s),
                "metadata": metadata,
                "output_file_id": None,
                "error_file_id": None,
            },
            **{"status": "completed", "fault": fault, "ends_at": time.monotonic() + self.batch_delay_s},
        }
        self.batches[batch["id"]] = batch
        self.custom_ids += [line["custom_id"] for line in lines]
        refusal = {
            "failed": ("invalid_json_line", "This line is not parseable as valid JSON."),
            "unknown model": ("model_not_found", "The provided model 'teacher' is not supported by the Batch API."),
            "no room": ("token_limit_exceeded", "Enqueued token limit reached for teacher in organization org-1."),
        }.get(fault)
        if refusal:
            batch |= {"status": "failed", "request_counts": {"total": 0, "completed": 0, "failed": 0}}
            batch["errors"] = {"data": [{"code": refusal[0], "message": refusal[1], "line": 1, "param": None}]}
            return self._batch_view(batch["id"])
        if fault in ("expired", "cancelled"):
            batch["status"] = fault
        answered_lines = lines[::2] if fault in ("expired", "cancelled") else lines
        output = [self._output_line(line, number) for number, line in enumerate(answered_lines, 1)]
        output_lines, error_lines = self._plant_in_batch(fault, output, lines)
        counts = {"total": len(lines), "completed": len(output), "failed": len(lines) - len(output)}
        batch["request_counts"] = counts
        for key, file_lines in (("output_file_id", output_lines), ("error_file_id", error_lines)):
            if file_lines:
                content = "".join(json.dumps(line) + "\n" for line in file_lines).encode()
                batch[key] = self._add_file(content, f"{batch['id']}_{key}.jsonl", "batch_output")["id"]
        created = self._batch_view(batch["id"])
        batch["is_gone"] = fault == "vanished"
        return created

    def _output_line(self, line: dict, number: int) -> dict:
        """The line of one request's reply, with its fault."""
        text = line["body"]["messages"][-1]["content"]
        self.received.append(text)
        if self.keeps_bodies:
            self.bodies.append(line["body"])
        fault = self.fault_of(len(self.received), text)
        if fault in STATUS_FAULTS:
            status, code, message, _ = STATUS_FAULTS[fault]
            body = {"error": {"message": message.format(key=""), "code": code}}
        else:
            status, body = 200, self.complete(line["body"], fault)
        response = {"status_code": status, "request_id": f"req-{number}", "body": body}
        return {"id": f"line-{number}", "custom_id": line["custom_id"], "response": response, "error": None}

    def _plant_in_batch(self, fault: str | None, output: list[dict], lines: list[dict]) -> tuple[list, list]:
        """The lines of the output file and of the error file; lines come in another order than those of the input file."""
        output = output[::-1]
        errors = [line for line in output if line["response"]["status_code"] != 200]
        output = [line for line in output if line["response"]["status_code"] == 200]
        if fault in ("expired", "cancelled"):
            message = {"code": f"batch_{fault}", "message": f"This request could not be executed: {fault}."}
            errors += [{"custom_id": line["custom_id"], "response": None, "error": message} for line in lines[1::2]]
        elif fault in ("no lines", "half and never ends"):
            output = output[: len(output) // 2]
        elif fault == "null output":
            output = []
        elif fault == "repeated lines":
            output += [{**output[0], "response": output[1]["response"]}]
        elif fault == "foreign lines":
            output += [{**output[0], "custom_id": custom_id} for custom_id in ("request-1", "0" * 16 + "-1")]
        elif fault == "no choices":
            output = [{**line, "response": {"status_code": 200, "body": {"choices": []}}} for line in output]
        elif fault == "status 0":
            output = [{**line, "response": {"status_code": 0, "body": ""}} for line in output]
        return output, errors

    def _batch_view(self, batch_id: str) -> dict | None:
        """A batch as the server shows it now."""
        batch = self.batches.get(batch_id)
        if batch is None or batch.get("is_gone"):
            return None
        batch_view = {key: value for key, value in batch.items() if key not in ("fault", "ends_at", "is_gone")}
        if batch["fault"] == "half and never ends":
            batch_view["status"] = self.open_status
        elif time.monotonic() < batch["ends_at"] or batch["fault"] == "never ends":
            batch_view |= {"status": self.open_status, "output_file_id": None, "error_file_id": None, "errors": None}
        return batch_view
