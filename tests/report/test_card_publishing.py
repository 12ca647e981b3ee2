"""What a card says of a model that is no folder of transformers."""

import pytest
from synthetic_results import random_result

from orca_bench.cards.card_document import parse_card
from orca_bench.models.model_warnings import OWN_PROMPT_WARNING


@pytest.mark.parametrize(
    ("protocol", "warnings", "prompt_text"),
    [
        ("leaderboard", [], "Its prompt is not known here."),
        ("orca", [OWN_PROMPT_WARNING], "The file has a chat template of its own"),
        ("orca", [], "The file has no chat template but the Orca prompt's"),
    ],
)
def test_the_card_of_a_gguf_file_is_no_model_folders(command, tmp_path, protocol, warnings, prompt_text):
    random_result(
        tmp_path, "m", 0.25, protocol=protocol, path="/home/me/my files/m q4.gguf", bits=4.5, warnings=warnings
    )
    process = command("publish", "m.json", "--to", "pub")
    assert process.returncode == 0, process.stderr
    path = tmp_path / "pub" / "README.md"
    card = parse_card(path.read_text(encoding="utf-8"), path)
    metadata, text = card.metadata, card.body
    assert "library_name" not in metadata and metadata["tags"] == ["orca-bench", "gguf"]
    assert text.count("the GGUF file `m q4.gguf` with 4.50 bits a weight.") == 2 and "/home/me" not in text
    assert "orca-bench generate 'Why is the sky blue?' --model 'm q4.gguf'" in text and prompt_text in text
    assert "transformers" not in text.split("Hashes and versions")[0]
