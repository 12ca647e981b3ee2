"""An exported model in other hands: plain transformers alone, from bases with several kinds of tokenizers."""

import json
import shutil

import pytest
import torch
from encoded_records import encode_record
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaConfig, pipeline

from orca_bench import prompt, tokenizers
from orca_bench.train import student_model
from orca_bench.train.record_files import Record

#: Spelled out in a message, none of them may become a token.
SPECIAL = ("<s>", "</s>", "<unk>", "<|im_end|>", "<|begin_of_text|>", "<|eot_id|>", "[PAD]")


def base(folder, rows, **ids):
    """A tiny model whose configuration stands beside a tokenizer. Its sampling is set as Llama 2's, which cannot be saved."""
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=rows, max_position_embeddings=512, **shape, **ids))
    model.config.save_pretrained(folder)
    model.generation_config = GenerationConfig(**ids)
    model.generation_config.save_pretrained(folder)
    model.generation_config.temperature = 0.6
    return model


@pytest.fixture(params=["llama", "hermes", "unigram", "pad", "llama_without_bos", "byte_level", "no_bos", "smollm2"])
def student_of(request, tmp_path, sentencepiece_models, byte_level):
    """(tokenizer of the base, exported folder), for each kind of base."""
    folder = tmp_path / "base"
    if request.param == "smollm2":
        shutil.copytree(request.getfixturevalue("real_tokenizer_folder"), folder)
        model = base(folder, 49_152, bos_token_id=1, eos_token_id=2)
    elif request.param in ("byte_level", "no_bos"):
        shutil.copytree(byte_level, folder)
        ids = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
        bos, end, _, turn = (token["id"] for token in ids)
        if request.param == "byte_level":
            model = base(folder, 768, bos_token_id=bos, eos_token_id=[end, turn])
        else:
            settings = {"bos_token": None, "eos_token": "<|eot_id|>", "add_bos_token": False}
            (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
            model = base(folder, 768, bos_token_id=None, eos_token_id=end)
    else:
        folder.mkdir()
        kind = "unigram" if request.param == "unigram" else "llama"
        shutil.copy(sentencepiece_models[kind], folder / "tokenizer.model")
        pieces = tokenizers.load_tokenizer(folder).vocab_size
        names = {"hermes": ["<|im_end|>", "<|im_start|>"], "pad": ["[PAD]"]}.get(request.param, [])
        settings = {"bos_token": "<s>", "unk_token": "<unk>", "eos_token": "</s>"}
        settings |= {
            "hermes": {"eos_token": "<|im_end|>"},
            "pad": {"pad_token": "[PAD]"},
            "llama_without_bos": {"bos_token": None},
        }.get(request.param, {})
        (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
        added = {name: pieces + number for number, name in enumerate(names)}
        (folder / "added_tokens.json").write_text(json.dumps(added), encoding="utf-8")
        model = base(
            folder, pieces + len(names) + 3, bos_token_id=1, eos_token_id=pieces if "hermes" in request.param else 2
        )
    model.config.use_cache = False  # as in training
    tokenizer = tokenizers.load_tokenizer(folder)
    student_model.save_model(model, tokenizer, tmp_path / "student", {"run": "r", "step": 1})
    return tokenizer, tmp_path / "student"


def messages(text):
    return prompt.chat_messages("S", text)


def test_the_chat_template_gives_the_ids_of_training(student_of):
    tokenizer, folder = student_of
    plain = AutoTokenizer.from_pretrained(folder)
    texts = [*(f"a {token} b" for token in SPECIAL), *SPECIAL, *tokenizers.probe_texts(200, seed=31)]
    for text in texts:
        ids, length = encode_record(Record("S", text, None, "Yes."), tokenizer, 4096)
        assert ids[: len(tokenizer.prefix)] == tokenizer.prefix
        encoded = plain.apply_chat_template(messages(text), add_generation_prompt=True)["input_ids"]
        # A server renders first and encodes then.
        rendered = plain.apply_chat_template(messages(text), add_generation_prompt=True, tokenize=False)
        again = plain(rendered, add_special_tokens=False)["input_ids"]
        if not getattr(tokenizer, "is_bpe", True):
            # tokenizers takes another of two segmentations of equal score.
            encoded, again, ids = sorted(encoded), sorted(again), [*sorted(ids[:length]), *ids[length:]]
        assert encoded == again == ids[:length], text


def test_texts_of_unequal_length_are_padded_by_a_token_that_the_model_has(student_of):
    tokenizer, folder = student_of
    plain, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    chats = [messages("a"), messages("what is longer than that")]
    options = {"add_generation_prompt": True, "return_tensors": "pt"}
    batch = plain.apply_chat_template(chats, padding=True, return_dict=True, **options)
    assert plain.pad_token_id == model.config.pad_token_id == model.generation_config.pad_token_id == tokenizer.pad_id
    assert plain.pad_token_id < model.config.vocab_size == len(model.get_input_embeddings().weight)
    together = model.generate(**batch, max_new_tokens=4, do_sample=False)
    alone = model.generate(
        **plain.apply_chat_template(chats[0], return_dict=True, **options), max_new_tokens=4, do_sample=False
    )
    assert together[0, -4:].tolist()[: len(alone[0])] == alone[0, -4:].tolist()


def test_the_configurations_agree_with_the_tokenizer_and_with_one_another(student_of):
    tokenizer, folder = student_of
    config, generation = (
        json.loads((folder / name).read_text(encoding="utf-8")) for name in ("config.json", "generation_config.json")
    )
    assert config["use_cache"] is True
    assert config["eos_token_id"] == tokenizer.eos_id and config.get("bos_token_id") == tokenizer.bos_id
    ends = generation["eos_token_id"]
    assert tuple(ends if isinstance(ends, list) else [ends]) == tokenizer.stop_ids
    assert "temperature" not in generation
    plain = AutoTokenizer.from_pretrained(folder)
    assert (plain.bos_token_id, plain.eos_token_id) == (tokenizer.bos_id, tokenizer.eos_id)


def test_what_is_exported_is_the_tokenizer_that_was_loaded(student_of):
    tokenizer, folder = student_of
    again = tokenizers.load_tokenizer(folder)
    assert type(again) is type(tokenizer)
    for name in (
        "bos_id",
        "eos_id",
        "stop_ids",
        "special_ids",
        "pad_id",
        "unk_id",
        "adds_bos",
        "vocab_size",
        "min_model_vocab_size",
    ):
        assert getattr(again, name) == getattr(tokenizer, name), name
    for text in [*SPECIAL, *tokenizers.probe_texts(300, seed=32)]:
        assert again.encode(text) == tokenizer.encode(text)
        assert again.decode(again.encode(text)) == tokenizer.decode(tokenizer.encode(text))


def test_a_pipeline_talks_to_the_model_as_it_was_trained(student_of):
    tokenizer, folder = student_of
    talk = pipeline("text-generation", model=str(folder), device="cpu")
    ids = torch.tensor([[*tokenizer.prefix, *tokenizer.encode(prompt.render("S", "Say </s>."))]])
    # Without a mask `generate` does not attend to the id of padding, which the unigram prompt has as its unknown token.
    out = talk.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)
    answer = talk(messages("Say </s>."), max_new_tokens=8, do_sample=False)[0]["generated_text"][-1]["content"]
    assert answer == talk.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
