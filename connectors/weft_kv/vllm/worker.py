"""The worker's half: bytes between the engine's KV cache and buffers that the node client reads and writes.

On a GPU weft's own copier moves bytes between the cache and the node's memory, ordered with the engine's stream by events, so
that no thread of the engine waits (``device``). Everywhere else copies are torch operations through a buffer (``pages``), which
run on a CPU too. Saves are made by a thread, beside the steps that follow; the blocks stay as they are meanwhile,
since the scheduler frees them only when this half says so.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from functools import partial
from typing import TYPE_CHECKING, Any

from weft_kv.vllm.pages import Pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from weft_kv._native import Arriving, Lookup, Stored
    from weft_kv.attachment import Attachment
    from weft_kv.settings import Settings
    from weft_kv.vllm.contract import Shape
    from weft_kv.vllm.device import DeviceCopies
    from weft_kv.vllm.orders import LoadOrder, SaveOrder

logger = logging.getLogger("vllm.weft")

JOBS_MAX = 256
"""Saves that may wait. One beyond is dropped: it is a miss some day, and the engine does not wait."""

SAVE_AFTER = 0.01
"""Seconds after a step's last layer before what it computed is saved: its tokens are sampled and sent first."""

STOP_SECONDS = 5.0
"""Longest wait, when the engine ends, for a thread to finish the job it has."""


class WorkerHalf:
    """One for each worker."""

    def __init__(self, attachment: Attachment, shape: Shape, settings: Settings) -> None:
        self._attachment = attachment
        self._shape = shape
        self._settings = settings
        self._lock = threading.Lock()
        self._saving: Counter[str] = Counter()
        self._ended: set[str] = set()
        self._received: set[str] = set()
        self._failed: set[int] = set()
        self._pages: Pages | None = None
        self._copies: DeviceCopies | None = None
        self._arriving: list[Arriving] = []
        self._offered = False
        self._saver: _Thread | None = None
        self._loader: _Thread | None = None
        self.counts: Counter[str] = Counter()
        """Blocks loaded, stored, present, refused, dropped and failed so far."""

    def register(self, caches: dict[str, Any], num_blocks: int) -> None:
        """The engine's KV cache is there."""
        self._pages = Pages(caches, num_blocks, self._shape, self._settings.staging_bytes)
        if self._settings.device_copies:
            self._copies = self._pages.copies()
        self._saver = _Thread("weft-save", self._pages.context)
        self._loader = _Thread("weft-load", self._pages.context)

    def load(self, orders: Iterable[LoadOrder]) -> None:
        """Begin what is to be loaded; what the step needs is there on return."""
        self._arriving = [arriving for arriving in self._arriving if not arriving.done]
        orders = list(orders)
        # The blocks were the engine's until now: what it asked of its stream comes first.
        ready = self._pages.ready() if self._copies is not None and self._pages is not None and orders else None
        for order in orders:
            if not order.background:
                self._load(order, ready)
            elif self._loader is None or not self._loader.put(partial(self._load_beside, order, ready), order.request_id):
                self._load_beside(order, ready)

    def wait_layer(self, name: str) -> None:
        """Have the engine's stream wait for what comes into a layer: it is about to be computed."""
        if self._copies is not None and self._settings.layerwise:
            for arriving in self._arriving:
                self._copies.hold(arriving, name)

    def save(self, orders: Iterable[SaveOrder]) -> None:
        """Begin to save. Does not wait."""
        orders = list(orders)
        if not orders:
            return
        ready = self._pages.ready() if self._pages is not None else None
        for order in orders:
            with self._lock:
                self._saving[order.request_id] += 1
            if self._saver is None or not self._saver.put(partial(self._save, order, ready), order.request_id, SAVE_AFTER):
                self.counts["dropped"] += len(order.hashes)
                self._saved(order.request_id)

    def preempted(self, request_ids: Iterable[str]) -> None:
        """Blocks of these may be overwritten from now on: saves of theirs are dropped, or over, on return."""
        request_ids = set(request_ids)
        if request_ids and self._saver is not None:
            for request_id in self._saver.drop(request_ids):
                self._saved(request_id)

    def ended(self, request_ids: Iterable[str]) -> tuple[set[str], set[str]]:
        """Take in which requests have ended; which of them are saved, and which requests have what they waited for."""
        with self._lock:
            self._ended |= {request_id for request_id in request_ids if request_id in self._saving}
            saved = {request_id for request_id in self._ended if self._saving[request_id] == 0}
            self._ended -= saved
            for request_id in saved:
                del self._saving[request_id]
            received, self._received = self._received, set()
        return saved, received

    def failed_blocks(self) -> set[int]:
        """Blocks of the engine that were to be loaded and were not."""
        with self._lock:
            failed, self._failed = self._failed, set()
        return failed

    def close(self) -> None:
        """End the threads."""
        for thread in (self._loader, self._saver):
            if thread is not None:
                thread.stop()
        self._arriving.clear()

    def _load_beside(self, order: LoadOrder, ready: Any) -> None:  # noqa: ANN401 - an event of torch, or nothing
        try:
            self._load(order, ready)
        finally:
            with self._lock:
                self._received.add(order.request_id)

    def _load(self, order: LoadOrder, ready: Any) -> None:  # noqa: ANN401 - an event of torch, or nothing
        done = 0
        lookup = self._attachment.take(order.lookup)
        try:
            if lookup is not None and self._copies is not None:
                done = self._arrive(self._copies, lookup, order, ready)
            elif lookup is not None and self._pages is not None:
                done = self._pages.scatter(lookup, order)
        except Exception:
            logger.exception("weft: a load failed: the blocks are computed")
        finally:
            if lookup is not None:
                lookup.release()
            with self._lock:
                self.counts["loaded"] += done
                self.counts["failed"] += len(order.blocks) - done
                self._failed.update(order.blocks[done:])

    def _arrive(self, copies: DeviceCopies, lookup: Lookup, order: LoadOrder, ready: Any) -> int:  # noqa: ANN401
        came = copies.whole(self._attachment.client, lookup, order, ready)
        if came is not None:
            return came
        arriving = copies.begin(lookup, order, ready)
        if order.background:
            # The engine uses the blocks when it is told that they are there.
            arriving.wait()
            return len(arriving)
        if not self._settings.layerwise:
            copies.hold(arriving, None)
        self._arriving.append(arriving)
        return len(arriving)

    def _save(self, order: SaveOrder, ready: Any) -> None:  # noqa: ANN401 - an event of torch, or nothing
        try:
            if self._pages is None or not self._attachment.client.attached:
                self.counts["refused"] += len(order.hashes)
                return
            if self._copies is not None:
                self._prepare(self._copies)
                self._count(self._copies.store(self._attachment.client, order, ready))
                return
            for hashes, rows in self._pages.gather(order, ready):
                done = self._attachment.client.store(hashes, rows)
                self._count(done)
                if done.refused:
                    # What follows a missing block is never found.
                    return
        except Exception:
            logger.exception("weft: a save failed: the blocks are not stored")
        finally:
            self._saved(order.request_id)

    def _prepare(self, copies: DeviceCopies) -> None:
        """What takes a moment, where there is time for it: once for each life of the node's memory."""
        if not self._settings.node_copies:
            copies.pin(self._attachment.client)
        elif not self._offered:
            self._offered = True
            copies.hand_over(self._attachment.client)

    def _count(self, done: Stored) -> None:
        self.counts["stored"] += done.stored
        self.counts["present"] += done.present
        self.counts["refused"] += done.refused

    def _saved(self, request_id: str) -> None:
        with self._lock:
            self._saving[request_id] -= 1


