"""The one attachment of a process to its node: what schedules and what copies live in one process, and share it.

A node knows an engine by its endpoint's name, once. So the scheduler's half and the worker's half of a connector have
one client, and hand each other pinned lookups by number.
"""

from __future__ import annotations

import itertools
import threading
from typing import Final

from weft_kv._native import Client, Contract, Lookup, log_to_stderr
from weft_kv.settings import Settings

_attachments: Final[dict[tuple[str, str], Attachment]] = {}
_lock: Final = threading.Lock()


class Attachment:
    """A client, and the lookups that one half has made for the other."""

    def __init__(self, settings: Settings, contract: Contract) -> None:
        self.contract = contract
        self.client = Client(settings.socket, contract, endpoint=settings.endpoint, url=settings.url, deadline=settings.deadline)
        self.copies = False
        """There is a half that moves bytes: nothing may be promised before."""
        self._key = (settings.socket, settings.endpoint)
        self._users = 0
        self._numbers = itertools.count(1)
        self._handed: dict[int, Lookup] = {}

    @property
    def usable(self) -> bool:
        """Whether blocks can be loaded and stored now."""
        return self.copies and self.client.attached

    def hand_over(self, lookup: Lookup) -> int:
        """Keep a lookup for the other half; its number."""
        number = next(self._numbers)
        self._handed[number] = lookup
        return number

    def take(self, number: int) -> Lookup | None:
        """Take a lookup that was handed over; ``None`` when there is none."""
        return self._handed.pop(number, None)

    def release(self) -> None:
        """One of the halves goes; with the last one the endpoint leaves the cluster."""
        with _lock:
            self._users -= 1
            if self._users > 0:
                return
            _attachments.pop(self._key, None)
        for lookup in self._handed.values():
            lookup.release()
        self._handed.clear()
        self.client.close()


def attach(settings: Settings, contract: Contract) -> Attachment:
    """Return the attachment of this process under these settings. Does not wait for the node."""
    key = (settings.socket, settings.endpoint)
    with _lock:
        attachment = _attachments.get(key)
        if attachment is None:
            log_to_stderr("info")
            attachment = _attachments[key] = Attachment(settings, contract)
        elif attachment.contract.id != contract.id:
            message = f"this process is attached with {attachment.contract!r}, and cannot be with {contract!r} too"
            raise ValueError(message)
        attachment._users += 1  # noqa: SLF001 - its own module
        return attachment
