"""What an SGLang brings to its node: read off its host pool, or the reason why weft stays out of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from weft_kv import fingerprint, kernels
from weft_kv._native import Contract

if TYPE_CHECKING:
    from sglang.srt.mem_cache.hicache_storage import HiCacheStorageConfig
    from sglang.srt.mem_cache.pool_host import HostKVCache

    from weft_kv.settings import Settings


class UnsupportedError(Exception):
    """Weft cannot serve an engine that is configured so; the message says what it would take."""


def derive(config: HiCacheStorageConfig, pool: HostKVCache, settings: Settings) -> Contract:
    """Return the contract of this engine: a block is a page."""
    extra = config.extra_config or {}
    if not extra.get("interface_v1"):
        message = "the extra configuration lacks 'interface_v1': set it to 1; without it SGLang gives pages in another order"
        raise UnsupportedError(message)
    ranks = config.tp_size * config.pp_size * config.attn_cp_size * config.dcp_size
    if ranks > 1:
        message = f"{ranks} ranks in one engine: weft serves tensor, pipeline and context parallel size 1 so far"
        raise UnsupportedError(message)
    if config.dp_rank:
        message = f"data-parallel rank {config.dp_rank} behind one URL: give each rank a server of its own"
        raise UnsupportedError(message)
    _, sizes = pool.get_page_buffer_meta(torch.arange(pool.page_size))
    path = _path(config)
    layout = [
        "sglang-hicache-1",
        str(pool.dtype).removeprefix("torch."),
        type(pool).__name__,
        str(pool.layout),
        f"{len(sizes)}x{sizes[0]}",
        kernels.of_this_machine(),
    ]
    # SGLang adds to the name what its pool does to pages.
    name = config.model_name or path
    return Contract(
        model=settings.model or Path(name).name,
        revision=settings.revision or fingerprint.of_model(path),
        layout=":".join(layout),
        block_tokens=pool.page_size,
        block_bytes=sum(sizes),
        aliases=[name],
    )


def _path(config: HiCacheStorageConfig) -> str:
    """Where the weights are, as far as SGLang says."""
    try:
        from sglang.srt.runtime_context import get_server_args  # noqa: PLC0415 - it has moved before

        return str(get_server_args().model_path)
    except Exception:
        return config.model_name or ""
