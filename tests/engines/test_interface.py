"""The interface of vLLM that the connector is written against, method by method: a newer vLLM that moves it is noticed here."""

import inspect
import unittest
from dataclasses import fields

from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorBase_V1, SupportsHMA
from vllm.v1.core.sched.output import CachedRequestData, KVConnectorBlockState, NewRequestData, SchedulerOutput
from vllm.v1.kv_cache_interface import KVCacheConfig
from weft_kv.vllm import WeftConnector

OURS = {"counts", "give_up"}
"""What the connector has besides."""


def parameters(method) -> list[str]:
    return list(inspect.signature(method).parameters)


class Interface(unittest.TestCase):
    def test_what_we_override_is_there_with_the_same_parameters(self):
        for name, method in vars(WeftConnector).items():
            if name.startswith("_") or name in OURS:
                continue
            with self.subTest(method=name):
                base = getattr(KVConnectorBase_V1, name, None) or getattr(SupportsHMA, name, None)
                self.assertIsNotNone(base, "vLLM has it no more")
                if not isinstance(base, property):
                    self.assertEqual(parameters(method), parameters(base))

    def test_nothing_that_has_to_be_overridden_is_missing(self):
        self.assertEqual(set(WeftConnector.__abstractmethods__), set())

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
        }
        for of, names in read.items():
            with self.subTest(of=of.__name__):
                self.assertEqual(names - {field.name for field in fields(of)}, set())
        self.assertEqual(parameters(KVConnectorBlockState.get_block_ids), ["self", "req_id"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
