"""Checkpoints of a real DeepSpeed engine in this process: what is written while training goes on, and what is loaded."""

import contextlib
import os
import shutil
import threading
from collections import OrderedDict
from types import SimpleNamespace

import pytest
import torch
from file_sizes import no_room_for
from waiting import eventually

from orca_bench import child_processes, disk_space, library_settings
from orca_bench.errors import UserError
from orca_bench.recipe import Recipe
from orca_bench.train import checkpoint_conversion, checkpoint_files
from orca_bench.train import checkpoints as checkpoints_module
from orca_bench.train.checkpoint_files import checkpoint_problem, newest_checkpoint
from orca_bench.train.checkpoints import Checkpoints, copy_to_main_memory
from orca_bench.train.deepspeed_engine import deepspeed_config, without_shared_memory_operator
from orca_bench.train.model_flops import engine_utilization


@pytest.fixture(scope="module")
def new_engine():
    """Makes DeepSpeed engines of one process around the same random weights."""
    library_settings.prepare_libraries()
    import deepspeed
    from transformers import LlamaConfig, LlamaForCausalLM

    variables = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "MASTER_ADDR": "127.0.0.1"}
    variables["MASTER_PORT"] = child_processes.find_free_port()

    def start(zero_stage=3, precision="fp32", hidden_size=32, is_converted=False, frozen_name=None):
        train = {"zero_stage": zero_stage, "precision": precision, "processes": 1, "micro_batch": 16}
        sections = {"model": {"base": "-"}, "data": {"records": ["-"]}}
        recipe = Recipe.model_validate({"name": "r", "train": train} | sections)
        shape = {"num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 300, "tie_word_embeddings": True}
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(hidden_size=hidden_size, intermediate_size=64, **shape))
        model = model.bfloat16() if precision == "bf16" else model
        if frozen_name is not None:
            model.get_parameter(frozen_name).requires_grad_(False)
        trained_parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained_parameters, lr=5e-3, fused=True)
        config = deepspeed_config(recipe, is_converted)
        config["zero_optimization"] |= {
            "sub_group_size": 10_000,  # several parts, as models of more than 1e9 parameters have
            # By default 2 GB of addresses an engine: with a dozen of them Linux refuses to fork this process.
            "reduce_bucket_size": 100_000,
        }
        return deepspeed.initialize(model=model, optimizer=optimizer, config=config)[0]

    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, str(value))
        # DeepSpeed replaces it for the rest of the process by one that rounds otherwise.
        patch.setattr(torch.nn.functional, "linear", torch.nn.functional.linear)
        with without_shared_memory_operator():
            deepspeed.init_distributed(dist_backend="gloo")
        yield start
        torch.distributed.destroy_process_group()


def train(engine, seed):
    """One optimizer step on random ids; returns the loss."""
    ids = torch.randint(300, (4, 12), generator=torch.Generator().manual_seed(seed))
    loss = engine(input_ids=ids, labels=ids, use_cache=False).loss
    engine.backward(loss)
    engine.step()
    return float(loss.detach())


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


@contextlib.contextmanager
def halted_writes(monkeypatch):
    """Writes in the block wait until the event is set."""
    event, write = threading.Event(), checkpoints_module._write_state
    monkeypatch.setattr(checkpoints_module, "_write_state", lambda *args: event.wait() and write(*args))
    try:
        yield event
    finally:
        event.set()


def trained_one_step(engine, folder):
    """The engine after a step, and its checkpoints, of which that of the step is whole."""
    checkpoints = Checkpoints(engine, folder, 2)
    train(engine, 0)
    checkpoints.save(1)
    checkpoints.wait()
    return engine, checkpoints


@pytest.mark.parametrize(("zero_stage", "precision"), [(3, "fp32"), (3, "bf16"), (2, "bf16"), (1, "fp32"), (0, "fp32")])
def test_steps_that_follow_do_not_get_into_a_checkpoint_and_it_is_marked_once_it_is_written(
    new_engine, folder, monkeypatch, zero_stage, precision
):
    engine = new_engine(zero_stage, precision)
    checkpoints = Checkpoints(engine, folder, 2)
    assert checkpoints.load() == 0
    for seed in (0, 1):
        train(engine, seed)
    with halted_writes(monkeypatch) as event:
        checkpoints.save(2)
        losses = [train(engine, seed) for seed in (2, 3, 4)]
        checkpoints.mark_if_written()
        assert newest_checkpoint(folder) is None
        event.set()
        eventually(lambda: checkpoints.mark_if_written() or newest_checkpoint(folder))
    checkpoints.wait()
    assert sorted(path.name for path in folder.glob("*step*")) == ["step-00000002"]
    manifest = checkpoint_files.read_manifest(folder / "step-00000002")
    assert (manifest.step, manifest.processes) == (2, 1) and manifest.parameters["model.norm.weight"] == [32]
    assert {path.name for path in (folder / "step-00000002").iterdir()} == {"manifest.json", *manifest.files}
    assert checkpoint_problem(folder / "step-00000002", reads_files=True) is None
    continued_engine = new_engine(zero_stage, precision)
    assert Checkpoints(continued_engine, folder, 2).load() == 2
    assert [train(continued_engine, seed) for seed in (2, 3, 4)] == losses


