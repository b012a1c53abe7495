"""What a connector is told: by the engine's extra configuration, else by the environment, else by default."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Settings of a connector. Sizes are bytes, times are seconds."""

    socket: str = "/run/weft/node.sock"
    """Unix socket of the node daemon of this host. Environment: ``WEFT_SOCKET``."""
    endpoint: str = ""
    """Name of this engine replica; default the host's name. Environment: ``WEFT_ENDPOINT``."""
    url: str = ""
    """Base URL of the engine's OpenAI API, as routers reach it; default port 8000 of this host. Environment: ``WEFT_URL``."""
    model: str = ""
    """Canonical name of the model; default the first name it is served under. All engines that share must say the same."""
    revision: str = ""
    """Digest of the weights; default a digest of the model's folder (``weft_kv.fingerprint``)."""
    block_tokens: int = 64
    """Tokens of a weft block: a multiple of the engine's block, else the engine's block is taken."""
    deadline: float = 1.0
    """Longest wait for an answer of the daemon other than a lookup's."""
    load_deadline: float = 2.0
    """Longest a request waits for blocks that have to come from disk or from other nodes."""
    sync_load_bytes: int = 32 << 20
    """Loads up to this size are done before the engine's next step, larger ones beside it. A few milliseconds of copying."""
    staging_bytes: int = 64 << 20
    """Size of each of the buffers, one for loads and one for saves, through which bytes are copied."""

    device_copies: bool = True
    """On a GPU, copy by weft's own copier where the layout allows it; else by torch, through the buffers."""
    node_copies: bool = False
    """On a GPU, have the node copy by itself, if its ``gpu_copies`` is on: the engine's process then moves no byte; a load is
    waited for as a whole."""
    layerwise: bool = False
    """On a GPU, let each layer be computed as soon as it is loaded, not the step when all are. vLLM then replays CUDA graphs
    piece by piece, which costs every step a little: for long prefixes and few decoding requests."""

    @classmethod
    def read(cls, extra: Mapping[str, Any]) -> Self:
        """From the engine's extra configuration. An unknown name is an error: it would be ignored silently."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(extra) - known):
            message = f"unknown settings {unknown}: expected some of {sorted(known)}"
            raise ValueError(message)
        host = socket.gethostname()
        environment = {name: os.environ.get(f"WEFT_{name.upper()}") for name in ("socket", "endpoint", "url")}
        told = {name: value for name, value in environment.items() if value} | dict(extra)
        told.setdefault("endpoint", re.sub(r"[^a-z0-9.-]", "-", host.lower()))
        told.setdefault("url", f"http://{host}:8000")
        return cls(**told)
