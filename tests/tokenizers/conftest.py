"""Tokenizer folders for the tests of this folder."""

import json
import shutil

import pytest


@pytest.fixture
def folder(tmp_path):
    """Writes a tokenizer folder: a SentencePiece file and the JSON files that are named."""

    def write(model_file, **files):
        if model_file is not None:
            shutil.copy(model_file, tmp_path / "tokenizer.model")
        for name, content in files.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
        return tmp_path

    return write
