"""What is known of a model in, the metadata and the sections of its card out, but for its scores.

Everything on a card is taken from the run's files; what they do not say, the card says is not known. Its own module because
these texts are the same with and without scores. A section is Markdown that ends with a line end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from orca_bench import yaml_files
from orca_bench.cards import gguf_text, markdown
from orca_bench.cards.card_document import marked_section
from orca_bench.cards.data_sets import known_data_set
from orca_bench.cards.model_facts import ModelFacts, RecordSet, TrainingFacts, public_name
from orca_bench.disk_space import size_text
from orca_bench.prompt import chat_messages, render
from orca_bench.recipe import Lora, Recipe
from orca_bench.system_messages import DEFAULT_SYSTEM_ID, SYSTEM_MESSAGES

#: The sections of a card in their order: the name in their marks, and the heading (empty: none) above them.
SECTIONS = {
    "summary": "",
    "scores": "Scores",
    "prompt": "Prompt",
    "usage": "Usage",
    "limits": "What it is not good for",
    "training": "Training",
    "data": "Data",
    "licence": "Licence",
    "provenance": "Hashes and versions",
}

#: What stands on a new card above its sections, unseen.
EXPLANATION = (
    "<!-- Written by orca-bench. What stands between the marks `begin` and `end` is written anew by `orca-bench publish`; "
    "all other text is yours and is kept. To keep a section as you have edited it, delete its two marks. -->"
)
#: The hub's word for a licence that is not known.
UNKNOWN_LICENSE = "unknown"
_METADATA_ORDER = ("language", "license", "library_name", "pipeline_tag", "base_model", "datasets", "tags")
_EXAMPLE_QUESTION = "Why is the sky blue?"
#: A question of the generated corpus, which is all that a demonstration was taught.
_DEMONSTRATION_QUESTION = "Q: Where does the frog live?\nA:"
_EXAMPLE_INSTRUCTION, _EXAMPLE_INPUT = "Summarise the text in one sentence.", "The sky is blue because …"
_EXAMPLE_MAX_NEW_TOKENS = 256
_MOST_NAMED_TEACHERS = 5
#: Parts of the names of models whose providers' terms are about what is trained on their answers.
_COMMERCIAL_TEACHERS = ("gpt", "claude", "gemini")


def new_card_text(metadata_yaml: str, facts: ModelFacts, text_by_section: Mapping[str, str]) -> str:
    """A whole card: metadata, title, and each section between its marks, below its heading."""
    parts = [f"---\n{metadata_yaml}---\n\n{EXPLANATION}\n\n# {markdown.plain(facts.name)}\n"]
    for name, heading in SECTIONS.items():
        parts.append((f"## {heading}\n\n" if heading else "") + marked_section(name, framed(text_by_section[name])))
    return "\n".join(parts)


def framed(text: str) -> str:
    """A section's text as it stands between its marks, apart from them: Markdown next to a comment would be HTML."""
    return f"\n{text}\n"


def metadata(facts: ModelFacts) -> dict[str, Any]:
    """The card's metadata by the hub's keys, without scores, built by huggingface_hub's own class."""
    from huggingface_hub import ModelCardData

    training = facts.training
    base = None if training is None else training.recipe.model.base
    is_hub_base = training is not None and training.has_hub_base
    data_ids = [] if training is None else [record_set.hub_id for record_set in training.record_sets]
    card_data = ModelCardData(
        license=facts.license or UNKNOWN_LICENSE,
        language=facts.languages or None,
        library_name="transformers" if facts.gguf is None else None,
        pipeline_tag="text-generation",
        base_model=base if is_hub_base else None,
        datasets=list(dict.fromkeys(id_ for id_ in data_ids if id_)) or None,
        tags=[*(["orca"] if facts.is_trained_in_orca_prompt else []), "orca-bench", *(["gguf"] if facts.gguf else [])],
    )
    fields: dict[str, Any] = card_data.to_dict()
    return {key: fields[key] for key in sorted(fields, key=lambda key: _METADATA_ORDER.index(key))}


def sections(
    facts: ModelFacts,
    scores: str | None = None,
    conclusion: str | None = None,
    score_limits: Sequence[str] = (),
    score_provenance: Sequence[tuple[str, str]] = (),
) -> dict[str, str]:
    """Every section of the card by its name.

    `scores` is the section of scores, `conclusion` a sentence of what was found, `score_limits` what the scores say that the
    model is not good for, and `score_provenance` are rows (what, value) about the results; all but `conclusion` are Markdown.
    """
    scores_text = scores or "It has not been evaluated yet, so nothing is known of how well it answers.\n"
    return {
        "summary": _summary(facts, conclusion),
        "scores": scores_text,
        "prompt": _prompt_section(facts),
        "usage": _usage_section(facts),
        "limits": markdown.bullets([*score_limits, *_limits(facts, scores is not None)]),
        "training": _training_section(facts),
        "data": _data_section(facts),
        "licence": _licence_section(facts),
        "provenance": _provenance_section(facts, score_provenance),
    }


