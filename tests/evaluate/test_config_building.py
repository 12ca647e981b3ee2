"""The texts of a user's options become a configuration: where results go, which engine answers, what is refused."""

import pytest

from orca_bench.errors import UserError
from orca_bench.evaluate.config_building import engine_config, evaluation_config, request_selection
from orca_bench.evaluate.engine_config import EngineConfig
from orca_bench.evaluate.tasks import SUITE
from orca_bench.system_messages import system_message


def test_each_protocol_has_its_result_file(tiny_model, mini, tmp_path):
    def paths(**options):
        config = evaluation_config(str(tiny_model), tmp_path, benchmarks=mini["mini:benchmarks"], **options)
        return {protocol: str(path.relative_to(tmp_path)) for protocol, path in config.result_paths_by_protocol.items()}

    name = tiny_model.parent.name
    assert paths() == {"orca": f"{name}/results/orca.json"}
    assert paths(limit=3, system=16) == {"orca": f"{name}/results/orca-system16-limit3.json"}
    assert paths(protocol="both", name="me/x") == {
        "leaderboard": "me--x/results/leaderboard.json",
        "orca": "me--x/results/orca.json",
    }
    assert paths(protocol="both", out=tmp_path / "r.json") == {
        "leaderboard": "r-leaderboard.json",
        "orca": "r-orca.json",
    }


def test_all_are_the_tasks_that_a_suite_of_its_own_has(tiny_model, tmp_path):
    (tmp_path / "rows" / "hellaswag").mkdir(parents=True)
    (tmp_path / "rows" / "suite.json").write_text('{"name": "small"}')
    lines = []
    config = evaluation_config(str(tiny_model), tmp_path, benchmarks=tmp_path / "rows", show_message=lines.append)
    assert [task.name for task in config.tasks] == ["hellaswag"]
    assert "has no rows of ARC-Challenge, MMLU" in "".join(lines)
    (tmp_path / "rows" / "suite.json").unlink()  # the leaderboard's suite is whole, or an error says what is missing
    assert len(evaluation_config(str(tiny_model), tmp_path, benchmarks=tmp_path / "rows").tasks) == len(SUITE)


def test_defaults_are_those_of_the_command_line(tiny_model, mini, tmp_path):
    config = evaluation_config(str(tiny_model), tmp_path, benchmarks=mini["mini:benchmarks"])
    assert len(config.tasks) == len(SUITE) and config.system_text == system_message(5)
    assert (config.dtype, config.engine_config.engine_name) == ("auto", "hf")
    assert not config.ignores_cached_answers and not config.question_limit
    selection = request_selection(tasks="gsm8k", max_new_tokens=["gsm8k=7"], benchmarks=mini["mini:benchmarks"])
    assert selection.protocol_name == "orca" and selection.max_new_tokens_by_task == {"gsm8k": 7}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "vllm", "processes": 2}, "--processes: not an option of --engine vllm; it is one of hf"),
        ({"concurrency": 3}, "--concurrency: not an option of --engine hf; it is one of vllm, llamacpp and api"),
        ({"engine": "api"}, "--base-url: --engine api needs a server"),
        ({"engine": "bogus"}, "--engine: 'bogus' is not one of hf, vllm, llamacpp, api"),
        ({"engine": "vllm", "kv_cache": "f32"}, "--kv-cache: not an option of --engine vllm; it is one of llamacpp"),
        ({"engine": "llamacpp", "kv_cache": "f8"}, "--kv-cache: 'f8' is not one of f16, f32, bf16, q8_0, q4_0"),
        ({"processes": 0}, "--processes: 0 is not a number of them"),
        ({"processes": 2, "device_map": "auto"}, "--processes: a model that is spread over all devices"),
    ],
)
def test_options_that_do_not_fit_the_engine_are_refused(options, message):
    with pytest.raises(UserError) as refusal:
        engine_config(**options)
    assert message in str(refusal.value)


def test_an_engine_has_the_same_defaults_however_its_configuration_is_made():
    for engine, concurrency in (("vllm", 16), ("llamacpp", 1)):
        config = engine_config(engine)
        assert config == EngineConfig(engine) and config.concurrency == concurrency
        assert engine_config(engine, concurrency=3).concurrency == 3


def test_a_device_map_is_run_by_one_process():
    assert engine_config(device_map="auto").process_count == 1


def test_only_protocols_whose_requests_are_made_here_have_requests_to_select():
    with pytest.raises(UserError, match="--protocol: 'plain' is not one of leaderboard, orca"):
        request_selection(protocol="plain")
