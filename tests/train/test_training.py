"""Training with a real DeepSpeed engine: the same losses however it is split, and the files that remain afterwards."""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from waiting import PATIENCE_S, eventually

from orca_bench import prompt, recipe_file, tokenizers, yaml_files
from orca_bench import train as training
from orca_bench.errors import UserError
from orca_bench.evaluate.result_names import default_result_path
from orca_bench.models import model_names
from orca_bench.models.model_folder import ModelFolder
from orca_bench.question_limit import QuestionLimit
from orca_bench.system_messages import SYSTEM_MESSAGES
from orca_bench.train import record_files, student_model
from orca_bench.train.batch_plan import BatchPlan
from orca_bench.train.example_encoding import encode_records
from orca_bench.train.run_folder import Run
from orca_bench.train.step_metrics import StepMetrics
from orca_bench.train.token_files import load_run_examples
from recipes import RECIPE


@pytest.fixture(scope="module")
def folder(tmp_path_factory, mini, mini_records):
    """A folder with 92 records (the last batch is half empty), a recipe, and its run in two processes."""
    folder = tmp_path_factory.mktemp("training")
    chosen = [r for r in mini_records if len(r["instruction"]) < 400][:92]
    (folder / "records.jsonl").write_text("".join(json.dumps(r) + "\n" for r in chosen), encoding="utf-8")
    (folder / "r.yaml").write_text(RECIPE.format(name="two", tokenizer=mini["mini:tokenizer"]), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def orca(folder, command_in):
    return command_in(folder)


@pytest.fixture(scope="module")
def two(folder, orca):
    """The run in two processes."""
    process = orca("train", "r.yaml")
    assert process.returncode == 0, process.stderr + (folder / "runs/two/train.log").read_text()
    return folder / "runs" / "two"


def losses(run):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def run_examples(run_folder):
    run = Run(run_folder)
    return load_run_examples(run.tokens_folder, run.earlier_tokens_file).training


@pytest.fixture(scope="module")
def reference(folder, two):
    """The same training in plain PyTorch, one process and whole batches: losses, weights after 5 and after all steps."""
    recipe = recipe_file.read_recipe_file(two / "recipe.yaml")
    tokenizer = tokenizers.load_tokenizer(recipe.model.tokenizer)
    encoded = run_examples(two)
    plan, train = BatchPlan(encoded.lengths, recipe.train), recipe.train
    model = student_model.build_random_model(student_model.student_config(recipe, tokenizer), train.seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=0, betas=tuple(train.betas), eps=train.eps, weight_decay=train.weight_decay
    )
    step_losses, weights = [], {}
    for step in range(plan.step_count):
        optimizer.param_groups[0]["lr"] = plan.learning_rate(step)
        batch = [i for i in plan.example_indices_of_step(step) if i >= 0]
        total = sum(int(encoded.trained_token_counts[i]) for i in batch)
        loss = torch.zeros(())
        for i in batch:
            ids = torch.tensor(encoded.example(i), dtype=torch.long)
            logits = model(input_ids=ids[None], use_cache=False).logits[0, :-1]
            start = int(encoded.prompt_lengths[i])
            loss = loss + torch.nn.functional.cross_entropy(logits[start - 1 :], ids[start:], reduction="sum") / total
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), train.grad_clip)
        optimizer.step()
        step_losses.append(float(loss))
        weights[step + 1] = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return step_losses, {5: weights[5], "all": weights[plan.step_count]}


def test_zero3_in_two_processes_is_plain_pytorch(two, reference):
    expected, weights = reference
    assert losses(two) == pytest.approx(expected, abs=1e-4)
    assert expected[-1] < expected[0] - 0.5
    assert_weights(two / "model", weights["all"])


def assert_weights(folder, expected):
    exported = load_file(folder / "model.safetensors")
    assert set(exported) == set(expected)
    for name, tensor in exported.items():
        assert torch.allclose(tensor, expected[name], atol=2e-3), name


