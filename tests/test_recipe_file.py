"""Reading a recipe file: what may stand in it, how one extends another, and the message for one that is wrong."""

import pytest

from orca_bench import recipe_file
from orca_bench.errors import UserError
from orca_bench.files import shipped_folder
from orca_bench.recipe import first_difference

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
    return recipe_file.read_recipe_file(path, overrides)


def refusal(tmp_path, text, *overrides):
    with pytest.raises(UserError) as caught:
        load(tmp_path, text, *overrides)
    return str(caught.value)


@pytest.mark.parametrize("name", ["13b", "7b", "3b", "15m", "mini"])
def test_every_shipped_recipe_is_valid(name):
    assert recipe_file.read_recipe_file(shipped_folder("recipes") / f"{name}.yaml").train.zero_stage == 3


def test_a_dumped_recipe_loads_as_itself(tmp_path):
    first = load(tmp_path, GOOD)
    assert load(tmp_path, first.to_yaml()) == first


def test_overrides_replace_values_and_create_sections(tmp_path):
    assert load(tmp_path, GOOD, "train.lr=1e-5", "data.max_length=77").data.max_length == 77
    assert load(tmp_path, GOOD, "train.lr=1e-5").train.lr == 1e-5
    assert load(tmp_path, GOOD.split("train:")[0], "train.lr=1e-5").train.lr == 1e-5


def test_an_unknown_key_names_the_nearest_one_and_the_line(tmp_path):
    message = refusal(tmp_path, GOOD.replace("lr:", "epoch:"))
    assert "r.yaml:7: train.epoch: unknown key 'epoch'; did you mean 'epochs'?" in message


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lr: 1e-4", "lr: fast", "'fast': should be a valid number"),
        ("lr: 1e-4", "precision: fp61", "'fp61' is not one of bf16, fp16, fp32"),
        ("lr: 1e-4", "lora: {rank: 0, alpha: 8}", "train.lora.rank: 0: should be greater than 0"),
        ("lr: 1e-4", "lora: {rank: 8, alpha: 0}", "train.lora.alpha: 0: should be greater than 0"),
        ("lr: 1e-4", "lora: {rank: 8, alpha: -1}", "train.lora.alpha: -1: should be greater than 0"),
        ("lr: 1e-4", "lora: {alpha: 8}", "train.lora.rank: this key is needed and missing"),
        ("lr: 1e-4", "lora: {rank: 8, alpha: 8, dropout: 0.1}", "unknown key 'dropout'"),
        ("lr: 1e-4", "lora: {rank: 8, alpha: 8, targets: []}", "train.lora.targets: "),
        ("lr: 1e-4", "lora: {rank: 8, alpha: 8, targets: [self_attn.q_proj]}", "is not the name of a module"),
        ("lr: 1e-4", "epochs: 2.5", "2.5: should be a valid integer"),
        ("lr: 1e-4", "epochs: true", "True: should be a valid integer"),
        ("lr: 1e-4", "lr: -1", "should be greater than 0"),
        ("lr: 1e-4", "lr: .inf", "inf: should be a finite number"),
        ("lr: 1e-4", "eps: .nan", "nan: should be a finite number"),
        ("lr: 1e-4", "weight_decay: .inf", "inf: should be a finite number"),
        ("lr: 1e-4", "betas: [0.9, 1.0]", "1.0: should be less than 1"),
        ("lr: 1e-4", "offload: cpu\n  zero_stage: 0", "offload needs a ZeRO stage"),
        ("lr: 1e-4", "keep_best: true", "keep_best needs examples that are held out of training; set data.held_out"),
        ("lr: 1e-4", "held_out_every: 5", "held_out_every needs examples that are held out"),
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
        ("records: [a.jsonl]", 'records: ["a\\0b"]', r"'a\x00b' holds a control character"),
        ("records: [a.jsonl]", 'records: [""]', "at least 1 character"),
        ("records: [a.jsonl]", "records: a.jsonl", "should be a valid list"),
        ("name: x", "name: x\ncard: {license: MIT}", "'MIT' is no licence as the hub spells it: write apache-2.0"),
        ("name: x", "name: x\ncard: {language: [english]}", "'english' is no ISO 639 code of a language: write en"),
        ("name: x", "name: a/b", "r.yaml:1: name: 'a/b' is not a name: use letters, digits and . _ -"),
        ("  base: some/model", "  base: some/model\n  random: {hidden_size: 8}", "model.random.intermediate_size"),
        ("  lr: 1e-4", "  lr: 1e-4\n  lr: 1e-5", "found duplicate key"),
        ("name: x", "name: [x", "not YAML"),
    ],
)
def test_a_wrong_value_says_what_would_be_right(tmp_path, old, new, message):
    assert message in refusal(tmp_path, GOOD.replace(old, new))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("processes: 4", "= 8; set accumulation to 2"),
        ("micro_batch: 1", "= 8; set accumulation to 2"),
        ("global_batch: 24\n  accumulation: 2", "= 32; set global_batch to 32"),
        ("global_batch: 16\n  accumulation: 2", "= 32; set accumulation to 1"),
        ("global_batch: 96\n  accumulation: 3\n  micro_batch: 5", "set micro_batch to 4"),
    ],
)
def test_a_batch_that_does_not_multiply_says_which_number_to_change(tmp_path, lines, message):
    assert message in refusal(tmp_path, GOOD + f"  {lines}\n")


