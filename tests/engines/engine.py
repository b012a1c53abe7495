"""A real vLLM that does as it is told, line by line: JSON in, JSON out.

    python engine.py MODEL [SETTINGS]

`SETTINGS` are vLLM's, besides those here (`processes.connector` and `processes.tier` make some).

`{"generate": [prompt, …], "tokens": n, "salt": s, "pause": k}` answers with the tokens of each prompt, how many of the prompt
were cached, and the seconds to the first token; after `k` steps it says `{"paused": k}` and goes on at the next line.
`"forget": true` empties the engine's own cache first; `"spoil": true` changes one byte of each load from then on.
"""

import json
import os
import sys
import time

ON_GPU = os.environ.get("ENGINES_DEVICE", "cpu") == "cuda"
"""With a vLLM for GPUs in the environment, on a machine that has one: docs/gpu.md."""

os.environ |= {} if ON_GPU else {"VLLM_CPU_KVCACHE_SPACE": "1"}
os.environ |= {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
}
# What is said to whoever tells us; the engine and its libraries print to stderr.
OUT = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

from vllm import LLM, SamplingParams  # noqa: E402

VALUES_AT = 32 * 32 * 2
"""Where values begin in a block of 32 tokens, after the keys of the first head: 32 numbers of two bytes each."""


def say(what) -> None:
    print(json.dumps(what), file=OUT, flush=True)


def start(model: str, settings: dict) -> LLM:
    # On a GPU three engines share one device, and CUDA graphs are part of what is measured.
    device = {"gpu_memory_utilization": 0.25} if ON_GPU else {"enforce_eager": True, "num_gpu_blocks_override": 96}
    return LLM(
        model=model,
        dtype="bfloat16",
        max_model_len=int(os.environ.get("ENGINES_MODEL_LEN", "1024")),
        block_size=32,
        enable_prefix_caching=True,
        **device,
        **settings,
    )


def spoil_a_byte() -> None:
    """From now on one byte of each load is another: the high one of the first value (not key) of its first token, in one layer.

    The number becomes too large to be overlooked, as a turned bit of its exponent would make it.
    """
    from weft_kv.vllm.pages import Pages  # noqa: PLC0415

    class Spoilt:
        def __init__(self, lookup):
            self.lookup = lookup

        def copy_into(self, out, first, count):
            done = self.lookup.copy_into(out, first, count)
            out[0, VALUES_AT + 1] = 0x7F
            return done

    scatter = Pages.scatter
    Pages.scatter = lambda self, lookup, order: scatter(self, Spoilt(lookup), order)


def forget(llm: LLM) -> None:
    """Blocks of requests that have ended are freed in a later step, once they are saved: make steps until then."""
    for _ in range(100):
        if llm.reset_prefix_cache():
            return
        llm.generate(["x"], SamplingParams(max_tokens=1), use_tqdm=False)
    raise AssertionError("the engine still uses its cache")


def generate(llm: LLM, order: dict) -> dict:
    if order.get("forget"):
        forget(llm)
    if order.get("spoil"):
        spoil_a_byte()
    params = SamplingParams(temperature=0, max_tokens=order["tokens"], ignore_eos=True)
    engine, begun = llm.llm_engine, time.perf_counter()
    answers, first, steps = {}, {}, 0
    for number, prompt in enumerate(order["generate"]):
        prompt = {"prompt": prompt} | ({"cache_salt": order["salt"]} if order.get("salt") else {})  # noqa: PLW2901
        engine.add_request(f"{time.monotonic_ns()}-{number}", prompt, params)
    while engine.has_unfinished_requests():
        for output in engine.step():
            if output.outputs[0].token_ids:
                first.setdefault(output.request_id, time.perf_counter() - begun)
            if output.finished:
                answers[output.request_id] = output
        steps += 1
        if steps == order.get("pause"):
            say({"paused": steps})
            sys.stdin.readline()
    results = [
        {
            "tokens": list(output.outputs[0].token_ids),
            "prompt_tokens": len(output.prompt_token_ids),
            "cached": output.num_cached_tokens,
            "first": first[name],
        }
        for name, output in sorted(answers.items(), key=lambda item: int(item[0].rpartition("-")[2]))
    ]
    return {"results": results, "seconds": time.perf_counter() - begun}


def counts(llm: LLM) -> dict:
    connector = llm.llm_engine.engine_core.engine_core.scheduler.connector
    if type(connector).__name__ == "WeftConnector":
        from vllm.distributed.kv_transfer import get_kv_transfer_group  # noqa: PLC0415

        # What the worker's half counts, and the scheduler's half knows.
        done, attachment = get_kv_transfer_group().counts, connector._attachment  # noqa: SLF001
    else:
        (tier,) = connector.connector_scheduler.manager.secondary_tiers
        done, attachment = dict(tier.counts), tier._rows and tier._rows.attachment  # noqa: SLF001
    return done | {"attached": attachment is not None and attachment.client.attached}


def main() -> None:
    llm = start(sys.argv[1], json.loads(sys.argv[2]) if len(sys.argv) > 2 else {})
    say({"ready": True})
    for line in sys.stdin:
        order = json.loads(line)
        if "generate" in order:
            say(generate(llm, order))
        elif order.get("counts"):
            say(counts(llm))


if __name__ == "__main__":
    main()
