"""Time to the first token of a real vLLM, with weft against without: when nothing is found, and when a prefix is.

    ENGINES_WEFT=… python first_token.py [PROMPTS]

A model of 40 million random weights, prompts of some 700 tokens, one at a time. The engines with and without weft take turns with
each prompt, so that whatever else the machine does meets both alike. Nothing found: prompts never seen before. Found at the node:
the engine forgets its own cache first, and finds what it stored. Found at a peer: the engine of the other node.

On a GPU (docs/gpu.md): `ENGINES_DEVICE=cuda`, `ENGINES_MODEL` a model's folder instead of the one with random weights,
`ENGINES_MEMORY` and `ENGINES_HOST_MEMORY` the nodes' memory for it and for all, `ENGINES_MODEL_LEN` and `ENGINES_REPEAT` for
longer prompts, `ENGINES_SETTINGS` more settings of the connector, as JSON.
"""

import json
import os
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path

import tiny_model
from processes import Cluster, Engine, await_that, connector

PROMPTS = 40
WARM_UP = 3
BLOCK = 64


def prompt(number: int) -> str:
    """Different from the first token on, as long as the others."""
    return f"{number:06} " + "Some text that has to be computed. " * int(os.environ.get("ENGINES_REPEAT", "24"))


def stored(cluster: Cluster, blocks: int) -> bool:
    return cluster.metric(1, "weft_node_stored_blocks_total") >= blocks


def p(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else PROMPTS
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model = Path(os.environ.get("ENGINES_MODEL", root / "model"))
        if not model.exists():
            tiny_model.make(model, 0, 768, 8)
        memory = os.environ.get("ENGINES_MEMORY", "96MiB")
        cluster = Cluster(os.environ["ENGINES_WEFT"], root / "cluster", contract_memory=memory)
        more = json.loads(os.environ.get("ENGINES_SETTINGS", "{}"))
        engines = []
        try:
            for name, node in (("plain", None), ("one", 1), ("two", 2)):
                settings = {"socket": cluster.socket(node), "endpoint": name, "url": "http://127.0.0.1:1", "model": "m"} | more
                engines.append(Engine(model, root / f"{name}.log", connector(settings) if node else None))
            plain, one, two = engines
            for engine in engines:
                engine.ready()
            one.attached()
            two.attached()
            print(json.dumps(measure(cluster, plain, one, two, count), indent=1))
        finally:
            for engine in engines:
                engine.stop()
            cluster.stop()


def first(engine: Engine, text: str, **order) -> tuple[float, int, int]:
    """Milliseconds to the first token; tokens of the prompt that were found, and all of them."""
    (result,) = engine.generate([text], tokens=2, **order)
    return result["first"] * 1000, result["cached"], result["prompt_tokens"]


def measure(cluster: Cluster, plain: Engine, one: Engine, two: Engine, count: int) -> dict:
    without, nothing, host, peer = [], [], [], []
    found_host = found_peer = blocks = 0
    for number in range(count + WARM_UP):
        # Nothing found: the two take turns in being first.
        turns = [(plain, without), (one, nothing)]
        for engine, times in turns if number % 2 else reversed(turns):
            milliseconds, _, length = first(engine, prompt(number))
            times.append(milliseconds)
        # It is stored beside the engine's steps; the index hears of it within milliseconds.
        blocks += length // BLOCK
        await_that("it is stored", partial(stored, cluster, blocks))
        milliseconds, cached, _ = first(two, prompt(number))
        if cached:
            peer.append(milliseconds)
            found_peer = cached
        milliseconds, cached, _ = first(one, prompt(number), forget=True)
        if cached:
            host.append(milliseconds)
            found_host = cached
    cut = {"without": without[WARM_UP:], "nothing_found": nothing[WARM_UP:], "at_node": host[WARM_UP:], "at_peer": peer[WARM_UP:]}
    report = {
        name: {"n": len(of), "p50_ms": round(statistics.median(of), 2), "p95_ms": round(p(of, 0.95), 2)}
        for name, of in cut.items()
        if of
    }
    pairs = [b / a - 1 for a, b in zip(cut["without"], cut["nothing_found"], strict=True)]
    report["cost_when_nothing_is_found"] = {
        "p50": round(report["nothing_found"]["p50_ms"] / report["without"]["p50_ms"] - 1, 4),
        "p95": round(report["nothing_found"]["p95_ms"] / report["without"]["p95_ms"] - 1, 4),
        "of_pairs_p50": round(statistics.median(pairs), 4),
    }
    report["cached_tokens"] = {"at_node": found_host, "at_peer": found_peer}
    return report


if __name__ == "__main__":
    main()