# --- the sections -----------------------------------------------------------------------------------------------------


def _summary(facts: ModelFacts, conclusion: str | None) -> str:
    training, name = facts.training, f"**{markdown.plain(facts.name)}**"
    parameters = facts.parameters or (None if training is None else training.parameters)
    parameters_text = "" if parameters is None else f" of {_parameters_text(parameters)} parameters"
    model_text = f"{name} is a language model{parameters_text}"
    if facts.is_untrained:
        sentence = f"{model_text} with the weights that its training starts from: it is not trained."
    elif training is None:
        sentence = f"{model_text}; how it was trained is not known here."
    else:
        prompt_text = " in the Orca prompt" if facts.is_trained_in_orca_prompt else ""
        sentence = f"{model_text}, {_start_text(training)} on {_records_text(training)}{prompt_text}."
    if facts.gguf is not None:
        sentence += f" It is {facts.gguf.description}."
    if facts.is_demonstration:
        sentence += " It is a demonstration: its records are generated, and it is good for nothing else."
    return sentence + (f" {markdown.plain(conclusion)}" if conclusion else "") + "\n"


def _start_text(training: TrainingFacts) -> str:
    base = training.recipe.model.base
    if base is None:
        return "trained from random weights"
    name = _hub_link(base) if training.has_hub_base else markdown.code(public_name(base))
    return f"fine-tuned from {name}"


def _records_text(training: TrainingFacts) -> str:
    if training.examples is None:
        return "instruction records"
    partial_count = training.partial_example_count
    count_text = f"{training.examples:,}" if partial_count is None else f"{partial_count:,} of {training.examples:,}"
    return f"{count_text} instruction record{'' if training.examples == 1 else 's'}"


def _prompt_section(facts: ModelFacts) -> str:
    if facts.gguf is not None:
        return gguf_text.prompt_section(facts.gguf)
    if not facts.has_orca_prompt:
        return (
            "It was not tuned by orca-bench, so its prompt is not known here. If its tokenizer has a chat template, "
            "`tokenizer.apply_chat_template` writes it.\n"
        )
    system = SYSTEM_MESSAGES[DEFAULT_SYSTEM_ID]
    with_input = render(system, _EXAMPLE_INSTRUCTION, _EXAMPLE_INPUT)
    if facts.is_trained_in_orca_prompt:
        origin_text = "It was trained on this prompt, byte for byte, and answers as it was trained only in it."
    elif facts.is_untrained:
        origin_text = "It is not trained. Its chat template is the prompt that its training uses."
    else:
        origin_text = "Its chat template is this prompt; the records that it was trained on are not known here."
    return (
        f"{origin_text} The answer begins after the line `### Response:`, and ends with the end-of-text token.\n\n"
        f"{markdown.code_block(render(system, _example_question(facts)))}\n"
        "A text that the instruction is about has a block of its own:\n\n"
        f"{markdown.code_block(with_input)}\n"
        "The tokenizer's chat template writes it: the roles are `system`, `user` and `input`. A prompt that is put together by "
        "hand begins with the tokenizer's BOS token, where it has one.\n"
    )


def _example_question(facts: ModelFacts) -> str:
    return _DEMONSTRATION_QUESTION if facts.is_demonstration else _EXAMPLE_QUESTION


def _usage_section(facts: ModelFacts) -> str:
    if facts.gguf is not None:
        return gguf_text.usage_section(facts.gguf, _example_question(facts))
    if not facts.has_orca_prompt:
        return f"{markdown.code(facts.reference)} is a plain model folder of transformers.\n"
    turns = "".join(
        f"    {json.dumps(message, ensure_ascii=False)},\n"
        for message in chat_messages(SYSTEM_MESSAGES[DEFAULT_SYSTEM_ID], _example_question(facts))
    )
    comment = "" if facts.is_hub_reference else "  # this folder; on the hub OWNER/NAME"
    return _weights_text(facts) + markdown.code_block(
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f"name = {json.dumps(facts.reference, ensure_ascii=False)}{comment}\n"
        "tokenizer = AutoTokenizer.from_pretrained(name)\n"
        "model = AutoModelForCausalLM.from_pretrained(name)\n"
        f"messages = [\n{turns}]\n"
        "inputs = tokenizer.apply_chat_template(\n"
        '    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True\n'
        ")\n"
        f"output = model.generate(**inputs, max_new_tokens={_EXAMPLE_MAX_NEW_TOKENS})\n"
        'answer_ids = output[0, inputs["input_ids"].shape[1] :]\n'
        "print(tokenizer.decode(answer_ids, skip_special_tokens=True))\n",
        "python",
    )


