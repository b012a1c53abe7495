"""The engine's KV cache as rows of bytes: a row is a weft block, layer by layer, in each the engine's blocks in order.

A layer's cache is a logical ``[block, head, token, content]`` view whose strides say how the device keeps it. A row has the
logical order, whatever the strides. Bytes pass through a buffer for each direction: one torch operation a layer moves a whole
batch of blocks, and the node's memory is never seen by torch.
"""

from __future__ import annotations

import ctypes
import re
import threading
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from vllm.v1.kv_cache_interface import group_kernel_blocks

from weft_kv.vllm.device import DeviceCopies

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from weft_kv._native import Lookup
    from weft_kv.vllm.contract import Shape
    from weft_kv.vllm.orders import LoadOrder, SaveOrder

OPENMP = re.compile(r"/lib(gomp|iomp5|omp)[-.][^/]*$")


class Pages:
    """The caches of all layers, and the two buffers, made when they are first used."""

    def __init__(self, caches: dict[str, torch.Tensor], num_blocks: int, shape: Shape, staging_bytes: int) -> None:
        self._shape = shape
        # Layers that share a cache (cross-layer sharing) are one.
        distinct = {(cache.data_ptr(), cache.shape, cache.stride()): cache for cache in caches.values()}
        self._layers = [group_kernel_blocks(cache, num_blocks) for cache in distinct.values()]
        places = list(distinct)
        self._order = {name: places.index((cache.data_ptr(), cache.shape, cache.stride())) for name, cache in caches.items()}
        sizes = {layer[0].numel() * layer.element_size() for layer in self._layers}
        if len(self._layers) != shape.layers or sizes != {shape.page_bytes}:
            message = (
                f"{len(self._layers)} layers with blocks of {sorted(sizes)} bytes: "
                f"expected {shape.layers} with {shape.page_bytes}"
            )
            raise ValueError(message)
        self._device = self._layers[0].device
        self._on_gpu = self._device.type == "cuda"
        self._rows = max(1, staging_bytes // shape.block_bytes)
        self._load_lock = threading.Lock()

    @cached_property
    def _incoming(self) -> torch.Tensor:
        return self._buffer()

    @cached_property
    def _outgoing(self) -> torch.Tensor:
        return self._buffer()

    def copies(self) -> DeviceCopies | None:
        """Copies without these buffers, where the device and its layout allow them."""
        return DeviceCopies.of(self._layers, self._order, self._shape)

    def context(self) -> AbstractContextManager[Any]:
        """Where a thread of ours works: on a GPU, a stream of its own; on a CPU, without others' cores."""
        if self._on_gpu:
            stream: AbstractContextManager[Any] = torch.cuda.stream(torch.cuda.Stream(self._device))
            return stream
        _stay_on_one_core()
        return nullcontext()

    def ready(self) -> torch.cuda.Event | None:
        """When what the step computes is there: ``None``, now."""
        return torch.cuda.current_stream(self._device).record_event() if self._on_gpu else None

    def gather(self, order: SaveOrder, ready: torch.cuda.Event | None) -> Iterator[tuple[list[bytes], np.ndarray]]:
        """Hashes and rows of an order, batch by batch. A batch is to be used before the next is taken."""
        if ready is not None:
            torch.cuda.current_stream(self._device).wait_event(ready)
        for begin in range(0, len(order.hashes), self._rows):
            hashes = order.hashes[begin : begin + self._rows]
            rows, ratio = self._outgoing[: len(hashes)], self._shape.ratio
            numbers = self._numbers(order.blocks[begin * ratio : (begin + len(hashes)) * ratio])
            for at, layer in enumerate(self._layers):
                pages = layer.index_select(0, numbers).view(torch.uint8)
                rows[:, at].copy_(pages.view(len(hashes), -1), non_blocking=True)
            self._settle()
            yield hashes, rows.view(len(hashes), -1).numpy()

    def scatter(self, lookup: Lookup, order: LoadOrder) -> int:
        """Put the bytes of a lookup into the order's blocks; how many of them, from the first."""
        ratio, done = self._shape.ratio, 0
        with self._load_lock:
            while done < len(order.blocks):
                # Position among the engine's blocks, from the beginning of the first row.
                position = order.skip + done
                row, skip = order.first + position // ratio, position % ratio
                count = min(self._rows, -(-(skip + len(order.blocks) - done) // ratio))
                rows = self._incoming[:count]
                came = lookup.copy_into(rows.view(count, -1).numpy(), row, count)
                blocks = order.blocks[done : done + max(0, came * ratio - skip)]
                if not blocks:
                    break
                numbers = self._numbers(blocks)
                for at, layer in enumerate(self._layers):
                    pages = rows[:came, at].reshape(came * ratio, -1)[skip : skip + len(blocks)]
                    pages = pages.view(layer.dtype).view(len(blocks), *layer.shape[1:])
                    layer.index_copy_(0, numbers, pages.to(self._device, non_blocking=True))
                self._settle()
                done += len(blocks)
                if came < count:
                    break
        return done

    def _buffer(self) -> torch.Tensor:
        size = (self._rows, self._shape.layers, self._shape.ratio * self._shape.page_bytes)
        return torch.empty(size, dtype=torch.uint8, pin_memory=self._on_gpu)

    def _numbers(self, blocks: list[int]) -> torch.Tensor:
        return torch.tensor(blocks, dtype=torch.int64).to(self._device, non_blocking=True)

    def _settle(self) -> None:
        """The buffer may be used again, and what was copied is there."""
        if self._on_gpu:
            torch.cuda.current_stream(self._device).synchronize()


def _stay_on_one_core() -> None:
    """Have torch do what this thread asks for in this thread.

    It would start a team of OpenMP threads for each thread that calls it, as many as there are cores; they would spin on the
    cores to which the engine has bound its own, and make it wait at every barrier.
    """
    torch.get_num_threads()  # What torch sets for a new thread, it sets now.
    maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    for library in {line.split()[-1] for line in maps.splitlines() if OPENMP.search(line)}:
        # A setting of the calling thread, by the standard.
        ctypes.CDLL(library).omp_set_num_threads(1)
