"""Our class and lm-eval's `hf` on lm-eval's own tasks over invented rows: the same values, log-probabilities and texts."""

import math
from pathlib import Path

import lm_eval
import pytest
from harness_rows import write_rows
from lm_eval.evaluator import evaluate, simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from tiny_llamas import make_model

from orca_bench.evaluate.harness.lm_eval_run import hide_harness_log
from orca_bench.evaluate.harness.named_tasks import explained_rows, load_named_tasks
from orca_bench.evaluate.harness.registered_model import OrcaBenchLM

#: Tasks of every kind of request, with process_docs, custom metrics, filters, several inputs, and empty contexts.
TASKS = (
    *("arc_easy", "asdiv", "blimp_adjunct_island", "boolq", "cb", "cola", "commonsense_qa", "copa", "lambada_openai"),
    *("mmlu_anatomy", "mmlu_astronomy", "openbookqa", "pile_10k", "piqa", "race", "sciq", "wikitext", "winogrande"),
    *("bbh_cot_fewshot_boolean_expressions", "cycle_letters", "drop", "gsm8k_cot", "hendrycks_math_algebra"),
    *("mmlu_pro_biology", "nq_open", "triviaqa"),
)
FOLDERS = (
    *("arc", "asdiv", "blimp", "super_glue", "glue/cola", "commonsense_qa", "lambada", "mmlu/default", "openbookqa"),
    *("pile_10k", "piqa", "race", "sciq", "wikitext", "winogrande", "bbh/cot_fewshot", "unscramble", "drop", "gsm8k"),
    *("hendrycks_math", "mmlu_pro", "nq_open", "triviaqa"),
)


@pytest.fixture(scope="module")
def manager():
    folder = Path(lm_eval.__file__).parent / "tasks"
    return TaskManager(include_path=[str(folder / name) for name in FOLDERS], include_defaults=False)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("rows"), 3)


@pytest.fixture(scope="module")
def folders(tmp_path_factory, mini, byte_level):
    """Models of random weights, with the mini suite's SentencePiece tokenizer and with a byte-level BPE."""
    folder = tmp_path_factory.mktemp("models")
    tokenizers = {"sentencepiece": mini["mini:tokenizer"], "byte_level": byte_level}
    return {
        name: make_model(folder / name, tokenizer, max_position_embeddings=2048)
        for name, tokenizer in tokenizers.items()
    }


def both(folder, **arguments):
    return (
        HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=1, **arguments),
        OrcaBenchLM(pretrained=str(folder), dtype="float32", **arguments),
    )


def results_of(model, names, manager, rows, few_shot_count=None, **options):
    named_tasks = load_named_tasks(names, rows, manager, few_shot_count)
    for task in named_tasks.tasks_by_name.values():
        if task.OUTPUT_TYPE == "generate_until":
            task.set_config("generation_kwargs", {"max_gen_toks": 12}, update=True)
    hide_harness_log()
    with explained_rows(rows):
        return evaluate(lm=model, task_dict=named_tasks.as_task_dict(), bootstrap_iters=0, log_samples=True, **options)


def assert_equal_results(expected, result):
    for name, samples in expected["samples"].items():
        for sample, own_sample in zip(samples, result["samples"][name], strict=True):
            assert sample["arguments"] == own_sample["arguments"]
            for response, own_response in zip(_values(sample["resps"]), _values(own_sample["resps"]), strict=True):
                assert type(own_response) is type(response)
                if isinstance(response, float):
                    # `hf` adds up in float32: of a whole text, whose sum is large, an ulp is more than 1e-4.
                    assert own_response == pytest.approx(response, abs=1e-4, rel=1e-6), name
                else:
                    assert own_response == response, name
    for name, values in expected["results"].items():
        for key, value in values.items():
            if isinstance(value, float) and not math.isnan(value):
                assert result["results"][name][key] == pytest.approx(value, abs=1e-4, rel=1e-4), (name, key)
            elif key.endswith(",none"):
                assert str(result["results"][name][key]) == str(value)


