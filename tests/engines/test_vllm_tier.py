"""vLLM's own offloading with weft as its secondary tier: across nodes, with the same answers; and without a daemon.

Run by `make engines`, as test_vllm.py. The device's copies are made by cpu_tiering.py, all else is vLLM's.
"""

import os
import tempfile
import unittest
from pathlib import Path

import tiny_model
from processes import Cluster, Engine, await_that, tier

PROMPTS = ["A prefix is the run of block hashes from token 0. " * 6 + "First.", "Any doubt is a miss. " * 14 + "Second."]
CHUNK = 32


def tokens(results: list[dict]) -> list[list[int]]:
    return [result["tokens"] for result in results]


def loadable(result: dict) -> int:
    return (result["prompt_tokens"] - 1) // CHUNK * CHUNK


class Tier(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.root = Path(folder.name)
        tiny_model.make(cls.root / "model")
        cls.cluster = Cluster(os.environ["ENGINES_WEFT"], cls.root / "cluster")
        cls.addClassCleanup(cls.cluster.stop)

    def engine(self, name: str, node: int | None) -> Engine:
        settings = {"socket": self.cluster.socket(node), "endpoint": name, "url": "http://127.0.0.1:1", "model": "tiny"}
        deadlines = {"deadline": 0.5, "load_deadline": 1.0}
        engine = Engine(self.root / "model", self.root / f"{name}.log", tier(settings | deadlines) if node else None)
        self.addCleanup(engine.stop)
        engine.ready()
        return engine

    def test_what_one_engine_offloads_another_has_promoted_through_its_own_node(self):
        plain = self.engine("plain", None)
        expected = plain.generate(PROMPTS)
        chunks = sum(loadable(result) // CHUNK for result in expected)
        one = self.engine("one", 1)
        one.attached()
        self.assertEqual(tokens(one.generate(PROMPTS)), tokens(expected))
        # What is offloaded cascades in later steps.
        await_that("it is stored", lambda: one.generate(["x"], tokens=2) and one.ask({"counts": True}).get("stored", 0) >= chunks)

        two = self.engine("two", 2)
        two.attached()
        results = two.generate(PROMPTS)
        self.assertEqual(tokens(results), tokens(expected))
        self.assertEqual([result["cached"] for result in results], [loadable(result) for result in expected])
        self.assertEqual(two.ask({"counts": True})["loaded"], chunks)
        self.assertGreaterEqual(self.cluster.metric(2, 'weft_node_loaded_blocks_total{source="peer"}'), chunks, "over QUIC")

        # Its own tier is empty again, and its daemon is gone: it computes.
        self.cluster.kill(2)
        salted = two.ask({"generate": PROMPTS, "tokens": 40, "salt": "s", "forget": True})["results"]
        self.assertEqual(tokens(salted), tokens(expected))
        self.assertEqual([result["cached"] for result in salted], [0, 0])


if __name__ == "__main__":
    unittest.main(verbosity=2)
