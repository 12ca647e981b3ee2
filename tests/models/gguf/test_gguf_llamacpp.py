"""llama.cpp itself runs what is exported: every type is loaded, and computed as the folder that is read from the file."""

import pytest

pytest.importorskip("xllamacpp")

from orca_bench.models.gguf import gguf_import  # noqa: E402
from orca_bench.models.gguf.gguf_export import export_gguf  # noqa: E402
from orca_bench.models.gguf.gguf_types import FILE_TYPES  # noqa: E402
from orca_bench.models.gguf.gguf_verification import verify  # noqa: E402
from orca_bench.models.model_folder import ModelFolder  # noqa: E402


@pytest.mark.parametrize("type_name", list(FILE_TYPES))
def test_llamacpp_loads_every_type_and_computes_the_same(wide_llama, tmp_path, type_name):
    export_gguf(ModelFolder(str(wide_llama)), tmp_path / "m.gguf", type_name)
    gguf_import.import_gguf(gguf_import.read_gguf(tmp_path / "m.gguf"), tmp_path / "model")
    report = verify(tmp_path / "m.gguf", tmp_path / "model", position_count=30)
    assert report.is_equal, str(report)
