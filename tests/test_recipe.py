"""What a recipe file may say, and what is said of one that is wrong."""

import pytest

from orca_bench import recipe
from orca_bench.errors import UserError
from orca_bench.files import shipped

GOOD = """\
name: x
model:
  base: some/model
data:
  records: [a.jsonl]
train:
  lr: 1e-4
"""


def load(tmp_path, text, *overrides):
    path = tmp_path / "r.yaml"
    path.write_text(text, encoding="utf-8")
    return recipe.load(path, overrides)


def refusal(tmp_path, text, *overrides):
    with pytest.raises(UserError) as caught:
        load(tmp_path, text, *overrides)
    return str(caught.value)


@pytest.mark.parametrize("name", ["13b", "7b", "3b", "15m", "mini"])
def test_every_shipped_recipe_is_valid(name):
    assert recipe.load(shipped("recipes") / f"{name}.yaml").train.zero_stage == 3


def test_13b_is_the_cards_run_number_for_number():
    run = recipe.load(shipped("recipes") / "13b.yaml")
    train = run.train
    assert (train.global_batch, train.micro_batch, train.accumulation, train.processes) == (16, 2, 1, 8)
    assert (train.lr, train.epochs, run.data.max_length, train.zero_stage) == (2e-5, 3, 1024, 3)
    assert (train.betas, train.eps, train.weight_decay, train.grad_clip) == ([0.9, 0.95], 1e-8, 0.001, 1.0)
    assert (train.warmup_ratio, train.warmup_min_steps, train.seed) == (0.1, 10, 0)


def test_every_number_of_13b_says_where_it_comes_from():
    text = (shipped("recipes") / "13b.yaml").read_text(encoding="utf-8")
    keys = [line for line in text[text.index("train:") :].splitlines() if line.startswith("  ") and ":" in line]
    # These are no part of the card's run: where it ends early, what it leaves on the way, what would stop it.
    others = {"max_steps", "export_every", "max_loss"}
    assert {key.split(":")[0].strip() for key in keys} == set(recipe.Train.model_fields) - others
    assert all(any(f"# {source}" in line for source in ("card", "OpenAlpaca", "chosen")) for line in keys)


def test_a_dumped_recipe_loads_as_itself(tmp_path):
    first = load(tmp_path, GOOD)
    assert load(tmp_path, first.dump()) == first


def test_overrides_replace_values_and_create_sections(tmp_path):
    assert load(tmp_path, GOOD, "train.lr=1e-5", "data.max_length=77").data.max_length == 77
    assert load(tmp_path, GOOD, "train.lr=1e-5").train.lr == 1e-5
    assert load(tmp_path, GOOD.split("train:")[0], "train.lr=1e-5").train.lr == 1e-5