def _weights_text(facts: ModelFacts) -> str:
    """A paragraph on type, size and files of the weights; empty where they are not known."""
    weights = facts.weights
    if weights is None:
        return ""
    files_text = "" if weights.file_count == 1 else f" in {weights.file_count} files"
    types_text = " and ".join(markdown.code(name) for name in weights.dtype_names)
    return f"The weights are {types_text}, {size_text(weights.byte_count)}{files_text}.\n\n"


def _limits(facts: ModelFacts, has_scores: bool) -> list[str]:
    training, limits = facts.training, []
    if training is not None:
        is_whole_epoch = training.trained_tokens is not None and training.partial_example_count is None
        tokens_text = f" with {training.trained_tokens:,} response tokens" if is_whole_epoch else ""
        start_text = (
            ", and on nothing else" if training.recipe.model.base is None else ", after its base model's training"
        )
        limits.append(f"It was trained on {_records_text(training)}{tokens_text}{start_text}.")
        if facts.is_checkpoint:
            limits.append(f"It is a checkpoint: its training had done {facts.step:,} of {training.steps:,} steps.")
        if facts.languages == ["en"]:
            limits.append("Its records are English; other languages are not to be expected of it.")
        elif not facts.languages:
            limits.append("The language of its records is not stated.")
        limits.append("Each record is one question and one answer: it was not trained on conversations.")
        if training.cut_examples:
            limits.append(
                f"{training.cut_examples:,} records were cut at {training.recipe.data.max_length:,} tokens, so it has not seen "
                "how those answers end."
            )
    limits.append(
        "It has had no safety training, and was not evaluated for safety, bias or truthfulness of its texts: it may write what "
        "is false or harmful."
        if training is not None and training.recipe.model.base is None
        else "No safety training is recorded, and it was not evaluated for safety or bias: it may write what is false or harmful."
    )
    if has_scores and not facts.is_untrained:
        limits.append("Whether benchmark questions stand in its training data was not examined.")
    return limits


def _training_section(facts: ModelFacts) -> str:
    training = facts.training
    if training is None:
        return "It is not trained.\n" if facts.is_untrained else "How it was trained is not known here.\n"
    recipe, train = training.recipe, training.recipe.train
    time_text = "" if training.seconds is None else _duration_text(training.seconds)
    rows = [
        ("start", _start_text(training).removeprefix("trained from ").removeprefix("fine-tuned from ")),
        ("steps", "" if training.steps is None else f"{training.steps:,} of {train.global_batch} records"),
        ("epochs", f"{train.epochs}" if train.max_steps is None else f"at most {train.epochs}"),
        ("optimizer", f"AdamW, learning rate {train.lr:g}, {train.warmup} warm-up, then linear decay"),
        ("LoRA, merged into the weights", _lora_text(train.lora)),
        ("precision", train.precision),
        ("longest example", f"{recipe.data.max_length:,} tokens"),
        ("processes", f"{train.processes}, DeepSpeed ZeRO stage {train.zero_stage}"),
        ("time", time_text),
    ]
    summary = markdown.table(("setting", "value"), [row for row in rows if row[1]])
    text = "The loss is computed on the response and the end-of-text token alone.\n\n" + summary
    return f"{text}\n{markdown.folded('The whole recipe', markdown.code_block(_public_recipe_yaml(recipe), 'yaml'))}"


def _lora_text(lora: Lora | None) -> str:
    if lora is None:
        return ""
    targets_text = "all linear layers but the output head" if lora.targets is None else ", ".join(lora.targets)
    return f"rank {lora.rank}, alpha {lora.alpha:g}, beside {targets_text}"


def _public_recipe_yaml(recipe: Recipe) -> str:
    """The recipe's keys that have a value, without the folders of the machine that it was read on."""
    model, data = recipe.model, recipe.data
    public_model = model.model_copy(
        update={
            key: public_name(name)
            for key, name in (("base", model.base), ("tokenizer", model.tokenizer))
            if name is not None
        }
    )
    public_data = data.model_copy(update={"records": [public_name(name) for name in data.records]})
    public_recipe = recipe.model_copy(update={"model": public_model, "data": public_data})
    values = {key: value for key, value in public_recipe.model_dump(exclude_none=True).items() if value != {}}
    return yaml_files.to_yaml_text(values)