class _Thread:
    """A thread that does one job after the other, in a context of its own."""

    def __init__(self, name: str, context: Callable[[], AbstractContextManager[Any]]) -> None:
        self._jobs: deque[tuple[str, Callable[[], None], float]] = deque()
        self._running: str | None = None
        self._stopped = False
        self._changed = threading.Condition()
        self._context = context
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, job: Callable[[], None], of: str, after: float = 0.0) -> bool:
        """Have it done for a request, in so many seconds at the earliest; ``False`` when too much waits already."""
        with self._changed:
            if self._stopped or len(self._jobs) >= JOBS_MAX:
                return False
            self._jobs.append((of, job, time.monotonic() + after))
            self._changed.notify_all()
            return True

    def drop(self, whose: set[str]) -> list[str]:
        """Take back the jobs of these that wait, and wait for the one that runs. Whose were taken back."""
        with self._changed:
            dropped = [of for of, _, _ in self._jobs if of in whose]
            self._jobs = deque(job for job in self._jobs if job[0] not in whose)
            self._changed.wait_for(lambda: self._running not in whose)
        return dropped

    def stop(self) -> None:
        """No more jobs; those that wait are forgotten."""
        with self._changed:
            self._stopped = True
            self._jobs.clear()
            self._changed.notify_all()
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        with self._context():
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._jobs or self._stopped)
                    if self._stopped:
                        return
                    early = self._jobs[0][2] - time.monotonic()
                    if early > 0:
                        self._changed.wait(early)
                        continue
                    self._running, job, _ = self._jobs.popleft()
                try:
                    job()
                finally:
                    with self._changed:
                        self._running = None
                        self._changed.notify_all()