def test_exports_on_the_way_are_models_that_know_their_step_and_can_be_drawn_over_steps(
    orca, two, reference, monkeypatch
):
    assert {folder.name for folder in (two / "exports").iterdir()} == {"step-5", "step-10"}
    assert_weights(two / "exports" / "step-5", reference[1][5])
    with pytest.raises(AssertionError):
        assert_weights(two / "exports" / "step-5", reference[1]["all"])
    options = ["--tasks", "winogrande", "--benchmarks", "mini:", "--limit", "2"]
    for model, result, name, step in (
        ("exports/step-5", "step-5/orca-limit2.json", "two-step-5", 5),
        ("model", "orca-limit2.json", "two", 12),
    ):
        process = orca("eval", "--model", f"runs/two/{model}", *options)
        assert process.returncode == 0, process.stderr
        description = json.loads((two / "results" / result).read_text())["model"]
        assert (description["name"], description["step"]) == (name, step)
    here = orca.folder
    elsewhere = orca.folder / "exports" / "step-5"  # a folder of that name in no run is called by the folders above it
    shutil.copytree(two / "exports" / "step-5", elsewhere)
    assert model_names.model_name_of(str(elsewhere)) == f"{here.name}-exports-step-5"
    monkeypatch.chdir(two / "exports" / "step-5")
    out = default_result_path(
        model_names.model_name_of("."), ModelFolder("."), Path("runs"), "orca", QuestionLimit(), SYSTEM_MESSAGES[5], {}
    )
    assert out.resolve() == (here / "runs/two/results/step-5/orca.json").resolve()
    files = [f"runs/two/results/{name}" for name in ("orca-limit2.json", "step-5/orca-limit2.json")]
    assert "steps.svg" in orca("plot", *files, "--over-steps").stdout


@pytest.mark.long
def test_one_process_gives_the_same_losses(orca, folder, two):
    process = orca("train", "r.yaml", "-o", "name=one", "-o", "train.processes=1", "-o", "train.micro_batch=4")
    assert process.returncode == 0, process.stderr
    assert losses(folder / "runs" / "one") == pytest.approx(losses(two), abs=1e-4)


def test_training_compiles_nothing_and_leaves_no_shared_memory(orca, folder, tmp_path, monkeypatch):
    """DeepSpeed's operator for inference would need a compiler, and leave 66 MiB a process where one is killed."""
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setenv("CXX", "/bin/false")
    shared_memory = Path("/dev/shm")
    shared_memory_files = set()
    process = orca.start("train", "r.yaml", "-o", "name=uncompiled", "-o", "train.max_steps=3")
    while process.poll() is None:
        shared_memory_files |= (
            {path.name for path in shared_memory.glob("deepspeed_*")} if shared_memory.is_dir() else set()
        )
        time.sleep(0.05)
    assert process.returncode == 0, process.communicate()[1]
    assert list(tmp_path.iterdir()) == []
    assert not shared_memory_files


@pytest.mark.long
def test_optimizer_states_in_main_memory_give_nearly_the_same_losses(orca, folder, two):
    process = orca("train", "r.yaml", "-o", "name=offload", "-o", "train.offload=cpu")
    assert process.returncode == 0, process.stderr + (folder / "runs/offload/train.log").read_text()
    assert losses(folder / "runs" / "offload") == pytest.approx(losses(two), abs=1e-3)


@pytest.mark.long
def test_deepspeeds_launcher_gives_the_same_losses(orca, folder, two):
    process = orca("train", "r.yaml", "-o", "name=ds", "--launcher", "deepspeed")
    assert process.returncode == 0, process.stderr + (folder / "runs/ds/train.log").read_text()
    assert losses(folder / "runs" / "ds") == pytest.approx(losses(two), abs=1e-5)


@pytest.mark.parametrize(
    ("launcher", "words"),
    [
        ("torch.distributed.run", ["--standalone", "--nproc-per-node", "2", "-m"]),
        pytest.param("deepspeed.launcher.runner", ["--num_gpus", "2", "--module"], marks=pytest.mark.slow),
    ],
)
def test_inside_a_launcher_the_command_is_one_of_the_processes(folder, two, launcher, words):
    process = subprocess.run(
        [sys.executable, "-m", launcher, *words, "orca_bench", "train", "r.yaml", "-o", f"name={launcher}"],
        cwd=folder,
        env=os.environ | {"DS_ACCELERATOR": "cpu"},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert process.returncode == 0, process.stderr
    assert losses(folder / "runs" / launcher) == pytest.approx(losses(two), abs=1e-5)


def test_ctrl_c_leaves_a_checkpoint_and_the_same_command_continues(orca, folder):
    """With more steps than are trained until a signal arrives; that the losses stay the same is in test_killed_trainings.py."""
    words = ("train", "r.yaml", "-o", "name=stopped", "-o", "train.epochs=12", "-o", "train.export_every=null")
    run = folder / "runs" / "stopped"
    metrics = run / "metrics.jsonl"
    process = orca.start(*words)
    eventually(lambda: process.poll() is not None or (metrics.is_file() and metrics.stat().st_size))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130 and "the same command continues from it" in err
    losses_before = losses(run)
    assert json.loads((run / "manifest.json").read_text())["status"] == "interrupted"
    again = orca(*words)
    assert again.returncode == 0 and "continuing" in again.stdout
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, lines[0]["steps"] + 1))
    assert 0 < len(losses_before) < len(lines) and losses(run)[: len(losses_before)] == losses_before
    assert losses(run)[-1] < losses_before[0] - 0.5


