"""What a vLLM brings to its node: derived from its configuration, or the reason why weft stays out of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vllm.v1.kv_cache_interface import AttentionSpec, FullAttentionSpec

from weft_kv import fingerprint, kernels
from weft_kv._native import Contract

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.kv_cache_interface import KVCacheConfig

    from weft_kv.settings import Settings


class UnsupportedError(Exception):
    """Weft cannot serve an engine that is configured so; the message says what it would take."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How the engine's blocks make a weft block."""

    layers: int
    page_bytes: int
    """Bytes of an engine's block in one layer."""
    engine_tokens: int
    """Tokens of an engine's block."""
    ratio: int
    """Engine's blocks in a weft block."""

    @property
    def block_tokens(self) -> int:
        """Tokens of a weft block."""
        return self.engine_tokens * self.ratio

    @property
    def block_bytes(self) -> int:
        """Bytes of a weft block: layer by layer, in each the engine's blocks in order."""
        return self.layers * self.ratio * self.page_bytes


def derive(config: VllmConfig, caches: KVCacheConfig, settings: Settings) -> tuple[Contract, Shape]:
    """Contract and shape of this engine."""
    spec = _spec(config, caches)
    shape = _shape(config, caches, spec, settings)
    model = config.model_config
    names = model.served_model_name
    aliases = [names] if isinstance(names, str) else list(names or [model.model])
    contract = Contract(
        model=settings.model or Path(aliases[0]).name,
        revision=settings.revision or _revision(config),
        layout=_layout(config, spec, shape),
        block_tokens=shape.block_tokens,
        block_bytes=shape.block_bytes,
        aliases=aliases,
    )
    return contract, shape


def _spec(config: VllmConfig, caches: KVCacheConfig) -> AttentionSpec:
    parallel = config.parallel_config
    if parallel.world_size > 1:
        message = f"{parallel.world_size} ranks in one engine: weft serves tensor and pipeline parallel size 1 so far"
        raise UnsupportedError(message)
    if parallel.data_parallel_size > 1:
        message = f"{parallel.data_parallel_size} data-parallel ranks behind one URL: give each rank a server of its own"
        raise UnsupportedError(message)
    if (backend := parallel.distributed_executor_backend) not in (None, "uni"):
        message = f"executor backend '{backend}': weft needs scheduler and worker in one process, which 'uni' gives"
        raise UnsupportedError(message)
    speculative = config.speculative_config
    if speculative is not None and speculative.method != "ngram":
        message = f"speculation by '{speculative.method}': the layers of a draft model are not told apart so far; 'ngram' is"
        raise UnsupportedError(message)
    if getattr(config.cache_config, "calculate_kv_scales", False):
        message = "calculate_kv_scales: the scale of KV bytes would be another in every engine"
        raise UnsupportedError(message)
    if len(caches.kv_cache_groups) != 1:
        message = f"{len(caches.kv_cache_groups)} KV cache groups: weft serves models with full attention only so far"
        raise UnsupportedError(message)
    spec = caches.kv_cache_groups[0].kv_cache_spec
    if not isinstance(spec, FullAttentionSpec) or spec.tokens_per_state != 1 or spec.non_causal:
        message = f"KV cache of kind {type(spec).__name__}: weft serves causal full attention only so far"
        raise UnsupportedError(message)
    return spec


def _shape(config: VllmConfig, caches: KVCacheConfig, spec: AttentionSpec, settings: Settings) -> Shape:
    tokens = config.cache_config.block_size
    ratio = settings.block_tokens // tokens if settings.block_tokens % tokens == 0 else 1
    layers = len(caches.kv_cache_groups[0].layer_names)
    return Shape(layers=layers, page_bytes=spec.page_size_bytes, engine_tokens=tokens, ratio=ratio)


def _layout(config: VllmConfig, spec: AttentionSpec, shape: Shape) -> str:
    """Everything that changes KV bytes besides model, weights and block size.

    Bytes are taken in logical order within an engine's block, so that the physical order of a device does not matter, but
    the engine's block size does. What CPU kernels put there depends on the instructions they were chosen for.
    """
    model = config.model_config
    parts = [
        "vllm-1",
        str(model.dtype).removeprefix("torch."),
        f"kv-{config.cache_config.cache_dtype}",
        f"q-{model.quantization or 'none'}",
        f"L{shape.layers}",
        f"H{spec.num_kv_heads}",
        f"D{spec.head_size}",
        f"B{shape.engine_tokens}",
        f"P{shape.page_bytes // shape.engine_tokens}",
        "tp1",
    ]
    if config.device_config.device_type == "cpu":
        parts.append(kernels.of_cpu())
    return ":".join(parts)


def _revision(config: VllmConfig) -> str:
    model = config.model_config
    folder = fingerprint.folder_of(model.model, model.revision)
    described = model.hf_config.to_dict()
    for name in ("_name_or_path", "transformers_version"):
        described.pop(name, None)
    return fingerprint.of_text(f"{fingerprint.of_folder(folder)} {sorted(described.items(), key=str)!r}")
