"""What the scheduler's half tells the worker's half, step by step."""

from __future__ import annotations

from dataclasses import dataclass, field

from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorMetadata


@dataclass(slots=True)
class LoadOrder:
    """Bytes of a pinned lookup go into blocks of the engine."""

    request_id: str
    lookup: int
    """Number under which the lookup was handed over."""
    first: int
    """The first block of the lookup that is wanted."""
    skip: int
    """Engine blocks at the beginning of it that the engine has already."""
    blocks: list[int]
    """Blocks of the engine, in order of the prefix."""
    background: bool
    """The request waits for it; the step does not."""


@dataclass(slots=True)
class SaveOrder:
    """Blocks of the engine that this step completes go to the node."""

    request_id: str
    hashes: list[bytes]
    blocks: list[int]
    """Blocks of the engine: for each hash as many as make a weft block."""


@dataclass(slots=True)
class Orders(KVConnectorMetadata):  # type: ignore[misc]  # vLLM has no types here
    """Everything for one step."""

    loads: list[LoadOrder] = field(default_factory=list)
    saves: list[SaveOrder] = field(default_factory=list)
    preempted: list[str] = field(default_factory=list)
    """Requests whose blocks may be overwritten from now on."""