def test_aliases_that_multiply_end_in_one_line(tmp_path):
    levels = "".join(f"k{n}: &k{n} [{', '.join([f'*k{n - 1}'] * 9)}]\n" for n in range(1, 9))
    assert "aliases multiply values" in refusal(tmp_path, "k0: &k0 [1]\n" + levels + GOOD)


def test_a_recipe_with_a_byte_order_mark_or_windows_line_ends_is_read(tmp_path):
    (tmp_path / "r.yaml").write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert recipe_file.read_recipe_file(tmp_path / "r.yaml").train.lr == 1e-4


def test_a_recipe_in_another_encoding_is_refused_by_name(tmp_path):
    (tmp_path / "r.yaml").write_bytes(GOOD.encode("utf-16"))
    with pytest.raises(UserError, match="not UTF-8 text"):
        recipe_file.read_recipe_file(tmp_path / "r.yaml")


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
    assert recipe_file.read_recipe_file(name).name == "orca_mini_13b"
    for other in ("elsewhere/13b.yaml", "13b.yml", "14b"):
        with pytest.raises(UserError, match="no such recipe; shipped with orca-bench are 13b, 15m"):
            recipe_file.read_recipe_file(other)


def test_a_recipe_of_ones_own_comes_before_a_shipped_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "13b.yaml").write_text(GOOD)
    assert recipe_file.read_recipe_file("13b.yaml").name == "x"


def test_a_file_that_is_not_there_or_not_a_mapping(tmp_path):
    with pytest.raises(UserError, match="no such recipe"):
        recipe_file.read_recipe_file(tmp_path / "absent.yaml")
    assert "a recipe is a mapping" in refusal(tmp_path, "- one\n- two\n")
    assert "a recipe is a mapping" in refusal(tmp_path, "")


@pytest.mark.parametrize("override", ["train.lr", "=1", "name.x=1"])
def test_an_override_that_is_none_is_refused(tmp_path, override):
    assert f"-o {override}" in refusal(tmp_path, GOOD, override)


# --- extends ---------------------------------------------------------------------------------------------------------


def write(folder, **texts):
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")


def extending_refusal(tmp_path, text, *overrides):
    """The message for a recipe with `text` that stands beside the good recipe base.yaml."""
    write(tmp_path, base=GOOD)
    return refusal(tmp_path, text, *overrides).replace(f"{tmp_path}/", "")


def test_the_keys_of_a_recipe_are_laid_over_those_of_the_one_it_extends(tmp_path):
    write(tmp_path, base=GOOD + "  betas: [0.8, 0.9]\n  epochs: 5\n")
    recipe = load(tmp_path, "extends: base.yaml\nname: y\ntrain: {betas: [0.7, 0.6], seed: 4}\n")
    assert (recipe.name, recipe.model.base, recipe.data.records) == ("y", "some/model", ["a.jsonl"])
    train = recipe.train
    assert (train.lr, train.epochs, train.seed, train.betas) == (1e-4, 5, 4, [0.7, 0.6])


