"""Weft as a secondary tier of vLLM's own offloading: vLLM copies between device and host, weft between host and cluster.

::

    vllm serve MODEL --kv-transfer-config '{
        "kv_connector": "OffloadingConnector", "kv_role": "kv_both",
        "kv_connector_extra_config": {"spec_name": "TieringOffloadingSpec", "cpu_bytes_to_use": 10737418240,
            "secondary_tiers": [{"type": "WeftTier", "module_path": "weft_kv.vllm.tier"}]}}'

vLLM names what it offloads by its own block hashes, so that it is shared with other vLLMs of the same configuration. A chunk has
the bytes of all ranks of an engine. Everything here is called by vLLM's scheduler and returns at once: lookups and copies are
made by threads.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from vllm.v1.kv_offload.base import Locality, LookupResult, Medium, RequestOffloadingContext
from vllm.v1.kv_offload.tiering.async_lookup import AsyncLookupManager
from vllm.v1.kv_offload.tiering.base import JobResult, SecondaryTierManager

from weft_kv import fingerprint, kernels
from weft_kv._native import Contract
from weft_kv.attachment import attach
from weft_kv.named import NameHasher
from weft_kv.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vllm.v1.kv_offload.base import OffloadingSpec, OffloadKey, ReqContext, ScheduleEndContext
    from vllm.v1.kv_offload.config import OffloadingConfig
    from vllm.v1.kv_offload.tiering.backpressure import BackpressureDetector
    from vllm.v1.kv_offload.tiering.base import TransferJob

    from weft_kv.attachment import Attachment

logger = logging.getLogger("vllm.weft")

JOBS_MAX = 256
"""Transfers that may wait, in each direction. One beyond fails at once: vLLM computes, or drops what it would store."""


class WeftTier(SecondaryTierManager):  # type: ignore[misc]  # vLLM has no types here
    """Chunks of vLLM's host memory, shared through the node."""

    medium: ClassVar[Medium] = Medium.STORAGE

    def __init__(
        self,
        offloading_spec: OffloadingSpec,
        primary_kv_view: memoryview,
        tier_type: str,
        backpressure_detector: BackpressureDetector | None = None,
        locality: str = "REMOTE",
        **settings: Any,  # noqa: ANN401 - as they are in vLLM's configuration
    ) -> None:
        super().__init__(offloading_spec, primary_kv_view, tier_type, backpressure_detector)
        self.locality = Locality(locality)
        self.counts: Counter[str] = Counter()
        """Chunks loaded, stored, present, refused and failed so far."""
        self._running: dict[int, tuple[TransferJob, Future[list[OffloadKey]], float]] = {}
        self._threads = {load: ThreadPoolExecutor(1, f"weft-tier-{'load' if load else 'store'}") for load in (True, False)}
        self._rows: _Rows | None = None
        try:
            self._rows = _Rows(offloading_spec.config, primary_kv_view, Settings.read(settings), self.counts)
        except Exception:
            logger.exception("weft stays out of this engine")
        self._lookups = _Lookups(tier_type, self._rows)

    def lookup(self, key: OffloadKey, req_context: ReqContext) -> LookupResult:
        """Whether a chunk can be had; not known yet at first."""
        if self._rows is None or not self._rows.attachment.client.attached:
            return LookupResult.MISS
        found = self._lookups.lookup(key, req_context)
        if found is None:
            return LookupResult.RETRY
        return LookupResult.HIT if found else LookupResult.MISS

    def submit_store(self, job_metadata: TransferJob) -> None:
        """Begin to store chunks."""
        self._submit(job_metadata, load=False)

    def submit_load(self, job_metadata: TransferJob) -> None:
        """Begin to load chunks."""
        self._submit(job_metadata, load=True)

    def get_finished_jobs(self) -> Iterable[JobResult]:
        """What has ended since the last call."""
        ended = [job_id for job_id, (_, future, _) in self._running.items() if future.done()]
        return [self._result(job_id) for job_id in ended]

    def has_pending_work(self) -> bool:
        """Whether a transfer is under way."""
        return bool(self._running)

    def on_new_request(self, req_context: ReqContext) -> RequestOffloadingContext:  # noqa: ARG002
        """No wish about how a request is offloaded."""
        return RequestOffloadingContext()

    def on_request_finished(self, req_context: ReqContext) -> None:
        """A request ends: its answers are forgotten."""
        self._lookups.cleanup(req_context.req_id)

    def on_schedule_end(self, context: ScheduleEndContext) -> None:  # noqa: ARG002
        """A step was scheduled: what was asked in it is looked up, together."""
        self._lookups.flush()

    def drain_jobs(self) -> None:
        """Wait for all transfers: each ends with its deadline."""
        wait([future for _, future, _ in self._running.values()])

    def shutdown(self) -> None:
        """End the threads, and leave the cluster."""
        for threads in self._threads.values():
            threads.shutdown(cancel_futures=True)
        self._lookups.shutdown()
        rows, self._rows = self._rows, None
        if rows is not None:
            logger.info("weft: %s", dict(self.counts))
            rows.attachment.release()

    def _submit(self, job: TransferJob, *, load: bool) -> None:
        rows = self._rows
        if rows is None or len(self._running) >= 2 * JOBS_MAX:
            future: Future[list[OffloadKey]] = Future()
            future.set_result([])
        else:
            work: Callable[..., list[OffloadKey]] = rows.load if load else rows.store
            future = self._threads[load].submit(work, list(job.keys), job.chunk_ids)
        self._running[job.job_id] = (job, future, time.monotonic())

    def _result(self, job_id: int) -> JobResult:
        job, future, begun = self._running.pop(job_id)
        done: list[OffloadKey] = []
        if future.cancelled() or future.exception() is not None:
            logger.error("weft: a transfer failed", exc_info=None if future.cancelled() else future.exception())
        else:
            done = future.result()
        keys = list(job.keys)
        self.counts["failed"] += len(keys) - len(done)
        if job.is_promotion:
            # Not asked for again by those who wait for it.
            self._lookups.mark_miss(keys[len(done) :])
        return JobResult(
            job_id=job_id,
            success=len(done) == len(keys),
            successful_keys=tuple(done) or None,
            transfer_time=time.monotonic() - begun,
            transfer_bytes=len(done) * self.block_size_bytes,
        )


