"""A finished run's folder in, the first card in its model's folder out: everything but scores.

Its own module because `train` calls it and has no other business with cards.
"""

from __future__ import annotations

from pathlib import Path

from orca_bench import yaml_files
from orca_bench.cards import card_text, model_facts
from orca_bench.cards.model_facts import ModelFacts
from orca_bench.files import write_text
from orca_bench.models import model_size

#: The name of a card in its model's folder, as the hub wants it.
CARD_NAME = "README.md"


def write_first_card(run_folder: Path) -> Path | None:
    """Write the card of a run's model, where it has none yet, and return its path; a card that is there is left as it is.

    Returns None for a folder without a recipe. Raises UserError where the run's files cannot be read or the card not written.
    """
    training = model_facts.read_training(run_folder)
    if training is None:
        return None
    model_folder = run_folder / "model"
    facts = ModelFacts(
        name=run_folder.name,
        reference=model_facts.public_reference(model_folder, run_folder.name),
        has_orca_prompt=True,
        training=training,
        weights=model_size.weight_files(model_folder),
    )
    card = model_folder / CARD_NAME
    if not card.exists():
        sections = card_text.sections(facts)
        write_text(card, card_text.new_card_text(yaml_files.to_yaml_text(card_text.metadata(facts)), facts, sections))
    return card
