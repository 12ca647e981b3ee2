"""A model's divergence from a reference is that of plain PyTorch, whatever is computed at once; other token ids are refused."""

import json
import shutil

import numpy as np
import pytest
import torch
from tiny_llamas import make_model

from orca_bench.errors import UserError
from orca_bench.evaluate import model_divergence
from orca_bench.evaluate.engine import memory_budget
from orca_bench.evaluate.model_divergence import check_same_tokens, measure_divergences
from orca_bench.evaluate.request_encoding import ScoredSequence
from orca_bench.models.model_folder import ModelFolder
from orca_bench.stats.token_divergences import TokenDivergences
from orca_bench.train.record_files import Record
from orca_bench.train.record_sample import sample_responses


def _copy_with_state(source, target, change):
    """A copy of a model folder with a changed state."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, target)
    (weights_file,) = target.glob("*.safetensors")
    save_file(change(load_file(weights_file)), weights_file, metadata={"format": "pt"})
    return target


def _perturb(state):
    import torch

    generator = torch.Generator().manual_seed(0)
    return {name: each + 0.02 * torch.randn(each.shape, generator=generator) for name, each in state.items()}


def _with_nan(state):
    name = next(name for name in state if name.endswith("q_proj.weight"))
    return state | {name: state[name] * float("nan")}


def _with_dynamic_rope(source, target, original_window):
    """A copy whose rotary frequencies depend on the length beyond `original_window` tokens, which no tree can follow."""
    shutil.copytree(source, target)
    config = json.loads((target / "config.json").read_text())
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    config |= {"rope_parameters": rope, "max_position_embeddings": original_window}
    (target / "config.json").write_text(json.dumps(config))
    return target


@pytest.fixture(scope="module")
def folders(tiny_model, tmp_path_factory):
    """The tiny model, and the same with random numbers added to its weights."""
    perturbed = _copy_with_state(tiny_model, tmp_path_factory.mktemp("perturbed") / "perturbed", _perturb)
    return ModelFolder(str(tiny_model)), ModelFolder(str(perturbed))


@pytest.fixture(scope="module")
def sequences(folders, mini_records):
    """Forty records; several share their system message, two are the same."""
    records = [Record(r["system"], r["instruction"], r["input"], r["response"]) for r in mini_records[:40]]
    examples, _ = sample_responses([*records, records[0]], folders[0].tokenizer, 1024, 10**9, "--records")
    return [
        ScoredSequence(examples.example(index).tolist(), int(examples.prompt_lengths[index])) for index in range(41)
    ]


def _by_record(divergences):
    """The arrays in the order of the records; within a record they are in the order of its tokens."""
    order = np.argsort(divergences.record_labels, kind="stable")
    return {name: getattr(divergences, name)[order] for name in TokenDivergences.__dataclass_fields__}


def _plain_divergences(reference, model, sequences):
    """The same from transformers, a record at a time."""
    import torch
    from transformers import AutoModelForCausalLM

    networks = [
        AutoModelForCausalLM.from_pretrained(each.path, dtype=torch.float32).eval() for each in (reference, model)
    ]
    columns = []
    for sequence in sequences:
        ids, start = torch.tensor([sequence.token_ids]), sequence.scored_start
        with torch.no_grad():
            for network in networks:
                network(ids[:, :1])  # brings rotary frequencies that grew back to those of a short text
            p, q = (network(ids[:, :-1]).logits[0, start - 1 :].double().log_softmax(-1) for network in networks)
        targets = ids[0, start:, None]
        kl = torch.nn.functional.kl_div(q, p, reduction="none", log_target=True).sum(-1)
        same_top = p.argmax(-1) == q.argmax(-1)
        columns.append((kl, q.gather(1, targets)[:, 0], p.gather(1, targets)[:, 0], same_top))
    return [torch.cat(parts).numpy() for parts in zip(*columns, strict=True)]


def _expect_plain_divergences(reference, model, sequences, divergences):
    divergences_by_record = _by_record(divergences)
    kl, log_probabilities, reference_log_probabilities, same_top = _plain_divergences(reference, model, sequences)
    assert divergences_by_record["kl_divergences"] == pytest.approx(kl, rel=1e-4, abs=1e-6) and kl.mean() > 1e-3
    assert divergences_by_record["log_probabilities"] == pytest.approx(log_probabilities, abs=1e-4)
    assert divergences_by_record["reference_log_probabilities"] == pytest.approx(reference_log_probabilities, abs=1e-4)
    assert (divergences_by_record["has_same_top"] == same_top).mean() > 0.999 and not same_top.all()
    lengths = [len(sequence.token_ids) - sequence.scored_start for sequence in sequences]
    assert divergences_by_record["record_labels"].tolist() == np.repeat(np.arange(len(sequences)), lengths).tolist()


def test_a_model_does_not_diverge_from_itself(folders, sequences):
    (divergences,) = measure_divergences(folders[0], [folders[0]], sequences)
    assert divergences.kl_divergences == pytest.approx(0, abs=1e-9) and divergences.has_same_top.all()
    assert divergences.log_probabilities == pytest.approx(divergences.reference_log_probabilities, abs=1e-4)


def test_a_perturbed_model_diverges_as_plain_pytorch_says(folders, sequences):
    reference, model = folders
    counts = []
    (divergences,) = measure_divergences(reference, [model], sequences, lambda *count: counts.append(count))
    _expect_plain_divergences(reference, model, sequences, divergences)
    assert counts[-1][0] == counts[-1][1] and counts == sorted(counts)


def test_what_is_computed_at_once_changes_nothing(folders, sequences, monkeypatch):
    reference, model = folders
    divergences_by_run = [_by_record(measure_divergences(reference, [model], sequences)[0])]
    monkeypatch.setattr(memory_budget, "max_batch_tokens", lambda *_: 37)
    monkeypatch.setattr(model_divergence, "_POSITIONS_AT_ONCE", 5)
    divergences_by_run.append(_by_record(measure_divergences(reference, [model], sequences)[0]))
    for name, values in divergences_by_run[0].items():
        assert values.astype(float) == pytest.approx(divergences_by_run[1][name].astype(float), rel=1e-3, abs=1e-5), (
            name
        )


def test_several_models_are_each_measured_beside_the_reference(folders, sequences):
    reference, model = folders
    alone, same = measure_divergences(reference, [model, reference], sequences)
    assert alone.kl_divergences.mean() > 1e-3 and same.kl_divergences == pytest.approx(0, abs=1e-9)


def test_a_model_that_fits_no_tree_is_computed_by_plain_passes(folders, sequences, tmp_path):
    dynamic = ModelFolder(str(_with_dynamic_rope(folders[1].path, tmp_path / "dynamic", 64)))
    assert max(len(sequence.token_ids) for sequence in sequences) > 64
    (divergences,) = measure_divergences(folders[0], [dynamic], sequences)
    _expect_plain_divergences(folders[0], dynamic, sequences, divergences)


def test_weights_that_are_no_numbers_are_refused_by_the_models_name(folders, sequences, tmp_path):
    broken = _copy_with_state(folders[0].path, tmp_path / "broken", _with_nan)
    with pytest.raises(UserError, match=r"broken: the model gives NaN or infinity; its weights are broken"):
        measure_divergences(folders[0], [ModelFolder(str(broken))], sequences)


def _raise(error):
    def forward(*_, **__):
        raise error

    return forward


def test_a_model_that_cannot_be_evaluated_is_refused_by_its_name(folders, sequences, tmp_path, monkeypatch):
    from transformers import LlamaForCausalLM

    dynamic = _with_dynamic_rope(folders[0].path, tmp_path / "dynamic", 64)
    monkeypatch.setattr(LlamaForCausalLM, "forward", _raise(TypeError("an image is missing")))
    with pytest.raises(UserError, match=r"dynamic: the model cannot be fed ids alone \(TypeError: an image is missing"):
        measure_divergences(ModelFolder(str(dynamic)), [folders[1]], sequences)


@pytest.mark.parametrize("name", ["to", "forward"])
def test_memory_that_is_too_small_for_the_models_is_said_while_they_are_loaded_and_computed(
    folders, sequences, monkeypatch, name
):
    from transformers import LlamaForCausalLM, LlamaModel

    patched = LlamaForCausalLM if name == "to" else LlamaModel
    monkeypatch.setattr(patched, name, _raise(torch.OutOfMemoryError("as a GPU would")))
    with pytest.raises(UserError, match="out of memory with 3 models at once; measure fewer in one command"):
        measure_divergences(folders[0], [folders[1], folders[0]], sequences)


def test_models_with_other_token_ids_are_refused(folders, sentencepiece_models, tmp_path):
    check_same_tokens(*folders)
    other = {kind: make_model(tmp_path / kind, sentencepiece_models[kind]) for kind in ("llama", "no_prefix")}
    with pytest.raises(UserError, match="a vocabulary of .*, and .* in "):
        check_same_tokens(folders[0], ModelFolder(str(other["llama"])))
    with pytest.raises(UserError, match="another tokenizer than .* only models with the same token ids"):
        check_same_tokens(ModelFolder(str(other["llama"])), ModelFolder(str(other["no_prefix"])))
