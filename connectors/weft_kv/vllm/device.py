"""Copies between the engine's KV cache on a GPU and the node's memory, by weft's own copier: without a buffer between.

Only where a block of the engine is contiguous in a layer, in logical order. Elsewhere, and without a driver to load, the cache is
copied by torch (``pages``).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch

from weft_kv._native import GpuCopier, NodeCopier

if TYPE_CHECKING:
    from weft_kv._native import Arriving, Client, Lookup, Stored
    from weft_kv.vllm.contract import Shape
    from weft_kv.vllm.orders import LoadOrder, SaveOrder

logger = logging.getLogger("vllm.weft")


class DeviceCopies:
    """Copies of one worker's cache."""

    def __init__(self, copier: GpuCopier, device: torch.device, numbers: dict[str, int]) -> None:
        self._copier = copier
        self._device = device
        self._numbers = numbers
        self._node: NodeCopier | None = None

    @classmethod
    def of(cls, layers: list[torch.Tensor], names: dict[str, int], shape: Shape) -> DeviceCopies | None:
        """Of a cache of these layers, blocks first, and the layers' numbers by name; ``None`` where torch has to copy."""
        device = layers[0].device
        strides = {layer.stride(0) * layer.element_size() for layer in layers}
        if device.type != "cuda":
            return None
        if len(strides) != 1 or not all(layer[0].is_contiguous() for layer in layers):
            logger.info("weft: blocks are not contiguous in this engine's KV cache: torch copies them")
            return None
        try:
            copier = GpuCopier(
                torch.cuda.current_device() if device.index is None else device.index,
                [layer.data_ptr() for layer in layers],
                blocks=layers[0].shape[0],
                block_bytes=shape.page_bytes,
                stride_bytes=strides.pop(),
                ratio=shape.ratio,
            )
        except RuntimeError as error:
            logger.warning("weft: torch copies this engine's KV cache: %s", error)
            return None
        return cls(copier, device, names)

    def pin(self, client: Client) -> None:
        """Have the device read and write the node's memory itself, if that is possible. It may take a moment."""
        self._copier.pin(client)

    def hand_over(self, client: Client) -> None:
        """Have the node copy by itself from now on, if it takes that."""
        try:
            self._node = NodeCopier(self._copier, client)
        except RuntimeError as error:
            logger.warning("weft: this process copies its KV cache, not the node: %s", error)

    def whole(self, client: Client, lookup: Lookup, order: LoadOrder, ready: torch.cuda.Event | None) -> int | None:
        """Have the node copy, and wait; how many blocks came. ``None``: the node does not."""
        if self._node is None:
            return None
        return self._node.load(client, lookup, order.blocks, first=order.first, skip=order.skip, after=_number(ready))

    def begin(self, lookup: Lookup, order: LoadOrder, ready: torch.cuda.Event | None) -> Arriving:
        """Begin to copy what a lookup has into the order's blocks, after ``ready``."""
        return self._copier.load(lookup, order.blocks, first=order.first, skip=order.skip, after=_number(ready))

    def hold(self, arriving: Arriving, layer: str | None) -> None:
        """Have the engine's stream wait for a layer, or for all of them."""
        stream = torch.cuda.current_stream(self._device).cuda_stream
        # Copies are in order of layers: behind the last, all are there.
        arriving.wait_layer(max(self._numbers.values()) if layer is None else self._numbers[layer], stream)

    def store(self, client: Client, order: SaveOrder, ready: torch.cuda.Event | None) -> Stored:
        """Store an order's blocks, after ``ready``; returns when they are stored."""
        copier = self._copier if self._node is None else self._node
        return copier.store(client, order.hashes, order.blocks, after=_number(ready))


def _number(event: torch.cuda.Event | None) -> int:
    return 0 if event is None else int(event.cuda_event)
