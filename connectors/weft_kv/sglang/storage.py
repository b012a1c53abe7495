"""The class that SGLang loads: pages of its host pool, shared through the node, by SGLang's own page hashes.

SGLang calls it from storage threads, which may wait; every wait has a deadline. Nothing raises: what fails is a page that is not
there.
"""

from __future__ import annotations

import ctypes
import logging
from collections import Counter
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sglang.srt.mem_cache.hicache_storage import HiCacheStorage

from weft_kv.attachment import attach
from weft_kv.fingerprint import FingerprintError
from weft_kv.named import NameHasher
from weft_kv.settings import Settings
from weft_kv.sglang.contract import UnsupportedError, derive

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from sglang.srt.mem_cache.hicache_storage import HiCacheStorageConfig, HiCacheStorageExtraInfo
    from sglang.srt.mem_cache.pool_host import HostKVCache

    from weft_kv._native import Contract

# Under SGLang's logger, so that it is seen where SGLang's own messages are.
logger = logging.getLogger("sglang.srt.weft")


class WeftStorage(HiCacheStorage):  # type: ignore[misc]  # SGLang has no types here
    """Saves the pages that SGLang backs up, and gives those it prefetches."""

    def __init__(self, storage_config: HiCacheStorageConfig, kwargs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self._config = storage_config
        self._pages: _Pages | None = None
        self.counts: Counter[str] = Counter()
        """Pages loaded, stored, present and refused so far."""

    def register_mem_pool_host(self, mem_pool_host: HostKVCache) -> None:
        """The pool is there: attach with what it says."""
        super().register_mem_pool_host(mem_pool_host)
        try:
            settings = Settings.read((self._config.extra_config or {}).get("weft", {}))
            contract = derive(self._config, mem_pool_host, settings)
            self._pages = _Pages(settings, contract, mem_pool_host, self.counts)
            logger.info("weft: endpoint %s at %s, %r", settings.endpoint, settings.socket, contract)
        except (UnsupportedError, FingerprintError) as error:
            logger.warning("weft stays out of this engine: %s", error)
        except Exception:
            logger.exception("weft stays out of this engine")

    def batch_exists(self, keys: list[str], extra_info: HiCacheStorageExtraInfo | None = None) -> int:  # noqa: ARG002
        """Leading pages that can be had: those of other nodes are here then."""
        try:
            return 0 if self._pages is None else self._pages.find(keys)
        except Exception as error:
            self._give_up("batch_exists", error)
            return 0

    def batch_get_v1(
        self,
        keys: list[str],
        host_indices: torch.Tensor,
        extra_info: HiCacheStorageExtraInfo | None = None,  # noqa: ARG002
    ) -> list[bool]:
        """Load pages into the pool; which of them came."""
        try:
            done = 0 if self._pages is None else self._pages.load(keys, host_indices)
        except Exception as error:
            self._give_up("batch_get_v1", error)
            done = 0
        return [position < done for position in range(len(keys))]

    def batch_set_v1(
        self,
        keys: list[str],
        host_indices: torch.Tensor,
        extra_info: HiCacheStorageExtraInfo | None = None,  # noqa: ARG002
    ) -> list[bool]:
        """Store pages of the pool; which of them are there now."""
        try:
            done = 0 if self._pages is None else self._pages.store(keys, host_indices)
        except Exception as error:
            self._give_up("batch_set_v1", error)
            done = 0
        return [position < done for position in range(len(keys))]

    def exists(self, key: str) -> bool:
        """Whether a page can be had."""
        return self.batch_exists([key]) == 1

    # Without `interface_v1` SGLang gives pages in another order of bytes, and weft stays out.

    def get(self, key: str, target_location: Any = None, target_sizes: Any = None) -> None:  # noqa: ANN401
        """Nothing."""

    def batch_get(self, keys: list[str], target_locations: Any = None, target_sizes: Any = None) -> list[None]:  # noqa: ANN401, ARG002
        """Nothing."""
        return [None] * len(keys)

    def set(self, key: str, value: Any = None, target_location: Any = None, target_sizes: Any = None) -> bool:  # noqa: ANN401, ARG002
        """Nothing."""
        return False

    def batch_set(
        self,
        keys: list[str],  # noqa: ARG002
        values: Any = None,  # noqa: ANN401, ARG002
        target_locations: Any = None,  # noqa: ANN401, ARG002
        target_sizes: Any = None,  # noqa: ANN401, ARG002
    ) -> bool:
        """Nothing."""
        return False

    def close(self) -> None:
        """Leave the cluster."""
        pages, self._pages = self._pages, None
        if pages is not None:
            logger.info("weft: %s", dict(self.counts))
            pages.attachment.release()

    def _give_up(self, where: str, error: Exception) -> None:
        """Turn weft off for good, after an error of ours."""
        logger.error("weft failed in %s and is off from now on: the engine runs without it", where, exc_info=error)
        self.close()


class _Pages:
    """Pages of the pool as blocks of weft."""

    def __init__(self, settings: Settings, contract: Contract, pool: HostKVCache, counts: Counter[str]) -> None:
        self._settings = settings
        self._pool = pool
        self._counts = counts
        self._bytes = contract.block_bytes
        self._hasher = NameHasher(contract)
        self.attachment = attach(settings, contract)

    def find(self, keys: list[str]) -> int:
        """Leading pages that the node has now: those of others were fetched."""
        lookup = self.attachment.client.lookup(self._hashes(keys), self._settings.load_deadline)
        try:
            lookup.wait(self._settings.load_deadline)
            return len(lookup)
        finally:
            lookup.release()

    def load(self, keys: list[str], indices: torch.Tensor) -> int:
        """Leading pages that were loaded."""
        done = 0
        for batch, places in self._batches(keys, indices):
            rows: np.ndarray = np.empty((len(batch), self._bytes), dtype=np.uint8)
            came = self.attachment.client.load(self._hashes(batch), rows, self._settings.load_deadline)
            for row, place in zip(rows[:came], places, strict=False):
                place.write(row)
            done += came
            if came < len(batch):
                break
        self._counts["loaded"] += done
        return done

    def store(self, keys: list[str], indices: torch.Tensor) -> int:
        """Leading pages that are stored now, by this or by an earlier one."""
        done = 0
        for batch, places in self._batches(keys, indices):
            rows: np.ndarray = np.empty((len(batch), self._bytes), dtype=np.uint8)
            for row, place in zip(rows, places, strict=True):
                place.read(row)
            stored = self.attachment.client.store(self._hashes(batch), rows)
            for count in ("stored", "present", "refused"):
                self._counts[count] += getattr(stored, count)
            done += stored.stored + stored.present
            if stored.refused:
                break
        return done

    def _batches(self, keys: list[str], indices: torch.Tensor) -> Iterator[tuple[list[str], list[_Place]]]:
        """Keys, and where their pages are, as many at a time as the staging memory takes."""
        count, size = max(1, self._settings.staging_bytes // self._bytes), self._pool.page_size
        for begin in range(0, len(keys), count):
            batch = keys[begin : begin + count]
            places = _Place.of(self._pool, indices[begin * size : (begin + len(batch)) * size], len(batch))
            yield batch, places

    def _hashes(self, keys: list[str]) -> list[bytes]:
        return self._hasher.hash(key.encode() for key in keys)


class _Place:
    """Where a page is in the pool: pieces of memory, in SGLang's order."""

    def __init__(self, pieces: list[tuple[int, int]]) -> None:
        self._pieces = pieces

    @classmethod
    def of(cls, pool: HostKVCache, indices: torch.Tensor, pages: int) -> list[Self]:
        """Of so many pages."""
        pointers, sizes = pool.get_page_buffer_meta(indices)
        pieces = list(zip(pointers, sizes, strict=True))
        each = len(pieces) // pages
        return [cls(pieces[begin : begin + each]) for begin in range(0, len(pieces), each)]

    def write(self, row: np.ndarray) -> None:
        """Copy a row to the page."""
        at = row.ctypes.data
        for pointer, size in self._pieces:
            ctypes.memmove(pointer, at, size)
            at += size

    def read(self, row: np.ndarray) -> None:
        """Copy the page into a row."""
        at = row.ctypes.data
        for pointer, size in self._pieces:
            ctypes.memmove(at, pointer, size)
            at += size
