"""A real SGLang with weft under its hierarchical cache answers as one without: across nodes, and without a daemon.

Run by `make engines`, as test_vllm.py; cpu_hicache.py has SGLang's cache run without a GPU.
"""

import os
import tempfile
import unittest
from pathlib import Path

import tiny_model
from processes import Cluster, Engine, await_that

PROMPTS = ["A prefix is the run of block hashes from token 0. " * 6 + "First.", "Any doubt is a miss. " * 14 + "Second."]
OTHERS = ["Names come from the table. " * 12 + "Third."]
PAGE = 32


def tokens(results: list[dict]) -> list[list[int]]:
    return [result["tokens"] for result in results]


def loadable(result: dict) -> int:
    """Tokens of a prompt that can come from weft: whole pages, and one token is left to compute."""
    return (result["prompt_tokens"] - 1) // PAGE * PAGE


class Sglang(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.root = Path(folder.name)
        tiny_model.make(cls.root / "model")
        cls.cluster = Cluster(os.environ["ENGINES_WEFT"], cls.root / "cluster")
        cls.addClassCleanup(cls.cluster.stop)

    def engine(self, name: str, node: int | None, **more) -> Engine:
        settings = {"socket": self.cluster.socket(node), "endpoint": name, "url": "http://127.0.0.1:1", "model": "tiny"}
        settings |= {"deadline": 0.5, "load_deadline": 1.0} | more
        engine = Engine(self.root / "model", self.root / f"{name}.log", settings if node else None, "sglang_engine.py")
        self.addCleanup(engine.stop)
        engine.ready()
        if node:
            # `weft up` has an engine of its own at each node.
            await_that("it is attached", lambda: self.cluster.metric(node, "weft_node_attached_engines") >= 2)
        return engine

    def test_what_one_engine_computes_another_prefetches_through_its_own_node(self):
        plain = self.engine("plain", None)
        expected, others = plain.generate(PROMPTS), plain.generate(OTHERS)
        plain.stop()
        pages = sum(loadable(result) // PAGE for result in expected)
        one = self.engine("one", 1)
        before = one.generate(PROMPTS)
        self.assertEqual(tokens(before), tokens(expected))
        self.assertEqual([result["cached"] for result in before], [0, 0])
        await_that("it is stored", lambda: self.cluster.metric(1, "weft_node_stored_blocks_total") >= pages)
        one.stop()

        two = self.engine("two", 2)
        results = two.generate(PROMPTS)
        self.assertEqual(tokens(results), tokens(expected))
        self.assertEqual([result["cached"] for result in results], [loadable(result) for result in expected])
        self.assertGreaterEqual(self.cluster.metric(2, 'weft_node_loaded_blocks_total{source="peer"}'), pages, "over QUIC")

        self.cluster.kill(2)
        self.assertEqual(tokens(two.generate(OTHERS)), tokens(others))
        self.assertEqual(tokens(two.generate(PROMPTS, forget=True)), tokens(expected))
        two.stop()

        # The negative control: what is loaded is what is computed with.
        spoilt = self.engine("three", 1, spoil=True).generate(PROMPTS)
        self.assertEqual([result["cached"] for result in spoilt], [loadable(result) for result in expected])
        self.assertNotEqual(tokens(spoilt), tokens(expected))


if __name__ == "__main__":
    unittest.main(verbosity=2)
