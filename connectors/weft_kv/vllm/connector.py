"""The class that vLLM loads: translation between its interface and the two halves, and the rule that nothing raises.

Whatever goes wrong here, the engine runs on: as if weft had nothing. That is said in the log, once.
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any, TypeVar, cast

from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorBase_V1, KVConnectorRole, SupportsHMA

from weft_kv.attachment import attach
from weft_kv.fingerprint import FingerprintError
from weft_kv.settings import Settings
from weft_kv.vllm.contract import UnsupportedError, derive
from weft_kv.vllm.orders import Orders
from weft_kv.vllm.scheduler import SchedulerHalf
from weft_kv.vllm.worker import WorkerHalf

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from vllm.config import VllmConfig
    from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorMetadata
    from vllm.forward_context import ForwardContext
    from vllm.v1.attention.backend import AttentionMetadata
    from vllm.v1.core.kv_cache_manager import KVCacheBlocks
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.kv_cache_interface import KVCacheConfig
    from vllm.v1.request import Request

    from weft_kv.attachment import Attachment

# Under vLLM's logger, so that it is seen where vLLM's own messages are.
logger = logging.getLogger("vllm.weft")

C = TypeVar("C", bound="Callable[..., Any]")


def fails_open(otherwise: Callable[[], Any]) -> Callable[[C], C]:
    """Return what the engine gets when weft is off, or fails now: ``otherwise()``."""

    def wrap(method: C) -> C:
        @functools.wraps(method)
        def guarded(self: WeftConnector, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as the method has it
            try:
                return method(self, *args, **kwargs)
            except Exception as error:
                self.give_up(method.__name__, error)
                return otherwise()

        return cast("C", guarded)

    return wrap


class WeftConnector(KVConnectorBase_V1, SupportsHMA):  # type: ignore[misc]  # vLLM has no types here
    """Loads the KV cache of known prefixes from weft, and saves what the engine computes."""

    def __init__(self, vllm_config: VllmConfig, role: KVConnectorRole, kv_cache_config: KVCacheConfig) -> None:
        super().__init__(vllm_config=vllm_config, role=role, kv_cache_config=kv_cache_config)
        self._attachment: Attachment | None = None
        self._scheduler: SchedulerHalf | None = None
        self._worker: WorkerHalf | None = None
        try:
            self._begin(vllm_config, role, kv_cache_config)
        except (UnsupportedError, FingerprintError) as error:
            logger.warning("weft stays out of this engine: %s", error)
        except Exception:
            logger.exception("weft stays out of this engine")

    def _begin(self, config: VllmConfig, role: KVConnectorRole, caches: KVCacheConfig) -> None:
        settings = Settings.read(self._kv_transfer_config.kv_connector_extra_config)
        contract, shape = derive(config, caches, settings)
        self._attachment = attach(settings, contract)
        if role is KVConnectorRole.WORKER:
            self._worker = WorkerHalf(self._attachment, shape, settings)
            return
        may_load = self._kv_transfer_config.kv_load_failure_policy == "recompute"
        if not may_load:
            logger.warning(
                "weft only saves: with kv_load_failure_policy '%s' a load that fails would fail its request; set 'recompute'",
                self._kv_transfer_config.kv_load_failure_policy,
            )
        self._scheduler = SchedulerHalf(self._attachment, shape, settings, may_load=may_load)
        logger.info("weft: endpoint %s at %s, %r", settings.endpoint, settings.socket, contract)

    def give_up(self, where: str, error: Exception) -> None:
        """Turn weft off for good, after an error of ours."""
        if self._scheduler is not None:
            logger.error("weft failed in %s and is off from now on: the engine runs without it", where, exc_info=error)
            self._scheduler.turn_off()
        else:
            logger.error("weft failed in %s", where, exc_info=error)

    @property
    def requires_kv_delivery(self) -> bool:
        """A cache: what is not saved is a miss, nothing is owed."""
        return False

    @property
    def counts(self) -> dict[str, int]:
        """Blocks loaded, failed (the engine's), stored, present, refused, dropped (weft's) by this worker."""
        return dict(self._worker.counts) if self._worker is not None else {}

    # Scheduler side.

    @fails_open(lambda: None)
    def on_new_request(self, request: Request) -> None:
        """A request arrives."""
        if self._scheduler is not None:
            self._scheduler.on_new_request(request)

    @fails_open(lambda: (0, False))
    def get_num_new_matched_tokens(self, request: Request, num_computed_tokens: int) -> tuple[int | None, bool]:
        """Tokens that can be loaded beyond those computed."""
        return (0, False) if self._scheduler is None else self._scheduler.matched_tokens(request, num_computed_tokens)

    def update_state_after_alloc(self, request: Request, blocks: KVCacheBlocks, num_external_tokens: int) -> None:
        """Blocks were allocated for a request. Not failing open: the engine takes what was promised as computed from here on."""
        if self._scheduler is not None:
            self._scheduler.allocated(request, blocks, num_external_tokens)

    def build_connector_meta(self, scheduler_output: SchedulerOutput) -> KVConnectorMetadata:
        """Orders for the worker in this step. What was promised is ordered, whatever else fails."""
        if self._scheduler is None:
            return Orders()
        orders = self._scheduler.promised(scheduler_output)
        try:
            orders.saves = self._scheduler.saves(scheduler_output)
        except Exception as error:
            self.give_up("build_connector_meta", error)
        return orders

    @fails_open(lambda: (False, None))
    def request_finished(self, request: Request, block_ids: list[int]) -> tuple[bool, dict[str, Any] | None]:  # noqa: ARG002
        """A request ends; whether its blocks are still being saved."""
        return self._scheduler is not None and self._scheduler.finished(request), None

    def request_finished_all_groups(
        self, request: Request, block_ids: tuple[list[int], ...]
    ) -> tuple[bool, dict[str, Any] | None]:
        """As ``request_finished``: there is one group."""
        return self.request_finished(request, block_ids[0] if block_ids else [])

    # Worker side.

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        """The engine's KV cache is there."""
        if self._worker is None or self._attachment is None:
            return
        try:
            self._worker.register(kv_caches, self._kv_cache_config.num_blocks)
            self._attachment.copies = True
        except Exception:
            logger.exception("weft cannot use this engine's KV cache: nothing is loaded or saved")

    @fails_open(lambda: None)
    def handle_preemptions(self, kv_connector_metadata: KVConnectorMetadata) -> None:
        """Blocks of preempted requests may be overwritten from now on."""
        if self._worker is not None and isinstance(kv_connector_metadata, Orders):
            self._worker.preempted(kv_connector_metadata.preempted)

    def start_load_kv(self, forward_context: ForwardContext, **kwargs: Any) -> None:  # noqa: ANN401, ARG002
        """Begin loading; what the step needs is there on return, or reported as failed."""
        if self._worker is not None:
            self._worker.load(self._orders().loads)

    @classmethod
    def requires_piecewise_for_cudagraph(cls, extra_config: dict[str, Any]) -> bool:
        """With layer-wise loads: a graph of the whole step would not wait between layers."""
        return bool(extra_config.get("layerwise", False))

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Have the engine's stream wait for what is loaded into a layer. Not failing open: what came so far may be half of it."""
        if self._worker is not None:
            self._worker.wait_layer(layer_name)

    def save_kv_layer(
        self,
        layer_name: str,
        kv_layer: torch.Tensor,
        attn_metadata: AttentionMetadata,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """Nothing: blocks are saved when all their layers are there."""

    @fails_open(lambda: None)
    def wait_for_save(self) -> None:
        """Begin to save. The blocks are kept until ``get_finished`` says so."""
        if self._worker is not None:
            self._worker.save(self._orders().saves)

    @fails_open(lambda: (None, None))
    def get_finished(self, finished_req_ids: set[str]) -> tuple[set[str] | None, set[str] | None]:
        """Which requests are saved, and which have what they waited for."""
        return (None, None) if self._worker is None else self._worker.ended(finished_req_ids)

    @fails_open(set)
    def get_block_ids_with_load_errors(self) -> set[int]:
        """Blocks that were to be loaded and were not: they are computed."""
        return set() if self._worker is None else self._worker.failed_blocks()

    def shutdown(self) -> None:
        """End what runs beside the engine, and leave the cluster."""
        for half in (self._scheduler, self._worker):
            if half is not None:
                half.close()
        if self._worker is not None and self._worker.counts:
            logger.info("weft: %s", dict(self._worker.counts))
        self._scheduler = self._worker = None
        attachment, self._attachment = self._attachment, None
        if attachment is not None:
            attachment.release()

    def _orders(self) -> Orders:
        metadata = self._get_connector_metadata()
        return metadata if isinstance(metadata, Orders) else Orders()