def test_a_second_save_waits_for_the_first_and_the_newest_few_stay(new_engine, folder):
    engine = new_engine()
    checkpoints = Checkpoints(engine, folder, 2)
    for step in range(1, 5):
        train(engine, step)
        checkpoints.save(step)
    assert newest_checkpoint(folder).name == "step-00000003"
    checkpoints.wait()
    assert sorted(path.name for path in folder.glob("*step*")) == ["step-00000003", "step-00000004"]


def test_the_checkpoint_of_another_model_is_refused_by_the_parameter_that_differs(new_engine, folder):
    engine, checkpoints = trained_one_step(new_engine(), folder)
    with pytest.raises(
        UserError, match=r"another model: model.embed_tokens.weight has shape \[300, 32\] there and \[300,"
    ):
        Checkpoints(new_engine(hidden_size=64), folder, 2).load()


def test_a_full_disk_is_said_at_the_next_step_and_the_checkpoint_before_can_be_loaded(new_engine, folder):
    engine, checkpoints = trained_one_step(new_engine(), folder)
    loss = train(engine, 1)
    with no_room_for(100_000):
        checkpoints.save(2)
        with pytest.raises(
            UserError, match=r"checkpoints/.step-00000002.tmp/.*_states.pt: cannot write: File too large; free"
        ):
            eventually(lambda: checkpoints.mark_if_written() or newest_checkpoint(folder).name == "step-00000002")
    assert newest_checkpoint(folder).name == "step-00000001"
    continued_engine = new_engine()
    assert Checkpoints(continued_engine, folder, 2).load() == 1
    assert train(continued_engine, 1) == loss


def test_a_file_that_torch_cannot_load_is_named(new_engine, folder):
    engine, checkpoints = trained_one_step(new_engine(), folder)
    (folder / "step-00000001" / "manifest.json").unlink()  # as of a version before it
    shutil.copy(__file__, next((folder / "step-00000001").glob("*model_states.pt")))
    with pytest.raises(UserError, match=r"step-00000001: the checkpoint cannot be loaded \(.*delete step-00000001"):
        Checkpoints(new_engine(), folder, 2).load()


def test_a_converted_checkpoint_goes_on_with_the_same_losses(new_engine, folder, tmp_path, monkeypatch):
    engine, messages = new_engine(), []
    checkpoints = Checkpoints(engine, folder, 2)
    for seed in (0, 1):
        train(engine, seed)
    checkpoints.save(2)
    checkpoints.wait()
    losses = [train(engine, seed) for seed in range(2, 8)]

    def losses_after_conversion(process_count):
        entries = (process_count, tmp_path / "log", "a test", os.environ)
        checkpoint_conversion.convert_newest(folder, *entries, messages.append)
        engine = new_engine(is_converted=checkpoint_conversion.is_converted(folder))
        assert Checkpoints(engine, folder, 2).load() == 2
        assert not checkpoint_conversion.is_converted(folder)  # it is removed once it is loaded
        return [train(engine, seed) for seed in range(2, 8)]

    assert losses_after_conversion(1) == losses and not messages
    assert losses_after_conversion(2) == pytest.approx(losses, rel=1e-6)
    assert messages == ["converting step-00000002, which 1 process wrote, for 2 processes"]
    assert sorted(path.name for path in folder.glob("*step*")) == ["step-00000002"]
    assert not (folder / "latest_universal").exists()
    # deepspeed 0.19.8 still gives all parts one step count; else `_separate_step_counts` is no longer needed
    monkeypatch.setattr(checkpoints_module, "_separate_step_counts", lambda engine: None)
    assert losses_after_conversion(2) != pytest.approx(losses, rel=1e-4)


def test_step_counts_are_separate_and_on_the_device_of_their_parameters():
    parameters = [torch.nn.Parameter(torch.zeros(2, device=device)) for device in ("meta", "cpu", "cpu")]
    optimizer, count = torch.optim.AdamW(parameters, fused=True), torch.tensor(7.0)
    for parameter in parameters:
        optimizer.state[parameter]["step"] = count
    checkpoints_module._separate_step_counts(SimpleNamespace(optimizer=optimizer))
    counts = [optimizer.state[parameter]["step"] for parameter in parameters]
    assert [step_count.device.type for step_count in counts] == ["meta", "cpu", "cpu"]
    count += 1
    counts[1].add_(2)
    assert (float(counts[1]), float(counts[2])) == (9, 7)


