"""SGLang's hierarchical cache on a CPU: importing this makes the real one run where there is neither pinned memory nor a stream.

For tests. SGLang's schedulers are started as processes that import the launching script again, which has to import this.
"""

import time

import torch
from sglang.srt.mem_cache.pool_host import base, common, mha


class Event:
    """Of a stream on which everything is done at once."""

    def __init__(self, *_args, **_kwargs):
        self._at = 0.0

    def record(self, _stream=None):
        self._at = time.perf_counter()

    def query(self):
        return True

    def synchronize(self):
        pass

    def wait(self, _stream=None):
        pass

    def elapsed_time(self, other):
        return (other._at - self._at) * 1e3  # noqa: SLF001


class Stream:
    """On which everything is done at once."""

    def __init__(self, *_args, **_kwargs):
        pass

    def wait_event(self, _event):
        pass

    def wait_stream(self, _other):
        pass

    def record_event(self, event=None):
        event = event or Event()
        event.record()
        return event

    def synchronize(self):
        pass

    def query(self):
        return True

    def __enter__(self):
        return self

    def __exit__(self, *_args):
        return False


def copy(src_layers, dst_layers, src_indices, dst_indices, page_size):  # noqa: ARG001
    """Between "device" and host."""
    for source, target in zip(src_layers, dst_layers, strict=True):
        target[dst_indices] = source[src_indices]


ONLY = Stream()
torch.cpu.Event, torch.cpu.Stream = Event, Stream
torch.cpu.current_stream = lambda _device=None: ONLY
torch.cpu.stream = lambda _stream=None: ONLY
for module in (base, common, mha):
    for name in ("_cuda_host_register", "_cuda_host_unregister"):
        if hasattr(module, name):
            setattr(module, name, lambda *_args, **_kwargs: None)
mha.transfer_kv_direct = copy
