"""A real vLLM with weft answers as one without: across nodes, and whatever happens to a daemon.

Run by `make engines`: ENGINES_WEFT is the weft executable, and this interpreter has vLLM and the wheel. Three engines run
at once, with the same model of random weights: one without weft, one attached to each node.
"""

import os
import signal
import tempfile
import unittest
from pathlib import Path

import tiny_model
from processes import Cluster, Engine, await_that, connector

LONG = "A prefix is the run of block hashes from token 0. "
PROMPTS = [LONG * 6 + "First.", "Any doubt is a miss. " * 14 + "Second."]
DEADLINES = {"deadline": 0.5, "load_deadline": 1.0}
BLOCK = 64


def tokens(results: list[dict]) -> list[list[int]]:
    return [result["tokens"] for result in results]


def loadable(result: dict) -> int:
    """Tokens of a prompt that can come from weft: whole blocks, and one token is left to compute."""
    return (result["prompt_tokens"] - 1) // BLOCK * BLOCK


class Vllm(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        root = Path(folder.name)
        tiny_model.make(root / "model")
        cls.cluster = Cluster(os.environ["ENGINES_WEFT"], root / "cluster")
        cls.addClassCleanup(cls.cluster.stop)
        engines = []
        for name, node in (("plain", None), ("one", 1), ("two", 2)):
            settings = {"socket": cls.cluster.socket(node), "endpoint": name, "url": "http://127.0.0.1:1", "model": "tiny"}
            engines.append(Engine(root / "model", root / f"{name}.log", connector(settings | DEADLINES) if node else None))
            cls.addClassCleanup(engines[-1].stop)
        cls.plain, cls.one, cls.two = engines
        for engine in engines:
            engine.ready()
        cls.one.attached()
        cls.two.attached()

    def stored(self, engine: Engine, blocks: int) -> None:
        """Saves are made beside the engine's steps: wait until so many blocks were stored since its start."""
        await_that(f"{blocks} blocks are stored", lambda: engine.ask({"counts": True}).get("stored", 0) >= blocks)

    def all_found(self, prompts: list[str], node: int = 2, **order) -> list[dict]:
        """Generate until everything that can be loaded was: the index hears of a store within milliseconds."""
        engine = (self.one, self.two)[node - 1]

        def probe():
            results = engine.generate(prompts, forget=True, **order)
            return all(result["cached"] == loadable(result) for result in results) and results

        return await_that("whole prefixes are found", probe)

    def test_1_what_one_engine_computes_the_other_loads_through_its_own_node(self):
        expected = self.plain.generate(PROMPTS)
        self.assertTrue(all(loadable(result) >= 2 * BLOCK for result in expected), "prompts of several blocks")
        before = self.one.generate(PROMPTS)
        self.assertEqual(tokens(before), tokens(expected))
        self.assertEqual([result["cached"] for result in before], [0, 0])
        self.stored(self.one, sum(loadable(result) // BLOCK for result in expected))

        fetched = self.cluster.metric(2, 'weft_node_loaded_blocks_total{source="peer"}')
        after = self.all_found(PROMPTS)
        self.assertEqual(tokens(after), tokens(expected))
        blocks = sum(loadable(result) // BLOCK for result in expected)
        self.assertGreaterEqual(
            self.cluster.metric(2, 'weft_node_loaded_blocks_total{source="peer"}') - fetched, blocks, "over QUIC"
        )
        self.assertEqual(self.two.ask({"counts": True})["failed"], 0)

    def test_2_another_salt_finds_nothing(self):
        results = self.two.generate(PROMPTS, salt="another tenant", forget=True)
        self.assertEqual([result["cached"] for result in results], [0, 0])

    def test_3_a_daemon_that_is_killed_costs_nothing_and_is_attached_to_again(self):
        prompts = [LONG * 7 + "Killed."]
        expected = self.plain.generate(prompts, tokens=120)
        self.one.tell({"generate": prompts, "tokens": 120, "pause": 30})
        self.assertEqual(self.one.hear(), {"paused": 30})
        self.cluster.kill(1)
        self.one.tell({})
        self.assertEqual(tokens(self.one.hear()["results"]), tokens(expected))

        # Without a daemon at all, from an empty cache.
        without = self.one.ask({"generate": PROMPTS, "tokens": 40, "forget": True})
        self.assertEqual(tokens(without["results"]), tokens(self.plain.generate(PROMPTS)))
        self.assertEqual([result["cached"] for result in without["results"]], [0, 0])

        self.cluster.start_again(1)
        self.one.attached()
        # The new daemon has nothing in memory, and fetches from the other node; what neither has is stored anew.
        self.assertEqual(tokens(self.all_found(PROMPTS, node=1)), tokens(self.plain.generate(PROMPTS)))
        before = self.one.ask({"counts": True}).get("stored", 0)
        self.assertEqual(tokens(self.one.generate(prompts, tokens=120, forget=True)), tokens(expected))
        self.stored(self.one, before + 1)

    def test_4_a_daemon_that_hangs_costs_one_deadline(self):
        prompts = [LONG * 7 + "Hung."]
        expected = self.plain.generate(prompts)
        self.one.tell({"generate": [LONG * 6 + "Meanwhile."], "tokens": 120, "pause": 30})
        self.assertEqual(self.one.hear(), {"paused": 30})
        self.cluster.signal(1, signal.SIGSTOP)
        try:
            self.one.tell({})
            self.one.hear()
            first = self.one.ask({"generate": prompts, "tokens": 40})
            again = self.one.ask({"generate": PROMPTS, "tokens": 40, "forget": True})
        finally:
            self.cluster.signal(1, signal.SIGCONT)
        self.assertEqual(tokens(first["results"]), tokens(expected))
        self.assertEqual(tokens(again["results"]), tokens(self.plain.generate(PROMPTS)))
        print(f"hung: first token after {first['results'][0]['first']:.2f} s, then {again['results'][0]['first']:.2f} s")

        self.one.attached()
        self.assertEqual(tokens(self.all_found(PROMPTS, node=1)), tokens(self.plain.generate(PROMPTS)))

    def test_5_one_byte_of_what_is_loaded_changes_the_answer(self):
        # The negative control of all of the above: what is loaded is what is computed with. Last, as it spoils the engine.
        expected = tokens(self.plain.generate(PROMPTS))
        self.assertEqual(tokens(self.all_found(PROMPTS)), expected)
        self.assertNotEqual(tokens(self.two.generate(PROMPTS, spoil=True, forget=True)), expected)


if __name__ == "__main__":
    unittest.main(verbosity=2)