def test_a_conversion_that_fails_names_the_log_and_the_number_of_processes_that_would_do(new_engine, folder, tmp_path):
    engine, checkpoints = trained_one_step(new_engine(), folder)
    for path in (folder / "step-00000001").glob("*_optim_states.pt"):
        shutil.copy(__file__, path)
    entries = (2, tmp_path / "log", "a test", os.environ)
    (folder / "step-00000001" / "manifest.json").unlink()  # as of a version before it, in which nothing is compared
    with pytest.raises(
        UserError, match=r"step-00000001: the checkpoint of 1 process cannot be converted for 2 .*s to 1 to go on"
    ):
        checkpoint_conversion.convert_newest(folder, *entries)
    assert "Traceback" in (tmp_path / "log").read_text()
    assert sorted(path.name for path in folder.glob("*step*")) == ["step-00000001"]


def test_a_disk_that_is_full_while_a_checkpoint_is_converted_is_named(new_engine, folder, tmp_path, monkeypatch):
    engine, checkpoints = trained_one_step(new_engine(), folder)
    entries = (2, tmp_path / "log", "a test", os.environ)
    converted_folder = checkpoint_conversion.converted_folder(folder / "step-00000001")
    converted_folder.write_text("")  # the folder cannot get this name, as on a full disk
    with pytest.raises(UserError, match=r"converting\.tmp: cannot write: Not a directory"):
        checkpoint_conversion.convert_newest(folder, *entries)
    converted_folder.unlink()
    monkeypatch.setattr(disk_space, "_FULL_DISK_BYTES", 2**63)  # what is free on this disk is too little
    with (
        no_room_for(10_000),
        pytest.raises(UserError, match=r"checkpoints: the disk is full; what was saved before is kept, free"),
    ):
        checkpoint_conversion.convert_newest(folder, *entries)
    monkeypatch.undo()
    assert [path.name for path in folder.glob("*step*")] == ["step-00000001"]
    checkpoint_conversion.convert_newest(folder, *entries)
    assert checkpoint_conversion.is_converted(folder)


def test_a_copy_shares_nothing_with_its_original_and_has_the_same_types():
    tensor = torch.arange(6.0)
    state = OrderedDict(a=[tensor[2:4], (tensor, 5)], b={"shape": torch.Size([2]), "c": [1]}, d=None)
    copied_state = copy_to_main_memory(state)
    tensor += 1
    state["b"]["c"].append(2)
    assert type(copied_state) is OrderedDict and type(copied_state["b"]["shape"]) is torch.Size
    assert copied_state["b"]["c"] == [1] and copied_state["a"][1][1] == 5 and copied_state["d"] is None
    assert copied_state["a"][0].tolist() == [2, 3] and copied_state["a"][0].untyped_storage().nbytes() == 8
    assert copied_state["a"][1][0].tolist() == [0, 1, 2, 3, 4, 5]


def test_without_lora_a_weight_that_the_model_itself_does_not_train_is_treated_as_all_others(new_engine, folder):
    """So runs of such models go on from checkpoints of before there was LoRA."""
    name = "model.norm.weight"
    engine, _ = trained_one_step(new_engine(0, frozen_name=name), folder)
    path = next((folder / "step-00000001").glob("*model_states.pt"))
    state = torch.load(path, weights_only=False)
    assert name in state["module"] and "frozen_weights_sum" not in state
    assert Checkpoints(new_engine(0, frozen_name=name), folder, 2).load() == 1
    assert engine_utilization(engine, has_lora=False) == engine_utilization(new_engine(0), has_lora=False)


@pytest.mark.parametrize("zero_stage", [0, 2, 3])
def test_with_lora_a_checkpoint_has_none_of_the_names_of_a_weight_that_embedding_and_head_share(
    new_engine, folder, zero_stage
):
    name = "model.embed_tokens.weight"
    engine = new_engine(zero_stage, frozen_name=name)
    train(engine, 0)
    checkpoints = Checkpoints(engine, folder, 2, has_lora=True)
    checkpoints.save(1)
    checkpoints.wait()
    path = next((folder / "step-00000001").glob("*model_states.pt"))
    names = set(torch.load(path, weights_only=False)["module"])
    assert "model.norm.weight" in names and not names & {name, "lm_head.weight"}
    continued_engine = new_engine(zero_stage, frozen_name=name)
    assert Checkpoints(continued_engine, folder, 2, has_lora=True).load() == 1
    assert train(continued_engine, 1) == train(engine, 1)