def test_an_unknown_key_names_the_nearest_one_and_the_line(tmp_path):
    said = refusal(tmp_path, GOOD.replace("lr:", "epoch:"))
    assert "r.yaml:7: train.epoch: unknown key 'epoch'; did you mean 'epochs'?" in said


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("lr: 1e-4", "lr: fast", "'fast': should be a valid number"),
        ("lr: 1e-4", "precision: fp61", "'fp61' is not one of bf16, fp16, fp32"),
        ("lr: 1e-4", "epochs: 2.5", "2.5: should be a valid integer"),
        ("lr: 1e-4", "epochs: true", "True: should be a valid integer"),
        ("lr: 1e-4", "lr: -1", "should be greater than 0"),
        ("lr: 1e-4", "lr: .inf", "inf: should be a finite number"),
        ("lr: 1e-4", "eps: .nan", "nan: should be a finite number"),
        ("lr: 1e-4", "weight_decay: .inf", "inf: should be a finite number"),
        ("lr: 1e-4", "betas: [0.9, 1.0]", "1.0: should be less than 1"),
        ("lr: 1e-4", "offload: cpu\n  zero_stage: 0", "offload needs a ZeRO stage"),
        ("lr: 1e-4", "epochs: 99999999999999999999", "should be less than or equal to"),
        ("lr: 1e-4", f"seed: {2**63}", "should be less than"),
        ("lr: 1e-4", f"seed: {'9' * 5000}", "r.yaml: not YAML"),
        ("lr: 1e-4", "lr: &x [*x]", "r.yaml:7: an alias that contains itself"),
        ("lr: 1e-4", "lr: &x {a: *x}", "r.yaml:7: an alias that contains itself"),
        ("lr: 1e-4", "? [a, b]\n  : 1", "r.yaml:6: train: the key ('a', 'b') is no text"),
        ("lr: 1e-4", "1: 2", "the key 1 is no text"),
        ("lr: 1e-4", "lr: !!timestamp x", "r.yaml:7: not YAML"),
        ("lr: 1e-4", "lr: 2020-13-45", "r.yaml: not YAML"),
        ("lr: 1e-4", "lr: !other x", "a value of a kind that is not read here"),
        ("lr: 1e-4", f"lr: {'[' * 3000}", "nested too deeply"),
        ("records: [a.jsonl]", 'records: ["a\\0b"]', "should match pattern"),
        ("records: [a.jsonl]", 'records: [""]', "at least 1 character"),
        ("records: [a.jsonl]", "records: a.jsonl", "should be a valid list"),
        ("name: x", "name: a/b", "should match pattern"),
        ("  base: some/model", "  base: some/model\n  random: {hidden_size: 8}", "model.random.intermediate_size"),
        ("  lr: 1e-4", "  lr: 1e-4\n  lr: 1e-5", "found duplicate key"),
        ("name: x", "name: [x", "not YAML"),
    ],
)
def test_a_wrong_value_says_what_would_be_right(tmp_path, old, new, said):
    assert said in refusal(tmp_path, GOOD.replace(old, new))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("processes: 4", "= 8; set accumulation to 2"),
        ("micro_batch: 1", "= 8; set accumulation to 2"),
        ("global_batch: 24\n  accumulation: 2", "= 32; set global_batch to 32"),
        ("global_batch: 16\n  accumulation: 2", "= 32; set accumulation to 1"),
        ("global_batch: 96\n  accumulation: 3\n  micro_batch: 5", "set micro_batch to 4"),
    ],
)
def test_a_batch_that_does_not_multiply_says_which_number_to_change(tmp_path, lines, said):
    assert said in refusal(tmp_path, GOOD + f"  {lines}\n")


def test_aliases_that_multiply_end_in_one_line(tmp_path):
    levels = "".join(f"k{n}: &k{n} [{', '.join([f'*k{n - 1}'] * 9)}]\n" for n in range(1, 9))
    assert "aliases multiply values" in refusal(tmp_path, "k0: &k0 [1]\n" + levels + GOOD)


def test_a_recipe_with_a_byte_order_mark_or_windows_line_ends_is_read(tmp_path):
    (tmp_path / "r.yaml").write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert recipe.load(tmp_path / "r.yaml").train.lr == 1e-4


def test_a_recipe_in_another_encoding_is_refused_by_name(tmp_path):
    (tmp_path / "r.yaml").write_bytes(GOOD.encode("utf-16"))
    with pytest.raises(UserError, match="not UTF-8 text"):
        recipe.load(tmp_path / "r.yaml")


def test_random_weights_need_a_tokenizer_and_fitting_heads(tmp_path):
    shape = "{hidden_size: 10, intermediate_size: 8, num_hidden_layers: 1, num_attention_heads: 4}"
    text = GOOD.replace("base: some/model", f"random: {shape}")
    assert "need a tokenizer" in refusal(tmp_path, text)
    text = text.replace("random:", "tokenizer: t\n  random:")
    assert "not a multiple of num_attention_heads" in refusal(tmp_path, text)
    odd = text.replace("hidden_size: 10", "hidden_size: 12")
    assert "rotary embeddings need an even number" in refusal(tmp_path, odd)


@pytest.mark.parametrize("name", ["13b", "13b.yaml", "recipes/13b.yaml"])
def test_a_shipped_recipe_is_known_by_its_name_anywhere(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert recipe.load(name).name == "orca_mini_13b"
    for other in ("elsewhere/13b.yaml", "13b.yml", "14b"):
        with pytest.raises(UserError, match="no such recipe; shipped with orca-bench are 13b, 15m"):
            recipe.load(other)


def test_a_recipe_of_ones_own_comes_before_a_shipped_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "13b.yaml").write_text(GOOD)
    assert recipe.load("13b.yaml").name == "x"


def test_a_file_that_is_not_there_or_not_a_mapping(tmp_path):
    with pytest.raises(UserError, match="no such recipe"):
        recipe.load(tmp_path / "absent.yaml")
    assert "a recipe is a mapping" in refusal(tmp_path, "- one\n- two\n")
    assert "a recipe is a mapping" in refusal(tmp_path, "")


@pytest.mark.parametrize("override", ["train.lr", "=1", "name.x=1"])
def test_an_override_that_is_none_is_refused(tmp_path, override):
    assert f"-o {override}" in refusal(tmp_path, GOOD, override)