def _data_section(facts: ModelFacts) -> str:
    training = facts.training
    if training is None or not training.record_sets:
        return "None: it is not trained.\n" if facts.is_untrained else "What it was trained on is not known here.\n"
    rows = [row for record_set in training.record_sets for row in _record_set_rows(record_set)]
    has_teachers = any(row[2] for row in rows)
    headings = ["records", "count", *(["responses by"] if has_teachers else []), "known as", "licence of the data"]
    table_rows = [[*row[:2], *([row[2] or "not known"] if has_teachers else []), *row[3:]] for row in rows]
    return markdown.table(headings, table_rows, right_columns=[1])


def _record_set_rows(record_set: RecordSet) -> list[list[str]]:
    """A row for the set, or for each published set that its records name as their source."""
    name = _hub_link(record_set.hub_id) if record_set.hub_id else markdown.code(record_set.public_name)
    teacher_names = [
        "the set's own" if teacher == "reference" else markdown.plain(teacher) for teacher in record_set.teachers
    ]
    teachers = ", ".join(teacher_names[:_MOST_NAMED_TEACHERS]) + (", …" if teacher_names[_MOST_NAMED_TEACHERS:] else "")
    counts: Mapping[str, int | None] = record_set.rows_by_source or {record_set.name: record_set.rows}
    rows_by_title: dict[tuple[str, str], int | None] = {}
    for source, count in counts.items():
        data_set = known_data_set(source)
        title = ("", "not known") if data_set is None else (data_set.title, data_set.licence)
        earlier_count = rows_by_title.get(title, 0)
        rows_by_title[title] = None if count is None or earlier_count is None else earlier_count + count
    if not record_set.rows_by_source and record_set.hub_id is not None:
        # By its name a set of somebody else's on the hub, made from a published one: its own licence is on its page.
        rows_by_title = {
            (f"made from {title}, by its name" if title else "", f"{licence}; the set's own: see its page"): count
            for (title, licence), count in rows_by_title.items()
        }
    return [
        [name, "" if count is None else f"{count:,}", teachers, title or "–", licence]
        for (title, licence), count in rows_by_title.items()
    ]


def _licence_section(facts: ModelFacts) -> str:
    licence_text = "not stated" if facts.license is None else markdown.code(facts.license)
    lines = [f"This model: {licence_text}."]
    training = facts.training
    if training is not None:
        if training.recipe.model.base is not None:
            lines.append(
                f"Its base, {_start_text(training).removeprefix('fine-tuned from ')}, has a licence of its own."
            )
        data_sets = [data_set for record_set in training.record_sets for data_set in record_set.data_sets]
        for data_set in dict.fromkeys(data_sets):
            lines.append(f"Data, {data_set.title}: {data_set.licence}.")
        if not all(record_set.is_known for record_set in training.record_sets):
            others_text = "the other records" if data_sets else "the records"
            lines.append(f"Data, {others_text}: not known here.")
        if any("NC" in data_set.licence for data_set in data_sets):
            lines.append("Licences with NC do not allow commercial use.")
        teachers = {teacher.casefold() for record_set in training.record_sets for teacher in record_set.teachers}
        if any(name in teacher for teacher in teachers for name in _COMMERCIAL_TEACHERS):
            lines.append("Responses that a commercial model wrote come under its provider's terms too.")
    return markdown.bullets(lines)


def _provenance_section(facts: ModelFacts, score_provenance: Sequence[tuple[str, str]]) -> str:
    training, rows = facts.training, []
    if training is not None:
        rows += [
            (f"records {markdown.code(record_set.public_name)}", markdown.code(record_set.sha256))
            for record_set in training.record_sets
            if record_set.sha256
        ]
        rows += [
            (f"commit of {markdown.code(public_name(key))}", markdown.code(sha))
            for key, sha in training.commits.items()
        ]
        if training.tokenizer_sha256:
            rows.append(("tokenizer", markdown.code(training.tokenizer_sha256)))
        if training.started:
            rows.append(("training started", markdown.plain(training.started)))
        versions = ", ".join(f"{name} {version}" for name, version in training.versions.items())
        rows.append(("trained with", markdown.plain(versions)))
    rows += score_provenance
    if not rows:
        return "None is known.\n"
    table = markdown.table(("what", "SHA-256, version or time"), rows)
    return markdown.folded("Hashes of the data, the model and the results, and versions", table)


# --- words ------------------------------------------------------------------------------------------------------------


def _hub_link(id_: str) -> str:
    return f"[{markdown.plain(id_)}](https://huggingface.co/{id_})"


def _parameters_text(count: int) -> str:
    for size, unit in ((10**9, "billion"), (10**6, "million"), (10**3, "thousand")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return str(count)


def _duration_text(seconds: float) -> str:
    minutes, rest_s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest_s} s" if minutes else f"{rest_s} s"
