"""Blocks that an engine names itself: tiers under an engine's own cache are given names, not tokens.

What an engine means by a name is known to that engine only, so that such blocks are shared between engines of one kind and
one configuration, which their contract has to say. Routers cannot find them by tokens.
"""

from __future__ import annotations

from collections.abc import Iterable

from weft_kv._native import BlockHasher, Contract


class NameHasher:
    """Block hashes of names, under a contract: those of a block of zeros that depends on the name."""

    def __init__(self, contract: Contract) -> None:
        self._hasher = BlockHasher(contract)
        self._tokens = [0] * contract.block_tokens

    def hash(self, names: Iterable[bytes]) -> list[bytes]:
        """One for each name."""
        return [self._hasher.hash(self._tokens, extra={0: [name]})[0] for name in names]