def _values(responses):
    for response in responses:
        if isinstance(response, list | tuple):
            yield from _values(response)
        else:
            yield response


@pytest.mark.parametrize(("kind", "first"), [("byte_level", 0), ("sentencepiece", 1)])
def test_every_kind_of_task_has_the_values_of_hf(folders, manager, rows, kind, first):
    names = TASKS[first::2]  # each task with one of the two models
    hf, ours = both(folders[kind])
    assert_equal_results(results_of(hf, names, manager, rows), results_of(ours, names, manager, rows))


def test_few_shot_examples_and_cut_contexts_are_those_of_hf(folders, manager, rows):
    names = ["arc_easy", "copa", "cola", "nq_open", "triviaqa", "winogrande"]
    hf, ours = both(folders["byte_level"], max_length=60)
    result = results_of(ours, names, manager, rows, 2)
    assert_equal_results(results_of(hf, names, manager, rows, 2), result)
    assert ours.encoding.shortened_context_count > 3


@pytest.mark.parametrize("window_tokens", [7, 64])
def test_a_whole_text_that_is_longer_than_the_window_has_the_value_of_hf(folders, manager, rows, window_tokens):
    names = ["wikitext", "pile_10k"]
    hf, ours = both(folders["sentencepiece"], max_length=window_tokens)
    assert_equal_results(results_of(hf, names, manager, rows), results_of(ours, names, manager, rows))


@pytest.mark.parametrize("arguments", [{"add_bos_token": False}, {"add_bos_token": True}, {"prefix_token_id": 5}])
def test_bos_is_where_the_arguments_of_hf_put_it(folders, manager, rows, arguments):
    names = ["blimp_adjunct_island", "lambada_openai", "nq_open", "pile_10k"]
    hf, ours = both(folders["byte_level"], **arguments)
    assert_equal_results(results_of(hf, names, manager, rows), results_of(ours, names, manager, rows))


@pytest.mark.parametrize("multiturn", [True, False])
def test_chat_templates_are_rendered_and_tokenized_as_by_hf(folders, manager, rows, multiturn):
    names = ["arc_easy", "nq_open"]
    hf, ours = both(folders["byte_level"])
    for model in (hf, ours):
        model.tokenizer.chat_template = (
            "{{ bos_token }}{% for message in messages %}<|pad|>{{ message.role }}: {{ message.content }}<|eot_id|>\n"
            "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
        )
    options = {
        "apply_chat_template": True,
        "fewshot_as_multiturn": multiturn,
        "system_instruction": "Answer in one word.",
    }
    expected = results_of(hf, names, manager, rows, 2, **options)
    assert "Answer in one word" in expected["samples"]["nq_open"][0]["arguments"][0][0]
    assert_equal_results(expected, results_of(ours, names, manager, rows, 2, **options))
    assert ours.chat_template(True) == hf.chat_template(True) and ours.tokenizer_name == hf.tokenizer_name


def test_a_special_token_that_is_a_stop_string_ends_a_text_as_in_hf(folders, manager, rows):
    """SmolLM's chat template ends turns by a token that is not EOS; tasks name it among their stop strings."""
    hf, ours = both(folders["byte_level"])
    for model in (hf, ours):
        head = (model.model if model is hf else model.engine.model).get_output_embeddings().weight.data
        head[model.tokenizer.convert_tokens_to_ids("<|eot_id|>")] *= 40  # now it is often the likeliest token
    texts = {}
    for stop_string in ("<|eot_id|>", "never"):
        for model in (hf, ours):
            named_tasks = load_named_tasks(["triviaqa"], rows, manager)
            named_tasks.tasks_by_name["triviaqa"].set_config(
                "generation_kwargs", {"until": stop_string, "max_gen_toks": 20}
            )
            with explained_rows(rows):
                result = evaluate(lm=model, task_dict=named_tasks.as_task_dict(), bootstrap_iters=0, log_samples=True)
            texts[stop_string, model] = [sample["resps"] for sample in result["samples"]["triviaqa"]]
    assert texts["<|eot_id|>", hf] == texts["<|eot_id|>", ours] != texts["never", ours] == texts["never", hf]


