"""A real SGLang that does as it is told, line by line: JSON in, JSON out, as engine.py does.

    python sglang_engine.py MODEL [SETTINGS]

`SETTINGS` are weft's, with `"spoil": true` to change one byte of each page that is loaded; without any there is no hierarchical
cache. It needs `ninja` on the path, and a C++ compiler: SGLang compiles its hash function.
"""

import json
import os
import sys
import time

import sglang

import cpu_hicache  # noqa: F401 - makes the cache run on a CPU

PAGE = 32


def spoil_a_byte() -> None:
    """From now on the high byte of the first value of each page is another."""
    from weft_kv.sglang.storage import _Place  # noqa: PLC0415

    write = _Place.write

    def spoilt(self, row):
        # Keys and values of a layer take turns, each as long as the others.
        size = self._pieces[0][1]
        row[size + 1] = 0x7F
        write(self, row)

    _Place.write = spoilt


if os.environ.get("ENGINES_SPOIL"):
    spoil_a_byte()


def start(model: str, settings: dict | None) -> sglang.Engine:
    cache = {}
    if settings:
        if settings.pop("spoil", False):
            os.environ["ENGINES_SPOIL"] = "1"
        extra = {
            "backend_name": "weft",
            "module_path": "weft_kv.sglang",
            "class_name": "WeftStorage",
            "interface_v1": 1,
            "prefetch_threshold": PAGE,
            "weft": settings,
        }
        cache = {
            "enable_hierarchical_cache": True,
            "hicache_ratio": 2.0,
            "hicache_io_backend": "direct",
            "hicache_mem_layout": "layer_first",
            "hicache_write_policy": "write_through",
            "hicache_storage_prefetch_policy": "wait_complete",
            "hicache_storage_backend": "dynamic",
            "hicache_storage_backend_extra_config": json.dumps(extra),
        }
    return sglang.Engine(
        model_path=model,
        device="cpu",
        attention_backend="torch_native",
        sampling_backend="pytorch",
        disable_cuda_graph=True,
        disable_overlap_schedule=True,
        mem_fraction_static=0.2,
        max_total_tokens=4096,
        skip_server_warmup=True,
        log_level="info",
        page_size=PAGE,
        enable_cache_report=True,
        **cache,
    )


def generate(engine: sglang.Engine, order: dict) -> dict:
    params, results = {"temperature": 0, "max_new_tokens": order["tokens"], "ignore_eos": True}, []
    for prompt in order["generate"]:
        begun = time.perf_counter()
        answer = engine.generate(prompt, params)
        told = answer["meta_info"]
        results.append(
            {
                "tokens": answer["output_ids"],
                "prompt_tokens": told["prompt_tokens"],
                "cached": told["cached_tokens"],
                "seconds": time.perf_counter() - begun,
            }
        )
    return {"results": results}


def main() -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(what) -> None:
        print(json.dumps(what), file=out, flush=True)

    engine = start(sys.argv[1], json.loads(sys.argv[2]) if len(sys.argv) > 2 else None)
    say({"ready": True})
    for line in sys.stdin:
        order = json.loads(line)
        if order.get("forget"):
            engine.flush_cache()
        say(generate(engine, order) if "generate" in order else {})
    engine.shutdown()


if __name__ == "__main__":
    main()
