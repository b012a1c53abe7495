"""What an engine's kernels were chosen for: on CPUs, KV bytes depend on it."""

from __future__ import annotations

import torch


def of_cpu() -> str:
    """Instructions that kernels use here."""
    amx = "+amx" if torch.cpu._is_amx_tile_supported() else ""  # noqa: SLF001 - as vLLM asks
    return f"cpu-{torch.backends.cpu.get_cpu_capability().lower()}{amx}"


def of_this_machine() -> str:
    """Those of the CPU, where there is no GPU; else nothing: a layout's other parts tell."""
    return "gpu" if torch.cuda.is_available() else of_cpu()
