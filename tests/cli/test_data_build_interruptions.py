"""`data build` that is killed, interrupted or started twice, in processes of its own: what is kept, paid and written."""

import json
import os
import random
import re
import signal
import time

import pytest
from data_recipes import RECIPE, SilentBuildDisplay, manifest_of, write_build_inputs
from teacher_server import count_tokens, running_teacher_server
from waiting import PATIENCE_S, eventually

from orca_bench.data.build.building import estimate_bill
from orca_bench.data.build.data_recipe_file import read_data_recipe
from orca_bench.data.build.teacher_requests import RecipeRequests

KILL_COUNT = int(os.environ.get("ORCA_BENCH_KILLS", "20"))


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")


def start(command, server, *words):
    recipe = write_build_inputs(command.folder, many_rows(), server.base_url)
    return command.start("data", "build", recipe, "-o", "output=out", "-o", "teacher.most_in_flight=4", *words)


def many_rows():
    return RECIPE.replace("dolly.jsonl", "many.jsonl")


def write_many_rows(folder, count):
    rows = "".join(
        json.dumps({"instruction": f"Why {n}?", "context": "", "response": "x"}) + "\n" for n in range(count)
    )
    (folder / "many.jsonl").write_text(rows, encoding="utf-8")


def finish(command, server, *words):
    process = start(command, server, *words)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    return out


@pytest.fixture
def in_many_rows(command, monkeypatch):
    monkeypatch.chdir(command.folder)
    write_many_rows(command.folder, 100)
    return command


def undisturbed_bytes(command):
    with running_teacher_server() as server:
        finish(command, server)
    content = (command.folder / "out" / "records.jsonl").read_bytes()
    for file in (command.folder / "out").iterdir():
        file.unlink()
    return content


def check_kills(command, kill_count, pause_of):
    """Kill a build `kill_count` times, let it finish, and check what it wrote, asked and paid."""
    expected = undisturbed_bytes(command)
    with running_teacher_server(delay_s=0.05) as server:
        kills = 0
        while kills < kill_count:
            received = len(server.received)
            process = start(command, server)
            eventually(lambda: len(server.received) > received or process.poll() is not None)  # noqa: B023
            if process.poll() is not None:
                break  # everything was answered
            time.sleep(pause_of(kills))
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.communicate()
            kills += 1
        out = finish(command, server)
        assert (command.folder / "out" / "records.jsonl").read_bytes() == expected
        # An answer that was on disk is never asked again: beyond one each, at most those in flight at each kill.
        assert server.billed.total() - 112 <= 4 * kills
        manifest = manifest_of(command.folder)
        unknown = manifest["spending"]["unknown_attempts"]
        assert server.billed.total() - 112 <= unknown <= 4 * kills
        assert f"unknown, possibly paid: {unknown} attempt" in out or not unknown
        assert manifest["spending"]["completion_tokens"] <= server.completion_tokens
    return kills


def test_a_build_that_is_killed_goes_on_and_pays_nothing_twice_that_was_on_disk(in_many_rows):
    assert check_kills(in_many_rows, 2, lambda kill: 0.1) == 2


@pytest.mark.long
def test_a_build_that_is_killed_many_times_at_random(in_many_rows):
    generator = random.Random(0)
    write_many_rows(in_many_rows.folder, 100)
    assert check_kills(in_many_rows, KILL_COUNT, lambda kill: generator.uniform(0, 0.1)) > 3


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_build_in_one_line_and_the_same_command_continues(in_many_rows, signal_number):
    command = in_many_rows
    with running_teacher_server(delay_s=0.05) as server:
        process = start(command, server)
        eventually(lambda: server.billed.total() >= 8)
        process.send_signal(signal_number)
        _, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 130, err
        line = err.strip().splitlines()[-1]
        match = re.fullmatch(r"interrupted: (\d+) of 112 requests are answered .*; the same command continues", line)
        assert match and "Traceback" not in err, err
        answered = int(match[1])
        finish(command, server)
        assert server.billed.total() <= 112 + 4 and answered >= 4
    assert manifest_of(command.folder)["is_complete"]


def test_a_second_builder_of_the_same_folder_is_refused(in_many_rows):
    command = in_many_rows
    with running_teacher_server(delay_s=3600) as server:  # the first build is at work until it is stopped
        process = start(command, server)
        eventually(lambda: server.received)
        recipe = command.folder / "recipe.yaml"
        words = ["data", "build", recipe, "-o", "output=out", "-o", "teacher.most_in_flight=4"]
        assert "another build is writing this ledger" in command.refused(*words)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_S)


@pytest.mark.slow
def test_the_bill_lies_in_the_interval_of_the_estimate_in_nine_of_ten_trials(in_many_rows):
    """30 seeds, 30 of 412 requests each; the true bill is the server's count of all requests."""
    folder, hits, trials = in_many_rows.folder, 0, 30
    write_many_rows(folder, 400)
    with running_teacher_server(keeps_bodies=False) as server:
        path = write_build_inputs(folder, many_rows(), server.base_url)
        for seed in range(trials):
            recipe = read_data_recipe(path, [f"seed={seed}", f"output=out-{seed}"])
            estimate = estimate_bill(recipe, SilentBuildDisplay(), 30).dollars
            counts = [count_tokens(request.messages) for request in RecipeRequests(recipe)]
            bill = sum(prompt + 2 * completion for prompt, completion in counts) / 1e6
            hits += estimate.interval_low <= bill <= estimate.interval_high
    assert hits >= 0.9 * trials, hits
