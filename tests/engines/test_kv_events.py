"""What a real vLLM publishes of its cache is what the directory lists on its device: with weft's connector, and without any.

Run by `make engines`, as test_vllm.py.
"""

import os
import tempfile
import unittest
from pathlib import Path

import tiny_model
from processes import Cluster, Engine, await_that, connector

PROMPTS = ["A prefix is the run of block hashes from token 0. " * 6 + "First.", "Any doubt is a miss. " * 14 + "Second."]
GENERATED = 40
BLOCK = 64


class KvEvents(unittest.TestCase):
    def test_the_directory_lists_what_engines_publish(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        root = Path(folder.name)
        tiny_model.make(root / "model")
        cluster = Cluster(os.environ["ENGINES_WEFT"], root / "cluster")
        self.addCleanup(cluster.stop)
        engines, told = {}, []
        for name in ("attached", "alone"):
            events = {"endpoint": f"ipc://{root}/{name}", "replay_endpoint": f"ipc://{root}/{name}-replay"}
            of = f'endpoint = "{name}"\nkv_events = "{events["endpoint"]}"\nreplay = "{events["replay_endpoint"]}"\n'
            serves = f'serves = {{ url = "http://127.0.0.1:1", model = "{name}" }}\n' if name == "alone" else ""
            told.append(f"[[engines]]\n{of}{serves}")
            settings = {"kv_events_config": {"enable_kv_cache_events": True, "publisher": "zmq", **events}}
            if name == "attached":
                weft = {"socket": cluster.socket(1), "endpoint": name, "url": "http://127.0.0.1:1", "model": "tiny"}
                settings |= connector(weft)
            engines[name] = Engine(root / "model", root / f"{name}.log", settings)
            self.addCleanup(engines[name].stop)
        cluster.configure(1, "\n".join(told))
        for name, engine in engines.items():
            engine.ready()
            results = engine.generate(PROMPTS, tokens=GENERATED)
            # The last token that is generated has no place in the cache.
            blocks = sum((result["prompt_tokens"] + GENERATED - 1) // BLOCK for result in results)
            self.assertGreaterEqual(blocks, 4)
            with self.subTest(engine=name):
                await_that("all of it is listed", lambda: cluster.on_device(name) == blocks)  # noqa: B023 - awaited here
        for name, engine in engines.items():
            with self.subTest(engine=name):
                # What it has not forgotten is the block of the request with which it does.
                engine.generate(["x"], tokens=2, forget=True)
                await_that("it is listed no more", lambda: cluster.on_device(name) == 0)  # noqa: B023
                engine.generate(PROMPTS, tokens=GENERATED)
                await_that("it is listed again", lambda: cluster.on_device(name) > 0)  # noqa: B023
                engine.stop()
                await_that("an engine that is gone holds nothing", lambda: cluster.on_device(name) == 0)  # noqa: B023


if __name__ == "__main__":
    unittest.main(verbosity=2)
