"""Tiny LLaMAs from random weights."""

from pathlib import Path


def make_model(folder: Path, tokenizer_file: Path, **shape) -> Path:
    """A tiny LLaMA from random weights as a plain model folder; weights large enough that answers differ."""
    import torch

    from orca_bench import tokenizers
    from orca_bench.recipe import Architecture, Data, Model, Recipe
    from orca_bench.train import student_model

    options = {
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 1024,
    } | shape
    recipe = Recipe(
        name="t",
        model=Model(random=Architecture(**options), tokenizer=str(tokenizer_file)),
        data=Data(records=["x"], max_length=256),
    )
    tokenizer = tokenizers.load_tokenizer(tokenizer_file)
    model = student_model.build_random_model(student_model.student_config(recipe, tokenizer), seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
    student_model.save_model(model, tokenizer, folder, {})
    return folder