def test_a_path_to_extend_is_relative_to_the_file_that_names_it(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    write(tmp_path, top=GOOD)
    write(tmp_path / "a", middle="extends: ../top.yaml\ntrain: {epochs: 4, seed: 1}\n")
    write(tmp_path / "a" / "b", own="extends: ../middle.yaml\ntrain: {seed: 2}\n")
    monkeypatch.chdir("/")
    train = recipe_file.read_recipe_file(tmp_path / "a" / "b" / "own.yaml").train
    assert (train.lr, train.epochs, train.seed) == (1e-4, 4, 2)


@pytest.mark.parametrize("name", ["13b", "13b.yaml", "recipes/13b.yaml"])
def test_a_recipe_of_ones_own_may_extend_a_shipped_one_by_its_name(tmp_path, name):
    recipe = load(tmp_path, f"extends: {name}\nname: mine\ndata: {{records: [mine.jsonl]}}\n")
    assert recipe == recipe_file.read_recipe_file("13b", ("name=mine", "data.records=[mine.jsonl]"))


def test_the_current_folder_does_not_decide_which_shipped_recipe_is_meant(tmp_path, monkeypatch):
    here = tmp_path / "here"
    (here / "mini").mkdir(parents=True)
    (here / "13b.yaml").write_text(GOOD, encoding="utf-8")
    monkeypatch.chdir(here)
    assert recipe_file.read_recipe_file("mini").name == "mini"  # a folder is no recipe
    text = "extends: 13b.yaml\nname: mine\ndata: {records: [mine.jsonl]}\n"
    assert (
        load(tmp_path, text).model.base
        == recipe_file.read_recipe_file(shipped_folder("recipes") / "13b.yaml").model.base
    )
    assert load(here / "mini", "extends: ../13b.yaml\n").model.base == "some/model"


def test_a_long_chain_of_recipes_is_refused_as_such(tmp_path):
    (tmp_path / "0.yaml").write_text(GOOD, encoding="utf-8")
    for number in range(1, 18):
        (tmp_path / f"{number}.yaml").write_text(f"extends: {number - 1}.yaml\n", encoding="utf-8")
    assert recipe_file.read_recipe_file(tmp_path / "16.yaml").name == "x"
    with pytest.raises(UserError, match="1.yaml:1: extends: more than 16 recipes extend one another"):
        recipe_file.read_recipe_file(tmp_path / "17.yaml")


def test_an_override_that_leaves_no_model_is_named(tmp_path):
    assert refusal(tmp_path, GOOD, "model.base=null").startswith("-o model.base=null: model.base: give either base")


def test_null_takes_a_value_of_the_extended_recipe_away(tmp_path):
    write(tmp_path, base=GOOD)
    shape = "{hidden_size: 8, intermediate_size: 8, num_hidden_layers: 1, num_attention_heads: 2}"
    text = f"extends: base.yaml\nmodel:\n  random: {shape}\n  tokenizer: t\n"
    assert "r.yaml:3: model.random: give either base" in refusal(tmp_path, text)
    assert load(tmp_path, text + "  base: null\n").model.base is None


def test_an_extended_recipe_need_not_be_whole(tmp_path):
    write(tmp_path, base="train: {lr: 1e-4}\n")
    assert load(tmp_path, "extends: base.yaml\n" + GOOD.split("train:")[0]).train.lr == 1e-4
    assert "r.yaml: name: this key is needed and missing" in refusal(tmp_path, "extends: base.yaml\n")


def test_a_loaded_recipe_is_whole_and_does_not_say_what_it_extended(tmp_path):
    write(tmp_path, base=GOOD)
    recipe = load(tmp_path, "extends: base.yaml\n")
    assert "extends" not in recipe.to_yaml()
    assert first_difference(recipe, load(tmp_path, GOOD)) is None
    assert load(tmp_path, recipe.to_yaml()) == recipe


def test_overrides_are_laid_on_top_of_what_is_extended(tmp_path):
    write(tmp_path, base=GOOD)
    text = "extends: base.yaml\ntrain: {seed: 2}\n"
    train = load(tmp_path, text, "train.seed=3", "train.lr=1e-5").train
    assert (train.seed, train.lr) == (3, 1e-5)
    assert "unknown key 'extends'" in refusal(tmp_path, GOOD, "extends=base.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: absent.yaml\n", "r.yaml:1: extends: no such recipe 'absent.yaml'; a path is relative to"),
        ("name: x\nextends: .\n", "r.yaml:2: extends: no such recipe '.'"),
        ('extends: "a\\0b"\n', "r.yaml:1: extends: no such recipe"),
        (f"extends: {'x' * 5000}\n", "r.yaml:1: extends: no such recipe"),
        ("extends:\n", "r.yaml:1: extends: should be the path of one recipe; e.g. extends: 13b.yaml"),
        ("extends: [base.yaml]\n", "r.yaml:1: extends: should be the path of one recipe"),
        ("extends: r.yaml\n", "r.yaml:1: extends: recipes that extend one another in a circle: r.yaml extends r.yaml"),
        ("extends: base.yaml\ntrain: 5\n", "r.yaml:2: train: 5: "),
        ("extends: base.yaml\ntrain:\n  epoch: 5\n", "r.yaml:3: train.epoch: unknown key 'epoch'"),
        ("extends: base.yaml\nmodel: {random: {hidden_size: 8}}\n", "r.yaml:2: model.random.intermediate_size"),
        ("extends: base.yaml\ndata:\n  records: []\n", "r.yaml:3: data.records"),
        (
            "extends: base.yaml\ntrain:\n  processes: 4\n",
            "r.yaml:3: train.processes: global_batch 16 is not micro_batch",
        ),
    ],
)
def test_what_is_wrong_in_a_recipe_that_extends_another_is_named_with_its_own_line(tmp_path, text, message):
    assert extending_refusal(tmp_path, text).startswith(message)


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (GOOD.replace("1e-4", "fast"), "base.yaml:7: train.lr: 'fast': should be a valid number"),
        (GOOD.replace("lr:", "epoch:"), "base.yaml:7: train.epoch: unknown key 'epoch'"),
        (GOOD + "  processes: 4\n", "base.yaml:8: train.processes: global_batch 16 is not"),
        ("name: [x", "base.yaml:1: not YAML"),
        ("- one\n", "base.yaml: a recipe is a mapping"),
        (GOOD + "extends: other.yaml\n", "base.yaml:8: extends: no such recipe 'other.yaml'"),
        (
            GOOD + "extends: r.yaml\n",
            "base.yaml:8: extends: recipes that extend one another in a circle: r.yaml extends base.yaml extends",
        ),
    ],
)
def test_what_is_wrong_in_an_extended_recipe_is_named_with_the_line_there(tmp_path, base, message):
    write(tmp_path, base=base)
    text = refusal(tmp_path, "extends: base.yaml\nname: y\ntrain: {seed: 1}\n").replace(f"{tmp_path}/", "")
    assert text.startswith(message)


