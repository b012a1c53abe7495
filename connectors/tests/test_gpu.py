"""Copies between a node and a cache on a GPU: the extension module, from Python, on the stand-in driver (``tests/gpu-driver``).

Run with the stand-in on the library path, and the sockets of two nodes as ``test_client`` has them. The engine is played through
the driver's own interface. Standard library only.
"""

import ctypes
import unittest

from test_client import SOCKETS, attached, contract

from weft_kv import BlockHasher, GpuCopier, NodeCopier

LAYERS, RATIO, PAGES, PAGE_BYTES, STRIDE = 2, 2, 8, 2500, 4096
CUDA = ctypes.CDLL("libcuda.so")


def call(name: str, *arguments) -> None:
    code = getattr(CUDA, name)(*arguments)
    assert code == 0, f"{name}: {code}"


class Device:
    """Two layers of a cache, and a stream."""

    def __init__(self):
        context = ctypes.c_void_p()
        call("cuInit", 0)
        call("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
        call("cuCtxPushCurrent_v2", context)
        self.layers = [ctypes.c_uint64() for _ in range(LAYERS)]
        for layer in self.layers:
            call("cuMemAlloc_v2", ctypes.byref(layer), ctypes.c_size_t(PAGES * STRIDE))
        self.stream, self.event = ctypes.c_void_p(), ctypes.c_void_p()
        call("cuStreamCreateWithPriority", ctypes.byref(self.stream), 1, 0)
        call("cuEventCreate", ctypes.byref(self.event), 2)

    def compute(self, layer: int, page: int, value: int) -> None:
        at = ctypes.c_uint64(self.layers[layer].value + page * STRIDE)
        call("cuMemsetD8Async", at, ctypes.c_ubyte(value), ctypes.c_size_t(PAGE_BYTES), self.stream)

    def ready(self) -> int:
        call("cuEventRecord", self.event, self.stream)
        return self.event.value

    def page(self, layer: int, page: int) -> bytes:
        out = ctypes.create_string_buffer(PAGE_BYTES)
        at = ctypes.c_uint64(self.layers[layer].value + page * STRIDE)
        call("cuMemcpyDtoH_v2", out, at, ctypes.c_size_t(PAGE_BYTES))
        return out.raw

    def copier(self) -> GpuCopier:
        layers = [layer.value for layer in self.layers]
        return GpuCopier(0, layers, blocks=PAGES, block_bytes=PAGE_BYTES, stride_bytes=STRIDE, ratio=RATIO)


class Gpu(unittest.TestCase):
    def setUp(self):
        self.device = Device()
        self.client = attached(SOCKETS[0], "gpu", model="gpu", block_bytes=LAYERS * RATIO * PAGE_BYTES)

    def tearDown(self):
        self.client.close()

    def hashes(self, first: int, count: int) -> list[bytes]:
        ours = contract(model="gpu", block_bytes=LAYERS * RATIO * PAGE_BYTES)
        return BlockHasher(ours).hash([first] * 64 * count)

    def test_what_the_engine_computes_is_stored_and_comes_back_in_other_pages(self):
        copier = self.device.copier()
        self.assertTrue(copier.pin(self.client))
        for layer in range(LAYERS):
            for page in range(4):
                self.device.compute(layer, page, 10 + layer * 10 + page)
        hashes = self.hashes(1, 2)
        done = copier.store(self.client, hashes, [3, 2, 1, 0], after=self.device.ready())
        self.assertEqual((done.stored, done.present, done.refused), (2, 0, 0))
        again = copier.store(self.client, hashes, [3, 2, 1, 0], after=0)
        self.assertEqual((again.stored, again.present), (0, 2))

        lookup = self.client.lookup(hashes, 5.0)
        self.assertTrue(lookup.wait(10))
        # All but the first page of the first block.
        arriving = copier.load(lookup, [5, 6, 7], first=0, skip=1, after=self.device.ready())
        lookup.release()
        self.assertEqual(len(arriving), 3)
        arriving.wait_layer(0, self.device.stream.value)
        call("cuStreamSynchronize", self.device.stream)
        self.assertEqual(self.device.page(0, 5), bytes([12]) * PAGE_BYTES)
        self.assertEqual(self.device.page(1, 7), bytes(PAGE_BYTES))
        arriving.wait()
        self.assertTrue(arriving.done)
        self.assertEqual([self.device.page(1, page)[0] for page in (5, 6, 7)], [22, 21, 20])

    def test_less_than_was_asked_for_is_what_arrives(self):
        copier = self.device.copier()
        hashes = self.hashes(2, 2)
        copier.store(self.client, hashes[:1], [0, 1], after=0)
        lookup = self.client.lookup(hashes, 1.0)
        self.assertTrue(lookup.wait(10))
        arriving = copier.load(lookup, [4, 5, 6, 7], first=0, skip=0, after=0)
        arriving.wait()
        self.assertEqual(len(arriving), 2)

    def test_a_node_that_does_not_copy_by_itself_says_so(self):
        with self.assertRaisesRegex(RuntimeError, "gpu_copies is off"):
            NodeCopier(self.device.copier(), self.client)

    def test_misuse_raises(self):
        copier = self.device.copier()
        with self.assertRaises(ValueError):
            copier.store(self.client, self.hashes(3, 1), [0], after=0)
        with self.assertRaises(RuntimeError):
            GpuCopier(9, [1], blocks=1, block_bytes=1, stride_bytes=1, ratio=1)
        lookup = self.client.lookup([], 1.0)
        with self.assertRaises(ValueError):
            copier.load(lookup, [1], first=0, skip=RATIO, after=0)
        # A page that the cache has not: refused by the copier, so nothing is stored.
        self.assertEqual(copier.store(self.client, self.hashes(4, 1), [0, PAGES], after=0).refused, 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
