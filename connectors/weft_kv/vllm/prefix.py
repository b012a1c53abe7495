"""Weft block hashes of a vLLM request: of its tokens, and of what else its KV depends on."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from weft_kv import fingerprint
from weft_kv._native import BlockHasher, Contract

if TYPE_CHECKING:
    from vllm.v1.request import Request

HASHERS_MAX = 1024
"""Adapters and salts whose seeds are remembered: one is a microsecond to make again."""


class Prefix:
    """The hashes of a request's full blocks, as its tokens come."""

    def __init__(self, request: Request, contract: Contract) -> None:
        self._request = request
        self._tokens = contract.block_tokens
        self._hasher = hasher(contract, _adapter(request), request.cache_salt or "")
        self._hashes: list[bytes] = []

    @property
    def known_tokens(self) -> int:
        """Tokens that are known by now."""
        return int(self._request.num_tokens)

    def first(self, count: int) -> list[bytes]:
        """Hashes of the first ``count`` blocks, all of whose tokens are known."""
        have = len(self._hashes)
        if count > have:
            tokens = self._request.all_token_ids[have * self._tokens : count * self._tokens]
            parent = self._hashes[-1] if have else None
            self._hashes += self._hasher.hash(tokens, parent=parent, extra=self._extra(have, count))
        return self._hashes[:count]

    def _extra(self, first: int, end: int) -> dict[int, list[bytes]]:
        """What media a block has, and where in it each begins; numbers count from ``first``."""
        extra: dict[int, list[bytes]] = {}
        for feature in self._request.mm_features:
            place = feature.mm_position
            begin, until = place.offset // self._tokens, -(-(place.offset + place.length) // self._tokens)
            for block in range(max(first, begin), min(end, until)):
                key = f"{feature.identifier}@{place.offset - block * self._tokens}"
                extra.setdefault(block - first, []).append(key.encode())
        return extra


def is_hashable(request: Request) -> bool:
    """Whether a request's KV is told apart by what is hashed, for good.

    Not when embeddings take the place of tokens, nor when tokens may be taken back, as in a session that streams its input.
    """
    return request.prompt_embeds is None and not request.resumable


@lru_cache(maxsize=HASHERS_MAX)
def hasher(contract: Contract, adapter: str, salt: str) -> BlockHasher:
    """Return the hasher of an adapter and a salt."""
    return BlockHasher(contract, adapter=adapter, salt=salt)


def _adapter(request: Request) -> str:
    adapter = request.lora_request
    return "" if adapter is None else fingerprint.of_folder(str(Path(adapter.lora_path)))