def test_repeats_of_a_sampled_task_differ_and_are_the_same_next_time(folders, manager, rows):
    ours = OrcaBenchLM(pretrained=str(folders["byte_level"]), dtype="float32", seed=5)
    responses = []
    for _ in range(2):
        named_tasks = load_named_tasks(["gsm8k_cot_self_consistency"], rows, manager)
        task = named_tasks.tasks_by_name["gsm8k_cot_self_consistency"]
        task.set_config("generation_kwargs", {"max_gen_toks": 6, "temperature": 2.0}, update=True)
        task.set_config("repeats", 9)
        with explained_rows(rows):
            result = evaluate(
                lm=ours, task_dict=named_tasks.as_task_dict(), limit=2, bootstrap_iters=0, log_samples=True
            )
        assert set(result["results"]["gsm8k_cot_self_consistency"]) >= {"exact_match,maj@64", "exact_match,maj@8"}
        responses.append([sample["resps"][0] for sample in result["samples"]["gsm8k_cot_self_consistency"]])
    assert responses[0] == responses[1] and all(len(set(texts)) == 9 for texts in responses[0])
    assert ours.get_model_info()["sampling_seed"] == 5


def test_lm_evals_simple_evaluate_takes_the_class_by_its_name(folders, manager, rows):
    from orca_bench.evaluate.harness.lm_eval_command import MODEL_NAME, register_model

    register_model()
    register_model()  # a second time changes nothing
    with explained_rows(rows):
        result = simple_evaluate(
            model=MODEL_NAME,
            model_args={"pretrained": str(folders["byte_level"]), "dtype": "float32"},
            tasks=["arc_easy"],
            task_manager=manager,
            bootstrap_iters=0,
            torch_random_seed=77,
        )
    assert result["config"]["engine"]["path"] == "tree" and result["config"]["sampling_seed"] == 77
    assert result["tokenizer_bos_token"][0] == "<|begin_of_text|>"


def test_answers_are_in_lm_evals_cache_as_soon_as_they_are_computed(folders, manager, rows, tmp_path, monkeypatch):
    from lm_eval.api.model import CachingLM, hash_args

    from orca_bench.evaluate.answers import portions

    ours = OrcaBenchLM(pretrained=str(folders["byte_level"]), dtype="float32")
    caching = CachingLM(ours, str(tmp_path / "cache.db"))
    monkeypatch.setattr(portions, "SCORING_PORTION_TOKENS", 40)
    portion_count, compute = 0, ours.engine.log_likelihoods

    def stop_in_second_portion(*arguments):
        nonlocal portion_count
        portion_count += 1
        if portion_count == 2:
            raise KeyboardInterrupt
        return compute(*arguments)

    monkeypatch.setattr(ours.engine, "log_likelihoods", stop_in_second_portion)
    task = load_named_tasks(["arc_easy"], rows, manager).tasks_by_name["arc_easy"]
    task.build_all_requests()
    with pytest.raises(KeyboardInterrupt):
        caching.loglikelihood(task.instances)
    keys = [hash_args("loglikelihood", instance.args) for instance in task.instances]
    kept_count = sum(key in caching.dbdict for key in keys)
    assert 0 < kept_count < len(keys)
    monkeypatch.undo()
    again = OrcaBenchLM(pretrained=str(folders["byte_level"]), dtype="float32")
    for answer, expected in zip(
        caching.loglikelihood(task.instances), again.loglikelihood(task.instances), strict=True
    ):
        assert answer[0] == pytest.approx(expected[0], abs=1e-5) and answer[1] == expected[1]
