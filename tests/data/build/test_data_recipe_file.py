"""Reading a data recipe: what may stand in it, and the message for one that is wrong."""

import pytest
from data_recipes import RECIPE

from orca_bench.data.build.data_recipe_file import read_data_recipe
from orca_bench.errors import UserError
from orca_bench.recipe import first_difference


def load(tmp_path, text=RECIPE, *overrides):
    path = tmp_path / "r.yaml"
    path.write_text(text, encoding="utf-8")
    return read_data_recipe(path, overrides)


def refusal(tmp_path, text, *overrides):
    with pytest.raises(UserError) as caught:
        load(tmp_path, text, *overrides)
    return str(caught.value)


@pytest.mark.parametrize("name", ["orca_mini", "orca_mini.yaml", "recipes/data/orca_mini.yaml"])
def test_a_shipped_data_recipe_is_known_by_its_name_anywhere(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    recipe = read_data_recipe(name)
    assert list(recipe.sources) == ["wizardlm", "alpaca", "dolly"] and recipe.budget == 0
    with pytest.raises(UserError, match="no such data recipe; shipped with orca-bench are flan, orca_mini"):
        read_data_recipe("13b")


def test_the_shipped_recipe_of_flan_has_the_samples_of_the_paper():
    sources = read_data_recipe("flan").sources
    assert {name: source.sample for name, source in sources.items()} == {
        "cot": 150_000,
        "niv2": 440_000,
        "flan2021": 2_500_000,
        "t0": 2_000_000,
    }
    assert {source.system_policy for source in sources.values()} == set(sources)
    assert sources["niv2"].most_per_task == 300


def test_a_dumped_data_recipe_loads_as_itself(tmp_path):
    recipe = load(tmp_path)
    assert load(tmp_path, recipe.to_yaml()) == recipe


def test_a_recipe_may_extend_another_and_change_one_source(tmp_path):
    (tmp_path / "base.yaml").write_text(RECIPE, encoding="utf-8")
    recipe = load(tmp_path, "extends: base.yaml\nsources:\n  dolly: {sample: 4}\n", "sources.alpaca.sample=3")
    assert (recipe.sources["alpaca"].sample, recipe.sources["dolly"].sample) == (3, 4)
    assert recipe.sources["dolly"].files == "dolly.jsonl"


def test_batches_have_defaults_and_no_more_requests_and_bytes_than_openai_takes(tmp_path):
    assert load(tmp_path).teacher.batch is None
    batch = load(tmp_path, RECIPE, "teacher.batch={}").teacher.batch
    assert (batch.price_factor, batch.most_requests, batch.most_megabytes) == (0.5, 50_000, 200)
    for wrong in ("most_requests=50001", "most_megabytes=201", "price_factor=1.5", "poll_seconds=0", "most_open=0"):
        assert f"teacher.batch.{wrong.split('=')[0]}" in refusal(tmp_path, RECIPE, f"teacher.batch.{wrong}")


def test_the_first_difference_of_two_recipes_is_one_that_makes_all_requests_others(tmp_path):
    recipe = load(tmp_path)
    assert first_difference(recipe, load(tmp_path, RECIPE, "seed=4")) == "seed was 3, now 4"
    assert "teacher.parameters was" in first_difference(recipe, load(tmp_path, RECIPE, "teacher.parameters.seed=1"))
    may_change = (
        "sources.dolly.sample=4",
        "keep_truncated=true",
        "teacher.thinking=column",
        "budget=9",
        "teacher.base_url=http://host/v1",
        "teacher.price.input=7.5",
        "output=elsewhere",
        "teacher.batch.most_requests=7",
    )
    assert first_difference(recipe, load(tmp_path, RECIPE, *may_change)) is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "files: alpaca.json",
            "file: alpaca.json",
            "r.yaml:5: sources.alpaca.file: unknown key 'file'; did you mean 'files'?",
        ),
        ("budget: 5", "budgt: 5", "r.yaml:15: budgt: unknown key 'budgt'; did you mean 'budget'?"),
        ("budget: 5", "budget: -5", "r.yaml:15: budget: -5: should be greater than or equal to 0"),
        ("budget: 5", "budget: .nan", "finite number"),
        ("input: 1.0", "inputs: 1.0", "unknown key 'inputs'; did you mean 'input'?"),
        ("seed: 3", "seed: x", "r.yaml:2: seed: 'x': should be a valid integer"),
        ("    files: alpaca.json\n", "", "sources.alpaca: give either files (a path) or hub (OWNER/NAME)"),
        ("files: alpaca.json", "files: alpaca.json\n    hub: a/b", "give either files"),
        ("files: alpaca.json", "hub: alpaca", "'alpaca' is no id of the hub; OWNER/NAME"),
        (
            "files: alpaca.json",
            "files: alpaca.json\n    revision: v1",
            "r.yaml:6: sources.alpaca.revision: revision is of a",
        ),
        ("  alpaca:", "  al paca:", "'al paca' is no name of a source"),
        ("license: cc-by-nc-4.0", "license: CC BY-NC", "is no licence as the hub spells it"),
        ("license: cc-by-nc-4.0", "system_policy: flan", "'flan' is not one of uniform, cot, niv2, t0, flan2021"),
        ("license: cc-by-nc-4.0", "system_ids: [17]", "17: should be less than or equal to 16"),
        ("license: cc-by-nc-4.0", "system_ids: []", "at least 1 item"),
        ("license: cc-by-nc-4.0", "system_ids: [1]\n    system_policy: cot", "give either system_policy or system_ids"),
        ("license: cc-by-nc-4.0", "most_per_task: 3", "most_per_task and task_column belong together"),
        ("http://127.0.0.1:9/v1", "127.0.0.1:9/v1", "r.yaml:11: teacher.base_url: this is no http address"),
        ("http://127.0.0.1:9/v1", "http://me:secret@host/v1", "an address with a login or a query could hold a secret"),
        ("http://127.0.0.1:9/v1", "http://host/v1?key=secret", "could hold a secret"),
        ("http://127.0.0.1:9/v1", "http://host/v1#secret", "could hold a secret"),
        ("http://127.0.0.1:9/v1", "http://host:99999/v1", "no http address"),
        (
            "temperature: 0.7",
            "stream: true",
            "teacher.parameters: 'stream' cannot be set here; answers are read whole",
        ),
        ("temperature: 0.7", "model: x", "the model is teacher.model"),
        ("temperature: 0.7", "n: true", "one answer to each request is kept"),
        ("temperature: 0.7", "tools: []", "answers are texts, and nothing else of them is kept"),
        ("temperature: 0.7", "service_tier: priority", "it changes what a request costs"),
        ("temperature: 0.7", "n: 2", "one answer to each request is kept"),
        ("temperature: 0.7", "start: 2020-01-01", "cannot be sent as JSON"),
        ("temperature: 0.7", "stop: [.inf]", "cannot be sent as JSON"),
        (", max_tokens: 64", "", "give one of max_tokens and max_completion_tokens; it bounds what a request can cost"),
        ("max_tokens: 64", "max_tokens: 64, max_completion_tokens: 64", "give one of max_tokens"),
        ("max_tokens: 64", "max_tokens: 0", "0: should be a number of tokens, from 1 to 10,000,000"),
        ("max_tokens: 64", "max_tokens: 10000000000000000", "should be a number of tokens, from 1"),
        ("input: 1.0", "input: 1.0e+300", "should be less than or equal to 10000"),
        ("budget: 5", "budget: 1.0e+30", "should be less than or equal to 1000000"),
        ("max_tokens: 64", "max_tokens: true", "True: should be a number of tokens"),
        ("  model: teacher\n", "", "teacher.model: this key is needed and missing"),
    ],
)
def test_a_wrong_value_says_what_would_be_right(tmp_path, old, new, message):
    assert old in RECIPE
    assert message in refusal(tmp_path, RECIPE.replace(old, new))


def test_a_recipe_without_sources_is_refused(tmp_path):
    text = RECIPE.split("sources:")[0] + "sources: {}\nteacher:" + RECIPE.split("teacher:", 1)[1]
    assert "sources: a source is needed" in refusal(tmp_path, text)


def test_a_wrong_override_is_named(tmp_path):
    message = refusal(tmp_path, RECIPE, "sources.dolly.sampel=3")
    assert message == ("-o sources.dolly.sampel=3: sources.dolly.sampel: unknown key 'sampel'; did you mean 'sample'?")


@pytest.mark.parametrize(
    "override",
    [
        "teacher.api_key_variable=sk-proj-SECRET",
        "teacher.api_key_variable=gsk_SECRETsecret",
        "teacher.parameters.api_key=SECRET",
        "teacher.parameters.Authorization=SECRET",
        "teacher.parameters.extra-headers={x: SECRET}",
        "teacher.parameters.My-Password=SECRET",
        "teacher.base_url=http://me:SECRET@host/v1",
    ],
)
def test_a_key_in_a_wrong_place_is_refused_and_not_repeated(tmp_path, override):
    message = refusal(tmp_path, RECIPE, override)
    assert "SECRET" not in message and ("environment variable" in message), message
