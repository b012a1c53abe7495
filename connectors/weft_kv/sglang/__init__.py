r"""Weft as the storage under SGLang's hierarchical cache, loaded without a patch.

::

    python -m sglang.launch_server --model-path MODEL --enable-hierarchical-cache \
        --hicache-storage-backend dynamic --hicache-storage-backend-extra-config '{
            "backend_name": "weft", "module_path": "weft_kv.sglang", "class_name": "WeftStorage", "interface_v1": 1}'
"""

from weft_kv.sglang.storage import WeftStorage

__all__ = ["WeftStorage"]
