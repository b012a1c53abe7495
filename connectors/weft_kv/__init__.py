"""Weft for Python engines: the node client, and one module for each engine.

``weft_kv.vllm`` is a KV connector of vLLM. What is here is what connectors are made of::

    contract = Contract(model="m", revision="digest", layout="…", block_tokens=64, block_bytes=…)
    client = Client("/run/weft/engine.sock", contract, endpoint="engine-1", url="http://10.0.0.7:8000")
    hashes = BlockHasher(contract).hash(token_ids)
    client.store(hashes, rows)
    lookup = client.lookup(hashes, deadline=1.0)

and, for an engine whose cache is on a GPU, ``GpuCopier``: the same without a buffer between.

A daemon that dies, hangs or refuses never raises: a load is a miss, a store is refused.
"""

from weft_kv._native import (
    Arriving,
    BlockHasher,
    Client,
    Contract,
    GpuCopier,
    Lookup,
    NodeCopier,
    Stored,
    __version__,
    log_to_stderr,
)

__all__ = [
    "Arriving",
    "BlockHasher",
    "Client",
    "Contract",
    "GpuCopier",
    "Lookup",
    "NodeCopier",
    "Stored",
    "__version__",
    "log_to_stderr",
]
