"""The client against real node daemons: the extension module, from Python, over the real socket.

The sockets of two nodes of one cluster come in ``WEFT_TEST_SOCKETS``, separated by a comma; the golden block hashes are
in the file ``WEFT_TEST_VECTORS``. Standard library only.
"""

import json
import os
import time
import unittest
from pathlib import Path

from weft_kv import BlockHasher, Client, Contract

BLOCK_BYTES = 10_000
BLOCKS = 12
SOCKETS = os.environ["WEFT_TEST_SOCKETS"].split(",")


def contract(**other) -> Contract:
    of = {"model": "py", "revision": "1", "layout": "test:u8", "block_tokens": 64, "block_bytes": BLOCK_BYTES}
    return Contract(**(of | other))


def attached(socket: str, name: str, **other) -> Client:
    client = Client(socket, contract(**other), endpoint=name, url="http://127.0.0.1:1", deadline=5.0)
    until = time.monotonic() + 30
    while not client.attached and time.monotonic() < until:
        time.sleep(0.02)
    assert client.attached, client.fault
    return client


def rows(count: int, seed: int) -> bytearray:
    return bytearray((seed + row * 131 + at * 7 + at // 251) % 256 for row in range(count) for at in range(BLOCK_BYTES))


class Hashes(unittest.TestCase):
    def test_a_chain_continues_where_it_was_left(self):
        hasher = BlockHasher(contract())
        tokens = list(range(200))
        whole = hasher.hash(tokens)
        self.assertEqual(len(whole), 3)
        self.assertEqual(hasher.hash(tokens[64:], parent=whole[0]), whole[1:])

    def test_salt_adapter_and_extra_keys_are_part_of_it(self):
        tokens = list(range(64))
        hashes = [
            BlockHasher(contract()).hash(tokens)[0],
            BlockHasher(contract(), salt="t").hash(tokens)[0],
            BlockHasher(contract(), adapter="t").hash(tokens)[0],
            BlockHasher(contract(revision="2")).hash(tokens)[0],
            BlockHasher(contract()).hash(tokens, extra={0: [b"image"]})[0],
        ]
        self.assertEqual(len(set(hashes)), len(hashes))

    def test_every_golden_vector_is_reproduced(self):
        cases = json.loads(Path(os.environ["WEFT_TEST_VECTORS"]).read_text())["cases"]
        self.assertGreaterEqual(len(cases), 10)
        for case in cases:
            key = case["model_key"]
            adapter, salt = key.pop("adapter"), key.pop("salt")
            hasher = BlockHasher(Contract(**key, block_bytes=1), adapter=adapter, salt=salt)
            extra = {int(block): [bytes.fromhex(one) for one in keys] for block, keys in case["extra"].items()}
            hashes = [block.hex() for block in hasher.hash(case["tokens"], extra=extra)]
            self.assertEqual(hashes, case["block_hashes"], case["name"])

    def test_misuse_raises(self):
        hasher = BlockHasher(contract())
        with self.assertRaisesRegex(ValueError, "31 bytes"):
            hasher.hash([1] * 64, parent=b"x" * 31)
        with self.assertRaises(OverflowError):
            hasher.hash([-1] * 64)


class OneNode(unittest.TestCase):
    def setUp(self):
        self.client = attached(SOCKETS[0], f"py-{self._testMethodName[:40].replace('_', '-')}")
        self.hashes = BlockHasher(contract(), salt=self._testMethodName).hash(list(range(64 * BLOCKS)))
        self.rows = rows(BLOCKS, seed=len(self._testMethodName))

    def tearDown(self):
        self.client.close()

    def test_what_was_stored_is_loaded(self):
        done = self.client.store(self.hashes, self.rows)
        self.assertEqual((done.stored, done.present, done.refused), (BLOCKS, 0, 0))
        again = self.client.store(self.hashes, self.rows)
        self.assertEqual((again.stored, again.present), (0, BLOCKS))
        out = bytearray(len(self.rows))
        self.assertEqual(self.client.load(self.hashes, out, 5.0), BLOCKS)
        self.assertEqual(out, self.rows)

    def test_a_lookup_pins_the_leading_run(self):
        self.client.store(self.hashes[:5], memoryview(self.rows)[: 5 * BLOCK_BYTES])
        lookup = self.client.lookup(self.hashes, 5.0)
        self.assertTrue(lookup.wait(5.0))
        self.assertEqual((len(lookup), lookup.sources), (5, ["host"] * 5))
        out = bytearray(2 * BLOCK_BYTES)
        self.assertEqual(lookup.copy_into(out, 2, 2), 2)
        self.assertEqual(out, self.rows[2 * BLOCK_BYTES : 4 * BLOCK_BYTES])
        lookup.release()
        self.assertEqual((len(lookup), lookup.copy_into(out, 0, 2)), (0, 0))

    def test_buffers_are_checked(self):
        with self.assertRaisesRegex(ValueError, "expected 120000"):
            self.client.store(self.hashes, self.rows[1:])
        with self.assertRaisesRegex(BufferError, "read-only"):
            self.client.load(self.hashes, bytes(self.rows), 1.0)
        with self.assertRaisesRegex(BufferError, "contiguous"):
            self.client.store(self.hashes[:1], memoryview(self.rows)[: 2 * BLOCK_BYTES : 2])
        with self.assertRaisesRegex(ValueError, "deadline"):
            self.client.lookup(self.hashes, -1.0)

    def test_closed_is_a_miss(self):
        self.client.store(self.hashes, self.rows)
        self.client.close()
        self.assertFalse(self.client.attached)
        self.assertEqual(self.client.load(self.hashes, bytearray(len(self.rows)), 1.0), 0)
        self.assertEqual(self.client.store(self.hashes, self.rows).refused, BLOCKS)


class TwoNodes(unittest.TestCase):
    def test_a_block_reaches_the_other_node(self):
        one, other = attached(SOCKETS[0], "py-one"), attached(SOCKETS[1], "py-other")
        hashes = BlockHasher(contract(), salt="two").hash(list(range(64 * BLOCKS)))
        sent = rows(BLOCKS, seed=3)
        self.assertEqual(one.store(hashes, sent).stored, BLOCKS)
        # The index hears of it within milliseconds.
        until = time.monotonic() + 30
        while len(found := waited(other, hashes)) < BLOCKS and time.monotonic() < until:
            found.release()
            time.sleep(0.02)
        out = bytearray(len(sent))
        self.assertEqual(found.copy_into(out, 0, BLOCKS), BLOCKS)
        self.assertEqual(out, sent)
        found.release()
        one.close()
        other.close()


class Absence(unittest.TestCase):
    def test_no_daemon_is_a_miss_and_says_why(self):
        client = Client("/nonexistent/engine.sock", contract(), endpoint="py-none", url="http://127.0.0.1:1")
        hashes = BlockHasher(contract()).hash(list(range(64)))
        self.assertEqual(client.load(hashes, bytearray(BLOCK_BYTES), 1.0), 0)
        self.assertTrue(client.lookup(hashes, 1.0).done)
        self.assertFalse(client.prefetch(hashes, 1.0))
        until = time.monotonic() + 30
        while client.fault is None and time.monotonic() < until:
            time.sleep(0.02)
        self.assertIn("/nonexistent/engine.sock", client.fault)

    def test_another_layout_under_the_same_model_key_is_refused_with_both_sides(self):
        first = attached(SOCKETS[0], "py-first", model="refused")
        client = Client(SOCKETS[0], contract(model="refused", block_bytes=77), endpoint="py-second", url="http://127.0.0.1:1")
        until = time.monotonic() + 30
        while client.fault is None and time.monotonic() < until:
            time.sleep(0.02)
        self.assertRegex(client.fault, r"parts.*10000.*77")
        client.close()
        first.close()


def waited(client: Client, hashes: list[bytes]):
    lookup = client.lookup(hashes, 5.0)
    assert lookup.wait(10.0)
    return lookup


if __name__ == "__main__":
    unittest.main(verbosity=2)