def test_a_wrong_override_of_a_recipe_that_extends_another_names_the_override(tmp_path):
    text = "extends: base.yaml\ntrain: {processes: 4}\n"
    message = extending_refusal(tmp_path, text, "train.processes=3")
    assert message.startswith("-o train.processes=3: train.processes: global_batch 16 is not")
    assert extending_refusal(tmp_path, text, "train.lr=x").startswith("-o train.lr=x: train.lr: 'x'")


def test_lora_beside_random_weights_is_refused(tmp_path):
    random = GOOD.replace("base: some/model", "random: {SIZES}\n  tokenizer: t").replace(
        "{SIZES}", "{hidden_size: 8, intermediate_size: 8, num_hidden_layers: 1, num_attention_heads: 2}"
    )
    assert load(tmp_path, random).train.lora is None
    message = refusal(tmp_path, random, "train.lora.rank=8", "train.lora.alpha=16")
    assert "train.lora: LoRA leaves the weights of the model as they are" in message and "give model.base" in message


def test_a_run_with_lora_is_another_one_than_a_run_without(tmp_path):
    without, with_lora = load(tmp_path, GOOD), load(tmp_path, GOOD, "train.lora.rank=8", "train.lora.alpha=16")
    assert first_difference(without, with_lora) == "train.lora.rank was None, now 8"
    assert first_difference(with_lora, without) == "train.lora.rank was 8, now None"
    assert first_difference(with_lora, load(tmp_path, with_lora.to_yaml())) is None
