"""`data build` in a folder whose records somebody has changed: they are not replaced, and a builder's own are."""

import contextlib
import json
import sqlite3

from data_recipes import DOLLY_ROWS, manifest_of, records_of, write_build_inputs
from teacher_server import running_teacher_server


def test_records_that_somebody_has_changed_are_not_replaced(build, command):
    records = command.folder / "out" / "records.jsonl"
    with running_teacher_server() as server:
        build(server, "-o", "sources.dolly.sample=4")
        own = records.read_bytes()
        records.write_bytes(own.replace(b"alpaca-1", b"alpaca-one", 1))
        mine, received = records.read_bytes(), len(server.received)
        process = build(server)
        assert process.returncode == 2 and "error: out/records.jsonl: changed since a build wrote it" in process.stderr
        assert records.read_bytes() == mine and len(server.received) == received
        records.rename(command.folder / "mine.jsonl")
        assert build(server).returncode == 0 and server.billed.total() == 20 == len(records_of(command.folder))


def test_records_that_are_changed_while_the_teacher_is_asked_are_not_replaced(build, command):
    records = command.folder / "out" / "records.jsonl"
    with running_teacher_server() as server:
        build(server, "-o", "sources.dolly.sample=4")

        def change_records(number, text):
            records.write_text("mine", encoding="utf-8")

        server.fault_of = change_records
        process = build(server)
        assert process.returncode == 2 and "error: out/records.jsonl: changed since a build wrote it" in process.stderr
        assert records.read_text(encoding="utf-8") == "mine"
        records.unlink()
        server.fault_of = lambda number, text: None
        assert build(server).returncode == 0 and server.billed.total() == 20


def test_records_of_a_build_that_was_killed_before_its_manifest_are_its_own(build, command):
    manifest = command.folder / "out" / "manifest.yaml"
    with running_teacher_server() as server:
        build(server, "-o", "sources.dolly.sample=4")
        earlier_manifest = manifest.read_bytes()
        build(server)
        manifest.write_bytes(earlier_manifest)
        assert build(server).returncode == 0
    assert manifest_of(command.folder)["records"] == 20


def test_records_of_a_ledger_without_their_hash_are_known_by_the_manifest(build, command):
    with running_teacher_server() as server:
        build(server, "-o", "sources.dolly.sample=4")
        with contextlib.closing(sqlite3.connect(command.folder / "out" / "ledger.sqlite")) as database:
            database.execute("DROP TABLE records_files")
            database.execute("PRAGMA user_version = 2")
        recipe = write_build_inputs(command.folder, base_url=server.base_url)
        with (command.folder / "dolly.jsonl").open("a", encoding="utf-8") as source_file:
            source_file.write(json.dumps({**DOLLY_ROWS[0], "instruction": "Why is 9 odd?"}) + "\n")
        process = command("data", "build", recipe, "-o", "output=out")
        assert process.returncode == 0, process.stderr
    assert "dolly: another source than that of the last build here" in process.stderr
    assert len(records_of(command.folder)) == 21
