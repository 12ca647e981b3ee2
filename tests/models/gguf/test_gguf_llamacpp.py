"""llama.cpp itself runs what is exported: every type, the Orca prompt, token ids, and in float32 the texts of the engine here."""

import pytest

pytest.importorskip("xllamacpp")
pytest.importorskip("libgguf")

import torch  # noqa: E402
from trained_llamas import make_trained_model  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402

from orca_bench import prompt  # noqa: E402
from orca_bench.evaluate.engine import tree_engine  # noqa: E402
from orca_bench.models.gguf import gguf_import, llamacpp_server  # noqa: E402
from orca_bench.models.gguf.gguf_export import export_gguf  # noqa: E402
from orca_bench.models.gguf.gguf_types import FILE_TYPES  # noqa: E402
from orca_bench.models.gguf.gguf_verification import verify  # noqa: E402
from orca_bench.models.gguf.llamacpp_server import LlamaCppSettings  # noqa: E402
from orca_bench.models.model_folder import ModelFolder  # noqa: E402
from orca_bench.models.model_loading import load_on_cpu  # noqa: E402
from orca_bench.tokenizers import probe_texts  # noqa: E402

#: As exact as llama.cpp computes.
EXACT = LlamaCppSettings(1024, cache_type="f32", uses_flash_attention=False, thread_count=1)
NEW_TOKENS = 40
TIE_NATS = 1e-3


@pytest.mark.parametrize("type_name", list(FILE_TYPES))
def test_llamacpp_loads_every_type_and_computes_the_same(wide_llama, tmp_path, type_name):
    export_gguf(ModelFolder(str(wide_llama)), tmp_path / "m.gguf", type_name)
    gguf_import.import_gguf(gguf_import.read_gguf(tmp_path / "m.gguf"), tmp_path / "model")
    report = verify(tmp_path / "m.gguf", tmp_path / "model", position_count=20)
    assert report.is_equal, str(report)


@pytest.fixture(scope="module", params=["mini", "llama", "symbols", "llama-bpe"])
def exported(request, llamas, gguf_files):
    """A model folder and llama.cpp with its file in float32, by kind of tokenizer."""
    with llamacpp_server.serve(gguf_files[request.param], EXACT) as server:
        yield ModelFolder(str(llamas[request.param])), server


CONVERSATIONS = {
    "system and user": [
        {"role": "system", "content": "You are terse."},
        {"role": "user", "content": "Say <b>hi</b>\n"},
    ],
    "user alone": [{"role": "user", "content": "What is 2 + 2?"}],
    "with an input": prompt.chat_messages("You are terse.", "Summarise it.", "Some text.\n\n### User:\nand more"),
    "several turns": [
        {"role": "system", "content": "You are terse."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "Two."},
        {"role": "user", "content": "Three? é 你好"},
    ],
}


@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_llamacpp_renders_the_chat_template_as_transformers_does(exported, conversation):
    folder, server = exported
    rendered = server.post("/apply-template", {"messages": CONVERSATIONS[conversation]})["prompt"]
    transformers_tokenizer = AutoTokenizer.from_pretrained(folder.path)
    transformers_text = transformers_tokenizer.apply_chat_template(
        CONVERSATIONS[conversation], tokenize=False, add_generation_prompt=True
    )
    bos = folder.tokenizer.spelling(folder.tokenizer.bos_id)
    assert rendered == transformers_text.removeprefix(bos)  # llama.cpp adds BOS when it encodes


@pytest.mark.parametrize(
    "system, instruction, input_text",
    [("You are terse.", "What is 2 + 2?", None), ("", "Hi", None), ("S é", "Sum it up.", "one\n\ntwo")],
)
def test_the_rendered_prompt_is_the_orca_prompt(exported, system, instruction, input_text):
    folder, server = exported
    messages = prompt.chat_messages(system, instruction, input_text)
    rendered = server.post("/apply-template", {"messages": messages})["prompt"]
    assert rendered == prompt.render(system, instruction, input_text)
    request = {"content": rendered, "add_special": True, "parse_special": False}
    own_ids = [*folder.tokenizer.prefix, *folder.tokenizer.encode(rendered)]
    assert server.post("/tokenize", request)["tokens"] == own_ids
    if not system:
        assert server.post("/apply-template", {"messages": messages[1:]})["prompt"] == rendered


def test_token_ids_of_adversarial_texts_are_the_same(exported):
    folder, server = exported
    for text in probe_texts(500, seed=9):
        request = {"content": text, "add_special": False, "parse_special": False}
        assert server.post("/tokenize", request)["tokens"] == folder.tokenizer.encode(text), repr(text)


@pytest.mark.slow
def test_a_trained_models_greedy_texts_are_those_of_the_engine_here(tmp_path, mini, mini_records):
    """Fifty prompts; where two tokens are as probable but for 0.001 nats, either may be first."""
    shape = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2}
    folder = ModelFolder(str(make_trained_model(tmp_path / "m", mini["mini:tokenizer"], mini_records[:2000], **shape)))
    export_gguf(folder, tmp_path / "m.gguf", "f32")
    tokenizer = folder.tokenizer
    records = mini_records[2000:2050]
    texts = [prompt.render(record["system"], record["instruction"], record.get("input")) for record in records]
    prompts = [[*tokenizer.prefix, *ids] for ids in tokenizer.encode_batch(texts)]
    continuations = tree_engine.load_engine(folder, "float32").generate_ids(
        prompts, lambda index, ids: ids[-1] in tokenizer.stop_ids, NEW_TOKENS
    )
    model = load_on_cpu(folder.path, "float32")
    same_count = 0
    with llamacpp_server.serve(tmp_path / "m.gguf", EXACT) as server:
        for prompt_ids, own_ids in zip(prompts, continuations, strict=True):
            request = {"prompt": prompt_ids, "n_predict": NEW_TOKENS, "temperature": 0, "return_tokens": True}
            llamacpp_ids = server.post("/completion", request)["tokens"]
            same_count += llamacpp_ids == own_ids
            assert llamacpp_ids == own_ids or _is_tie(model, prompt_ids, own_ids, llamacpp_ids)
    assert len({tuple(ids) for ids in continuations}) >= 10 and same_count >= 45


def _is_tie(model, prompt_ids, own_ids, other_ids):
    """Whether two continuations part at tokens that are as probable but for TIE_NATS."""
    pairs = zip(own_ids, other_ids, strict=False)
    position = next((index for index, (own, other) in enumerate(pairs) if own != other), None)
    if position is None:  # one ends where the other goes on
        return False
    with torch.inference_mode():
        log_probabilities = model(torch.tensor([[*prompt_ids, *own_ids[:position]]])).logits[0, -1].log_softmax(-1)
    return float(log_probabilities[own_ids[position]] - log_probabilities[other_ids[position]]) < TIE_NATS
