"""The name of a GPU in, the figures of its data sheet that the time and the memory of a training depend on out.

Its own module because each figure has a source of its own. The peak rates are those by which MFU is measured (`model_flops.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from orca_bench.errors import UserError, spelling_hint
from orca_bench.train.model_flops import peak_flops_per_second

_AMPERE_ATTENTION_SHARE = 0.2974
#: FlashAttention-2 reaches at most 73 % of the peak on an A100 (Dao 2023, arXiv 2307.08691, abstract) and 35 % on an H100
#: (Shah et al. 2024, arXiv 2407.08608, abstract).
_HOPPER_ATTENTION_SHARE = _AMPERE_ATTENTION_SHARE * 0.35 / 0.73

#: Share of the peak that large products reach where nobody has measured it: an assumption, near that of an H100.
_ASSUMED_PRODUCT_SHARE = 0.8


@dataclass(frozen=True)
class Gpu:
    """One GPU. Rates are peaks of the data sheet, in decimal units.

    `peak_flops` is of dense products in bf16, FLOP/s. `memory_gb` is the memory in units of 10⁹ bytes: data sheets often mean
    2³⁰, and where error correction takes its part about 10⁹ are left (L4, L40S). `memory_gb_s` is the bandwidth of the
    memory, `link_gb_s` that to the other GPUs of the node in one direction (NVLink, else PCIe), `network_gb_s` the network's
    share of one GPU between nodes in one direction, GB/s; None where a node has no usual network.

    `product_share` and `attention_share` are the shares of the peak that matrix products and causal attention reach. The first
    is measured on A100, H100 (the source says that the H200 is the same) and B200, and assumed for the others:
    stas00/ml-engineering, compute/accelerator/README.md, "Maximum Achievable Matmul FLOPS comparison table". The second is
    fitted on an A100 (`step_estimate.py`) and scaled by published ratios.
    """

    name: str
    peak_flops: float
    memory_gb: float
    memory_gb_s: float
    link_gb_s: float
    network_gb_s: float | None = None
    product_share: float = _ASSUMED_PRODUCT_SHARE
    attention_share: float = _AMPERE_ATTENTION_SHARE
    dollars_per_hour: float | None = None

    @property
    def memory_gib(self) -> float:
        """The memory in GiB."""
        return self.memory_gb * 1e9 / 2**30


def _gpu(name: str, device_name: str, memory_gb: float, memory_gb_s: float, link_gb_s: float, **figures: float) -> Gpu:
    peak_flops = peak_flops_per_second(device_name)
    assert peak_flops is not None, f"model_flops.py has no peak rate of {device_name}"
    return Gpu(name, peak_flops, memory_gb, memory_gb_s, link_gb_s, **figures)


_HOPPER = {"product_share": 0.803, "attention_share": _HOPPER_ATTENTION_SHARE}
_PCIE_4_GB_S, _PCIE_5_GB_S = 31.5, 63.0  # 16 lanes, one direction

#: Sources: NVIDIA's data sheets of each GPU; of `network_gb_s` those of DGX A100 (8 × 200 Gbit/s) and of DGX H100, H200 and
#: B200 (8 × 400). The price of an A100 with 80 GB is the model card's: $180 for 15 hours of eight.
GPUS = (
    _gpu("a100-40g", "A100", 40, 1555, 300, network_gb_s=25, product_share=0.869),
    _gpu("a100-80g", "A100", 80, 2039, 300, network_gb_s=25, product_share=0.869, dollars_per_hour=1.5),
    _gpu("h100", "H100", 80, 3350, 450, network_gb_s=50, **_HOPPER),
    _gpu("h100-pcie", "H100 PCIe", 80, 2000, _PCIE_5_GB_S, attention_share=_HOPPER_ATTENTION_SHARE),
    _gpu("h200", "H200", 141, 4800, 450, network_gb_s=50, **_HOPPER),
    _gpu("b200", "B200", 180, 8000, 900, network_gb_s=50, product_share=0.776, attention_share=_HOPPER_ATTENTION_SHARE),
    _gpu("l40s", "L40S", 48, 864, _PCIE_4_GB_S),
    _gpu("l4", "L4", 24, 300, _PCIE_4_GB_S),
    _gpu("a10g", "A10G", 24, 600, _PCIE_4_GB_S),
    _gpu("rtx-a6000", "RTX A6000", 48, 768, _PCIE_4_GB_S),
    _gpu("rtx-4090", "RTX 4090", 24, 1008, _PCIE_4_GB_S),
    _gpu("rtx-3090", "RTX 3090", 24, 936, _PCIE_4_GB_S),
)
GPU_NAMES = tuple(gpu.name for gpu in GPUS)

#: The options of `orca-bench plan` that give figures of a GPU: option, field of `Gpu`, and factor from its unit to the field's.
FIGURE_OPTIONS = (
    ("--tflops", "peak_flops", 1e12),
    ("--memory-gb", "memory_gb", 1.0),
    ("--memory-gb-s", "memory_gb_s", 1.0),
    ("--link-gb-s", "link_gb_s", 1.0),
    ("--network-gb-s", "network_gb_s", 1.0),
)


def find_gpu(name: str, figures_by_option: dict[str, float | None]) -> Gpu:
    """The GPU of the table of this name with the figures that options give instead; another name needs the first four figures.

    Raises UserError where a figure is not above 0, and for a name that is not in the table without them.
    """
    figures: dict[str, float] = {}
    for option, field_name, factor in FIGURE_OPTIONS:
        figure = figures_by_option.get(option)
        if figure is not None:
            if not 0 < figure < float("inf"):
                raise UserError(f"{figure:g} is no figure of a GPU", where=option, hint="give a number above 0")
            figures[field_name] = figure * factor
    known_gpu = next((gpu for gpu in GPUS if gpu.name == name.lower()), None)
    if known_gpu is not None:
        values: dict[str, Any] = figures
        return replace(known_gpu, **values)
    missing_options = [option for option, field_name, _ in FIGURE_OPTIONS[:4] if field_name not in figures]
    if missing_options:
        nearest_names = spelling_hint(name.lower(), GPU_NAMES, n=2)
        raise UserError(
            f"{name!r} is not in the table of GPUs ({', '.join(GPU_NAMES)})",
            where="--gpu",
            hint=f"{f'{nearest_names} Or ' if nearest_names else ''}give its figures: {', '.join(missing_options)}",
        )
    return Gpu(name, **figures)