def test_the_model_has_a_first_card(two):
    text = (two / "model" / "README.md").read_text(encoding="utf-8")
    assert "trained from random weights on" in text and "It has not been evaluated yet" in text
    assert str(two) not in text


def test_the_manifest_describes_the_run(folder, two):
    manifest = json.loads((two / "manifest.json").read_text(encoding="utf-8"))
    recipe = recipe_file.read_recipe_file(folder / "r.yaml")
    tokenizer = tokenizers.load_tokenizer(recipe.model.tokenizer)
    records, _ = record_files.read_records([str(folder / "records.jsonl")])
    examples, report = encode_records(records, tokenizer, recipe.data.max_length)
    (source,) = manifest["records"]
    assert source["name"] == "records.jsonl"
    assert source["sha256"] == hashlib.sha256((folder / "records.jsonl").read_bytes()).hexdigest()
    assert source["rows"] == len((folder / "records.jsonl").read_text(encoding="utf-8").splitlines()) == len(records)
    assert (manifest["examples"], manifest["cut"]) == (len(examples), report.truncated_count)
    assert manifest["dropped"] == len(report.dropped_record_indices) == len(records) - len(examples)
    assert manifest["tokens"] == len(examples.ids)
    assert manifest["trained_tokens"] == len(examples.ids) - int(examples.prompt_lengths.sum())
    assert manifest["tokenizer_sha256"] == tokenizer.fingerprint
    weights = load_file(two / "model" / "model.safetensors")
    assert manifest["parameters"] == sum(tensor.numel() for tensor in weights.values())
    assert manifest["steps"] == -(-len(examples) * recipe.train.epochs // recipe.train.global_batch)
    versions = {name: importlib.metadata.version(name) for name in manifest["libraries"]}
    assert manifest["libraries"] == versions and {"torch", "deepspeed", "transformers"} <= set(versions)
    assert (manifest["name"], manifest["status"], manifest["diverged"]) == (recipe.name, "finished", None)
    begin = time.mktime(time.strptime(manifest["started"][:19], "%Y-%m-%dT%H:%M:%S"))
    assert 0 < manifest["seconds"] <= manifest["finished"] - begin + 2 and manifest["finished"] <= time.time()


def test_the_recipe_of_a_run_is_whole(folder, two):
    recipe = recipe_file.read_recipe_file(folder / "r.yaml")
    assert recipe_file.read_recipe_file(two / "recipe.yaml") == recipe
    values, _ = yaml_files.read_yaml_file(two / "recipe.yaml", "recipe")
    assert values == recipe.model_dump() and set(values["train"]) == set(type(recipe.train).model_fields)


def test_each_step_has_one_line_of_metrics(two):
    lines = [json.loads(line) for line in (two / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    examples = run_examples(two)
    plan = BatchPlan(examples.lengths, recipe_file.read_recipe_file(two / "recipe.yaml").train)
    assert [line["step"] for line in lines] == list(range(1, plan.step_count + 1))
    for step, line in enumerate(lines):
        batch = [number for number in plan.example_indices_of_step(step) if number >= 0]
        assert set(line) == {field.name for field in dataclasses.fields(StepMetrics)}
        assert (line["steps"], line["lr"]) == (plan.step_count, plan.learning_rate(step))
        assert line["tokens"] == sum(len(examples.example(number)) for number in batch)
        assert line["trained_tokens"] == line["tokens"] - sum(int(examples.prompt_lengths[n]) for n in batch)
        assert line["tokens_per_second"] == pytest.approx(line["tokens"] / line["seconds"], rel=0.01)
        assert line["grad_norm"] > 0 and line["loss"] > 0
    assert lines[-1]["epoch"] == plan.train_section.epochs


def test_the_exported_folder_is_a_plain_hugging_face_model(two):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, plain = AutoModelForCausalLM.from_pretrained(two / "model"), AutoTokenizer.from_pretrained(two / "model")
    inputs = plain.apply_chat_template(prompt.chat_messages("S", "hi"), add_generation_prompt=True, return_tensors="pt")
    assert model(**inputs).logits.shape[-1] == len(plain)
    assert not list((two / "model").glob("*.bin"))
    assert tokenizers.find_folder_disagreement(tokenizers.load_tokenizer(two / "model")) is None


def test_a_trained_run_is_not_trained_again_nor_mixed_with_another_recipe(orca, two):
    assert "already trained" in orca("train", "r.yaml").stdout
    message = orca.refused("train", "r.yaml", "-o", "train.lr=1e-4")
    assert "train.lr was 0.005, now 0.0001" in message and "--fresh" in message
    records = orca.folder / "records.jsonl"
    original = records.read_text(encoding="utf-8")
    records.write_text(original.replace("Explanation", "Reason"), encoding="utf-8")
    message = orca.refused("train", "r.yaml")
    assert "records.jsonl: has changed since the run" in message and "--fresh" in message
    records.write_text(original, encoding="utf-8")


def test_tokens_are_not_encoded_again_where_nothing_has_changed(folder, two, monkeypatch):
    monkeypatch.chdir(folder)
    recipe, counts = recipe_file.read_recipe_file("r.yaml"), []
    prepared = training.compute_prepared_run(recipe, lambda *count: counts.append(count))
    assert not counts and prepared.examples.ids.tolist() == run_examples(two).ids.tolist()
    monkeypatch.setenv("ORCA_BENCH_CACHE", str(folder / "empty_cache"))
    prepared = training.compute_prepared_run(recipe, lambda *count: counts.append(count), two / "tokens")
    assert not counts and prepared.examples.ids.tolist() == run_examples(two).ids.tolist()
    changed = recipe_file.read_recipe_file("r.yaml", ("data.max_length=100",))
    prepared = training.compute_prepared_run(changed, lambda *count: counts.append(count), two / "tokens")
    assert counts == [(92, 92)] and prepared.examples.lengths.max() <= 100


def test_a_run_is_whole_without_the_cache_and_shares_its_files_with_it(two):
    names = {"ids.npy", "starts.npy", "lengths.npy", "prompt_lengths.npy", "records.npy", "tokens.json"}
    assert {path.name for path in (two / "tokens").iterdir()} == names
    assert all(path.stat().st_nlink >= 2 for path in (two / "tokens").iterdir())


def test_an_interrupted_run_is_not_continued_with_another_tokenizer(folder, monkeypatch):
    monkeypatch.chdir(folder)
    recipe = recipe_file.read_recipe_file("r.yaml", ("name=changed",))
    prepared, run = training.compute_prepared_run(recipe), Run(folder / "runs" / "changed")
    assert not training.prepare_run_folder(prepared, run)
    (run.checkpoints_folder / "step-00000005").mkdir(parents=True)
    (run.checkpoints_folder / "latest").write_text("step-00000005")
    run.update_manifest(status="interrupted")
    assert training.prepare_run_folder(prepared, run)
    run.update_manifest(status="interrupted", tokenizer_sha256="0" * 64)
    with pytest.raises(UserError, match="not the one that the run in .* began with"):
        training.prepare_run_folder(prepared, run)


def test_a_model_folder_can_be_trained_on_in_bf16_and_its_tokenizer_is_repaired(orca, folder, two):
    base = folder / "base"
    base.mkdir()
    # as LLaMA was first given out: without a tokenizer.json
    for name in ("config.json", "model.safetensors", "tokenizer.model"):
        shutil.copy(two / "model" / name, base)
    keys = ["name=tuned", "model.random=null", "model.tokenizer=null", f"model.base={base}"]
    keys += ["train.precision=bf16", "train.gradient_checkpointing=true", "train.max_steps=2"]
    keys += ["train.processes=1", "train.micro_batch=4"]
    process = orca("train", "r.yaml", *(word for key in keys for word in ("-o", key)))
    assert process.returncode == 0, process.stderr + (folder / "runs/tuned/train.log").read_text()
    assert "this folder's tokenizer is not its SentencePiece model" in process.stdout
    assert tokenizers.find_folder_disagreement(tokenizers.load_tokenizer(base)) is not None
    assert tokenizers.find_folder_disagreement(tokenizers.load_tokenizer(folder / "runs" / "tuned" / "model")) is None
    tuned = losses(folder / "runs" / "tuned")
    assert tuned[0] < losses(two)[0] - 0.5  # it starts from what was learned
    assert {t.dtype for t in load_file(folder / "runs/tuned/model/model.safetensors").values()} == {torch.bfloat16}


def test_a_dry_run_shows_what_would_happen_and_does_nothing(orca, folder):
    process = orca("train", "r.yaml", "-o", "name=dry", "--dry-run")
    assert process.returncode == 0
    for message in ("92 records", "12 steps", "2 × 2 × 2 = 8", "memory per process", "lr: 0.005"):
        assert message in process.stdout, process.stdout
    assert not (folder / "runs" / "dry").exists()


def test_a_dry_run_of_the_cards_recipe_says_what_it_cannot_know_without_the_hub(orca):
    from orca_bench.files import shipped_folder

    process = orca("train", shipped_folder("recipes") / "13b.yaml", "--dry-run")
    assert (
        process.returncode == 0 and "cannot be computed here" in process.stdout and "global_batch: 16" in process.stdout
    )
