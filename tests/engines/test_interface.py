"""The interfaces of engines that we are written against, method by method: a newer engine that moves one is noticed here."""

import inspect
import unittest
from dataclasses import fields

from sglang.srt.mem_cache.hicache_storage import HiCacheStorage, HiCacheStorageConfig
from sglang.srt.mem_cache.pool_host.mha import MHATokenToKVPoolHost
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorBase_V1, SupportsHMA
from vllm.v1.core.sched.output import CachedRequestData, KVConnectorBlockState, NewRequestData, SchedulerOutput
from vllm.v1.kv_cache_interface import KVCacheConfig
from vllm.v1.kv_offload.config import OffloadingCacheConfig, OffloadingConfig, OffloadingParallelConfig
from vllm.v1.kv_offload.tiering.async_lookup import AsyncLookupManager
from vllm.v1.kv_offload.tiering.base import JobResult, SecondaryTierManager, TransferJob
from weft_kv.sglang import WeftStorage
from weft_kv.vllm import WeftConnector
from weft_kv.vllm.tier import WeftTier, _Lookups

OURS = {"counts", "give_up"}
"""What the connector has besides."""

CLOSE = {"close"}
"""What SGLang calls where it is there."""


def parameters(method) -> list[str]:
    return list(inspect.signature(method).parameters)


class Interface(unittest.TestCase):
    def check(self, ours: type, bases: list[type], besides: set[str]):
        for name, method in vars(ours).items():
            if name.startswith("_") or name in besides or not callable(method):
                continue
            with self.subTest(of=ours.__name__, method=name):
                base = next((getattr(base, name) for base in bases if hasattr(base, name)), None)
                self.assertIsNotNone(base, "the engine has it no more")
                if not isinstance(base, property):
                    self.assertEqual(parameters(method), parameters(base))
        self.assertEqual(set(ours.__abstractmethods__), set(), "what has to be overridden")

    def test_what_we_override_is_there_with_the_same_parameters(self):
        self.check(WeftConnector, [KVConnectorBase_V1, SupportsHMA], OURS)
        self.check(WeftTier, [SecondaryTierManager], set())
        self.check(_Lookups, [AsyncLookupManager], set())
        self.check(WeftStorage, [HiCacheStorage], CLOSE)

    def test_what_we_are_made_with_is_what_engines_give(self):
        given = parameters(SecondaryTierManager.__init__)
        self.assertEqual(parameters(WeftTier.__init__)[: len(given)], given)
        self.assertEqual(parameters(MHATokenToKVPoolHost.get_page_buffer_meta), ["self", "indices"])

    def test_what_we_read_is_there(self):
        read = {
            SchedulerOutput: {
                "scheduled_new_reqs",
                "scheduled_cached_reqs",
                "num_scheduled_tokens",
                "preempted_req_ids",
                "kv_connector_block_state",
            },
            NewRequestData: {"req_id", "num_computed_tokens"},
            CachedRequestData: {"req_ids", "num_computed_tokens"},
            KVCacheConfig: {"num_blocks", "kv_cache_groups"},
            TransferJob: {"job_id", "keys", "chunk_ids", "is_promotion"},
            JobResult: {"job_id", "success", "successful_keys", "transfer_time", "transfer_bytes"},
            OffloadingConfig: {
                "groups",
                "model",
                "cache",
                "parallel",
                "canonical_layout",
                "replicated_layout",
                "kv_cache_layout",
            },
            OffloadingCacheConfig: {"tokens_per_hash", "blocks_per_chunk"},
            OffloadingParallelConfig: {"tp_size", "pp_size", "pcp_size", "dcp_size"},
            HiCacheStorageConfig: {
                "tp_size",
                "pp_size",
                "attn_cp_size",
                "dcp_size",
                "dp_rank",
                "model_name",
                "extra_config",
            },
        }
        for of, names in read.items():
            with self.subTest(of=of.__name__):
                self.assertEqual(names - {field.name for field in fields(of)}, set())
        self.assertEqual(parameters(KVConnectorBlockState.get_block_ids), ["self", "req_id"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