class _Lookups(AsyncLookupManager):  # type: ignore[misc]  # vLLM has no types here
    """Lookups by a thread, those of a request in one step together."""

    def __init__(self, tier_type: str, rows: _Rows | None) -> None:
        # The thread begins in there.
        self._rows = rows
        super().__init__(tier_type=tier_type)

    def batch_lookup(self, keys: list[OffloadKey], req_context: ReqContext) -> Iterable[bool]:  # noqa: ARG002
        """Which of a prefix's chunks can be had: the leading ones."""
        found = 0 if self._rows is None else self._rows.find(keys)
        return [position < found for position in range(len(keys))]


class _Rows:
    """Rows of vLLM's host memory as blocks of weft."""

    def __init__(self, config: OffloadingConfig, view: memoryview, settings: Settings, counts: Counter[str]) -> None:
        self._view = np.asarray(view)
        self._settings = settings
        self._counts = counts
        contract = _contract(config, self._view.shape[1] * self._view.itemsize, settings)
        self._hasher = NameHasher(contract)
        self._bytes = contract.block_bytes
        self.attachment: Attachment = attach(settings, contract)
        logger.info("weft: tier of endpoint %s at %s, %r", settings.endpoint, settings.socket, contract)

    def find(self, keys: list[OffloadKey]) -> int:
        """Leading chunks that the node has now: those of others were fetched."""
        deadline = self._settings.load_deadline
        lookup = self.attachment.client.lookup(self._hasher.hash(keys), deadline)
        try:
            lookup.wait(deadline)
            return len(lookup)
        finally:
            lookup.release()

    def load(self, keys: list[OffloadKey], chunks: np.ndarray) -> list[OffloadKey]:
        """Leading chunks that were loaded."""
        done = 0
        for batch in self._batches(keys):
            rows: np.ndarray = np.empty((len(batch), self._bytes), dtype=np.uint8)
            came = self.attachment.client.load(self._hasher.hash(batch), rows, self._settings.load_deadline)
            self._view[chunks[done : done + came]] = rows[:came].view(self._view.dtype)
            done += came
            if came < len(batch):
                break
        self._counts["loaded"] += done
        return keys[:done]

    def store(self, keys: list[OffloadKey], chunks: np.ndarray) -> list[OffloadKey]:
        """Leading chunks that are stored now, by this or by an earlier one."""
        done = 0
        for batch in self._batches(keys):
            rows = self._view[chunks[done : done + len(batch)]].view(np.uint8)
            stored = self.attachment.client.store(self._hasher.hash(batch), rows)
            for count in ("stored", "present", "refused"):
                self._counts[count] += getattr(stored, count)
            done += stored.stored + stored.present
            if stored.refused:
                break
        return keys[:done]

    def _batches(self, keys: list[OffloadKey]) -> Iterable[list[OffloadKey]]:
        count = max(1, self._settings.staging_bytes // self._bytes)
        return (keys[begin : begin + count] for begin in range(0, len(keys), count))


def _contract(config: OffloadingConfig, row_bytes: int, settings: Settings) -> Contract:
    """What engines must have in common whose chunks mean the same under the same name."""
    parallel, cache = config.parallel, config.cache
    group = max(group.tokens_per_block for group in config.groups)
    layout = [
        "vllm-tier-1",
        config.model.dtype,
        f"{config.kv_cache_layout}",
        f"H{cache.tokens_per_hash}x{cache.blocks_per_chunk}",
        "G" + "+".join(f"{group.tokens_per_block}x{len(group.layer_names)}" for group in config.groups),
        f"tp{parallel.tp_size}pp{parallel.pp_size}pcp{parallel.pcp_size}dcp{parallel.dcp_size}",
        "canonical" if config.canonical_layout else "replicated" if config.replicated_layout else "direct",
        kernels.of_this_machine(),
    ]
    name = config.model.name
    return Contract(
        model=settings.model or Path(name).name,
        revision=settings.revision or fingerprint.of_model(name),
        layout=":".join(layout),
        block_tokens=group * cache.blocks_per_chunk,
        block_bytes=row_bytes,
        aliases=[name],
    )
