"""Weft as a KV connector of vLLM, loaded without a patch.

::

    vllm serve MODEL --kv-transfer-config '{
        "kv_connector": "WeftConnector", "kv_connector_module_path": "weft_kv.vllm",
        "kv_role": "kv_both", "kv_load_failure_policy": "recompute"}'
"""

from weft_kv.vllm.connector import WeftConnector

__all__ = ["WeftConnector"]
