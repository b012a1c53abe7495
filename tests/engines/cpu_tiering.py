"""vLLM's tiered offloading on a CPU: the real connector and manager, with copies between "device" and host in NumPy.

For tests: vLLM's own worker copies on GPUs only.
"""

import torch
from vllm.v1.kv_offload.base import OffloadingWorker, TransferResult
from vllm.v1.kv_offload.cpu.shared_offload_region import SharedOffloadRegion
from vllm.v1.kv_offload.tiering.spec import TieringOffloadingSpec


class CpuTieringSpec(TieringOffloadingSpec):
    """With a worker that copies at once."""

    def get_worker(self, kv_caches):
        if not self._worker:
            region = SharedOffloadRegion(
                engine_id=self._engine_id,
                num_chunks=self.num_chunks,
                rank=self.config.parallel.rank,
                kv_bytes_per_chunk=self.kv_bytes_per_chunk,
                cpu_page_size=self.cpu_page_size_per_worker,
            )
            self._worker = CopyingWorker(kv_caches, region, self.blocks_per_chunk)
        return self._worker


class CopyingWorker(OffloadingWorker):
    """Copies block by block, within the call."""

    def __init__(self, caches, region, blocks_per_chunk):
        self._caches, self._region, self._ratio = caches, region, blocks_per_chunk
        self._finished = []
        self._device = [cache.tensor.view(torch.int8).view((-1, cache.page_size_bytes)).numpy() for cache in caches.tensors]
        views = (region.create_next_worker_view(cache.page_size_bytes * blocks_per_chunk) for cache in caches.tensors)
        self._host = [view.numpy() for view in views]

    def submit_store(self, job_id, src_spec, dst_spec):
        return self._copy(job_id, src_spec, dst_spec, to_host=True)

    def submit_load(self, job_id, src_spec, dst_spec):
        return self._copy(job_id, dst_spec, src_spec, to_host=False)

    def get_finished(self):
        finished, self._finished = self._finished, []
        return finished

    def wait(self, job_ids):
        pass

    def shutdown(self):
        self._device = self._host = None
        self._region.cleanup()

    def _copy(self, job_id, device, host, *, to_host):
        copied = 0
        for group, block, chunk, part in self._pairs(device, host):
            for reference in self._caches.group_data_refs[group]:
                size = self._caches.tensors[reference.tensor_idx].page_size_bytes
                there = self._host[reference.tensor_idx][chunk, part * size : (part + 1) * size]
                here = self._device[reference.tensor_idx][block]
                target, source = (there, here) if to_host else (here, there)
                target[:] = source
                copied += size
        self._finished.append(TransferResult(job_id, success=True, transfer_size=copied, transfer_time=1e-6))
        return True

    def _pairs(self, device, host):
        """Group, block of the device, chunk of the host and which of its blocks it is."""
        blocks, chunks = iter(device.block_ids), 0
        for group, (count, first) in enumerate(zip(device.group_sizes, device.block_indices, strict=True)):
            skip = first % self._ratio
            for position in range(skip, skip + count):
                yield group, int(next(blocks)), int(host.block_ids[chunks + position // self._ratio]), position % self._ratio
            if count:
                chunks += -(-(count + skip) // self._ratio)
