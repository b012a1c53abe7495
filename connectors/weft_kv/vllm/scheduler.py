"""The scheduler's half: what to load for a request, and which blocks to save as they are completed.

Nothing here waits for the node. A lookup is begun when a request arrives, and pins what the node has or can fetch in time; the
scheduler is told "ask again" until the answer is here, which is at the deadline at the latest.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from weft_kv.fingerprint import FingerprintError
from weft_kv.vllm.orders import LoadOrder, Orders, SaveOrder
from weft_kv.vllm.prefix import Prefix, is_hashable

if TYPE_CHECKING:
    from vllm.v1.core.kv_cache_manager import KVCacheBlocks
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.request import Request

    from weft_kv._native import Lookup
    from weft_kv.attachment import Attachment
    from weft_kv.settings import Settings
    from weft_kv.vllm.contract import Shape

logger = logging.getLogger("vllm.weft")

EARLY_LOOKUPS_MAX = 64
"""Lookups that are begun when a request arrives: what is pinned for requests in a long queue should not fill the arena."""

PATIENCE = 0.001
"""Seconds of patience with a lookup that was just begun: a node answers from its memory in a fifth of that, and to come back in
the next step costs more. While no request runs, once in each step: the engine would ask again and again, on a core that whoever
has to answer may need."""

PINNED_SECONDS_MAX = 10.0
"""A request that waits longer than this for room looks up again when its turn comes."""

GRACE = 0.5
"""Seconds beyond the deadline after which a lookup is given up, whatever became of it."""


@dataclass(slots=True)
class _Asked:
    lookup: Lookup
    at: float
    waited: bool = False


class _Tracked:
    """A request, and how far weft is with it."""

    __slots__ = ("asked", "local", "ordered", "prefix", "running", "saved")

    def __init__(self, prefix: Prefix) -> None:
        self.prefix = prefix
        self.asked: _Asked | None = None
        self.local = 0
        """Tokens the engine had by itself when it asked last."""
        self.saved = 0
        """Leading blocks that the node has, or that were ordered to be saved."""
        self.running = False
        """The engine has blocks for it."""
        self.ordered = False
        """Saves were ordered: its blocks are freed when the worker is through with them."""

    def forget(self) -> None:
        """Let go of what is pinned for it."""
        if self.asked is not None:
            self.asked.lookup.release()
            self.asked = None


class SchedulerHalf:
    """One for each scheduler."""

    def __init__(self, attachment: Attachment, shape: Shape, settings: Settings, *, may_load: bool) -> None:
        self._attachment = attachment
        self._shape = shape
        self._settings = settings
        self._may_load = may_load
        self._requests: dict[str, _Tracked] = {}
        self._orders = Orders()
        self._off = False
        self._waited = False
        """For a lookup, in this step."""

    def on_new_request(self, request: Request) -> None:
        """A request arrives."""
        tracked = self._track(request)
        if tracked is not None and sum(one.asked is not None for one in self._requests.values()) < EARLY_LOOKUPS_MAX:
            self._ask(tracked, request)

    def matched_tokens(self, request: Request, local: int) -> tuple[int | None, bool]:
        """Tokens that can be loaded beyond the ``local`` ones; ``None``: not known yet. And whether beside the step."""
        tracked = self._track(request)
        if tracked is None or self._off or not self._may_load or request.skip_reading_prefix_cache:
            return 0, False
        tracked.local = local
        if tracked.asked is None:
            self._ask(tracked, request)
        asked = tracked.asked
        if asked is None:
            return 0, False
        if not asked.lookup.done and not self._answered(asked):
            if time.monotonic() - asked.at < self._settings.load_deadline + GRACE:
                return None, False
            asked.lookup.release()
        found = len(asked.lookup)
        tracked.saved = found
        tokens = max(0, found * self._shape.block_tokens - local)
        # A request that was preempted may still be waited for as saving; vLLM cannot wait for both.
        beside = tokens > 0 and request.num_preemptions == 0 and self._bytes(tokens) > self._settings.sync_load_bytes
        return tokens, beside

    def allocated(self, request: Request, blocks: KVCacheBlocks, tokens: int) -> None:
        """The engine has blocks for a request; ``tokens`` are to be loaded."""
        tracked = self._requests.get(request.request_id)
        if tracked is None:
            return
        tracked.running = True
        asked, tracked.asked = tracked.asked, None
        if asked is None:
            return
        if tokens == 0:
            asked.lookup.release()
            return
        shape = self._shape
        first = tracked.local // shape.engine_tokens
        self._orders.loads.append(
            LoadOrder(
                request_id=request.request_id,
                lookup=self._attachment.hand_over(asked.lookup),
                first=tracked.local // shape.block_tokens,
                skip=first % shape.ratio,
                blocks=list(blocks.get_block_ids()[0][first : first + tokens // shape.engine_tokens]),
                background=request.num_preemptions == 0 and self._bytes(tokens) > self._settings.sync_load_bytes,
            )
        )

    def promised(self, step: SchedulerOutput) -> Orders:
        """What has to be done in this step: the loads that the scheduler counts on."""
        orders, self._orders = self._orders, Orders()
        self._waited = False
        orders.preempted = list(step.preempted_req_ids or ())
        return orders

    def saves(self, step: SchedulerOutput) -> list[SaveOrder]:
        """Blocks that this step completes."""
        self._unpin_the_patient()
        if self._off or not self._attachment.usable:
            return []
        computed = {new.req_id: new.num_computed_tokens for new in step.scheduled_new_reqs}
        cached = step.scheduled_cached_reqs
        computed |= dict(zip(cached.req_ids, cached.num_computed_tokens, strict=True))
        scheduled = step.num_scheduled_tokens.items()
        orders = (self._save(step, request_id, computed[request_id], tokens) for request_id, tokens in scheduled)
        return [order for order in orders if order is not None]

    def finished(self, request: Request) -> bool:
        """A request ends; whether its blocks are still being saved."""
        tracked = self._requests.pop(request.request_id, None)
        if tracked is None:
            return False
        tracked.forget()
        return tracked.ordered

    def turn_off(self) -> None:
        """Load and save nothing more. Requests stay known: what was ordered is finished."""
        self._off = True
        for tracked in self._requests.values():
            tracked.forget()

    def close(self) -> None:
        """Let go of everything."""
        self.turn_off()
        self._requests.clear()

    def _track(self, request: Request) -> _Tracked | None:
        tracked = self._requests.get(request.request_id)
        if tracked is None and not self._off and is_hashable(request):
            try:
                tracked = _Tracked(Prefix(request, self._attachment.contract))
            except FingerprintError as error:
                logger.warning("weft keeps out of requests with this adapter: %s", error)
                return None
            self._requests[request.request_id] = tracked
        return tracked

    def _ask(self, tracked: _Tracked, request: Request) -> None:
        # One token at least is left to compute: the engine needs its output.
        blocks = (request.num_tokens - 1) // self._shape.block_tokens
        if blocks and self._may_load and not self._off and self._attachment.usable:
            lookup = self._attachment.client.lookup(tracked.prefix.first(blocks), self._settings.load_deadline)
            tracked.asked = _Asked(lookup, time.monotonic())

    def _answered(self, asked: _Asked) -> bool:
        if asked.waited and (self._waited or any(tracked.running for tracked in self._requests.values())):
            return False
        asked.waited = self._waited = True
        return asked.lookup.wait(PATIENCE)

    def _save(self, step: SchedulerOutput, request_id: str, computed: int, scheduled: int) -> SaveOrder | None:
        tracked = self._requests.get(request_id)
        if tracked is None:
            return None
        tokens, ratio = self._shape.block_tokens, self._shape.ratio
        # Computed anew from here on, when a load has failed.
        tracked.saved = min(tracked.saved, computed // tokens)
        # Beyond the known tokens are guesses of a draft model.
        full = min(computed + scheduled, tracked.prefix.known_tokens) // tokens
        if full <= tracked.saved:
            return None
        table = step.kv_connector_block_state.get_block_ids(request_id)[0]
        order = SaveOrder(
            request_id=request_id,
            hashes=tracked.prefix.first(full)[tracked.saved :],
            blocks=list(table[tracked.saved * ratio : full * ratio]),
        )
        tracked.saved, tracked.ordered = full, True
        return order

    def _bytes(self, tokens: int) -> int:
        return tokens // self._shape.engine_tokens * self._shape.page_bytes * self._shape.layers

    def _unpin_the_patient(self) -> None:
        now = time.monotonic()
        for tracked in self._requests.values():
            if tracked.asked is not None and now - tracked.asked.at > PINNED_SECONDS_MAX:
                tracked.forget()
