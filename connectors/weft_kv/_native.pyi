"""Types of the extension module, written in Rust (``connectors/native``)."""

from collections.abc import Buffer, Iterable, Mapping, Sequence
from os import PathLike

__version__: str

def log_to_stderr(level: str) -> None:
    """Let what the client logs be seen on stderr, from ``level`` up. The first call counts."""

class Contract:
    """What all engines must agree on that share KV bytes. One part, one rank."""

    def __new__(
        cls,
        *,
        model: str,
        revision: str,
        layout: str,
        block_tokens: int,
        block_bytes: int,
        aliases: Sequence[str] = ...,
        tokenizer: str = "",
        chat_template: str = "",
    ) -> Contract: ...
    @property
    def block_bytes(self) -> int:
        """Bytes of a block."""
    @property
    def block_tokens(self) -> int:
        """Tokens of a block."""
    @property
    def id(self) -> str:
        """Short name in logs."""

class BlockHasher:
    """Weft block hash v1 under a contract, an adapter and a cache salt."""

    def __new__(cls, contract: Contract, *, adapter: str = "", salt: str = "") -> BlockHasher: ...
    def hash(
        self,
        tokens: Sequence[int],
        *,
        parent: bytes | None = None,
        extra: Mapping[int, Sequence[bytes]] | None = None,
    ) -> list[bytes]:
        """Hash the full blocks of ``tokens``, which follow the block ``parent``; ``None``: the prompt begins here.

        ``extra``: what else the KV of a block depends on, by number of the block in ``tokens``.
        """

class Stored:
    """What a store did, in blocks."""

    @property
    def stored(self) -> int:
        """Written now."""
    @property
    def present(self) -> int:
        """At the node already."""
    @property
    def refused(self) -> int:
        """No room, or no daemon."""

class Lookup:
    """The longest leading run of a prefix that the node has or fetches in time, pinned until it is released."""

    @property
    def done(self) -> bool:
        """Whether the answer is here."""
    def wait(self, seconds: float) -> bool:
        """Wait for the answer, at most ``seconds``; whether it is here."""
    def __len__(self) -> int: ...
    @property
    def sources(self) -> list[str]:
        """Where each block came from: ``host``, ``disk``, ``object`` or ``peer``."""
    def copy_into(self, out: Buffer, first: int, count: int) -> int:
        """Copy ``count`` blocks from number ``first`` on into ``out``, a row for each; how many were copied."""
    def release(self) -> None:
        """Let go of the blocks, or of the wish for them."""

class Client:
    """Attached to a node daemon, or about to be. Safe from any thread; nothing waits longer than a deadline."""

    def __new__(
        cls,
        socket: str | PathLike[str],
        contract: Contract,
        *,
        endpoint: str,
        url: str,
        deadline: float = 1.0,
        incarnation: int | None = None,
    ) -> Client: ...
    @property
    def attached(self) -> bool:
        """Whether the daemon is there now."""
    @property
    def fault(self) -> str | None:
        """Why it has never been attached; ``None`` once it has."""
    def lookup(self, blocks: Iterable[bytes], deadline: float) -> Lookup:
        """Pin the longest leading run of ``blocks``, within ``deadline`` seconds. Returns at once."""
    def load(self, blocks: Iterable[bytes], out: Buffer, deadline: float) -> int:
        """Load the longest leading run of ``blocks`` into ``out``, a row for each; how many came."""
    def store(self, blocks: Iterable[bytes], rows: Buffer) -> Stored:
        """Store those of ``blocks`` that the node lacks; ``rows`` has a row for each."""
    def prefetch(self, blocks: Iterable[bytes], deadline: float) -> bool:
        """Have the node fetch what it lacks, in the background; whether it was asked."""
    def device_changed(self, stored: Iterable[bytes], removed: Iterable[bytes]) -> None:
        """Report what came to and went from the engine's own cache. Never waits."""
    def close(self) -> None:
        """Detach: the endpoint leaves the roster. Afterwards every load is a miss."""

class GpuCopier:
    """Copies between the node's memory and an engine's KV cache on a GPU. Safe from any thread.

    Streams and events are PyTorch's numbers for them (``stream.cuda_stream``, ``event.cuda_event``).
    """

    def __new__(
        cls, device: int, layers: Sequence[int], *, blocks: int, block_bytes: int, stride_bytes: int, ratio: int
    ) -> GpuCopier:
        """For a cache: addresses of block 0 of each layer; ``ratio`` blocks make one of weft's. Raises when it is not there."""
    def pin(self, client: Client) -> bool:
        """Register the memory shared with the node, unless it is; whether it is now. A third of a second a GiB."""
    def load(self, lookup: Lookup, blocks: Sequence[int], *, first: int, skip: int, after: int) -> Arriving:
        """Begin to copy what a lookup has, from its block ``first`` on, into ``blocks`` of the engine, after an event.

        ``skip``: how many of the engine's blocks in the first of weft's are not wanted.
        """
    def store(self, client: Client, hashes: Iterable[bytes], blocks: Sequence[int], *, after: int) -> Stored:
        """Store what the node lacks, from ``blocks`` of the engine, after an event. Returns when it is stored."""

class Arriving:
    """Blocks on their way to the device. The node's memory is held until they are there."""

    def __len__(self) -> int: ...
    def wait_layer(self, layer: int, stream: int) -> None:
        """Have a stream wait for a layer."""
    @property
    def done(self) -> bool:
        """Whether they are there."""
    def wait(self) -> None:
        """Wait until they are."""

class NodeCopier:
    """Copies that the node makes by itself. They wait until the node is done with the blocks, however long that is."""

    def __new__(cls, copier: GpuCopier, client: Client) -> NodeCopier:
        """Offer a copier's cache to the node. Raises when the node does not take it."""
    def load(self, client: Client, lookup: Lookup, blocks: Sequence[int], *, first: int, skip: int, after: int) -> int:
        """As ``GpuCopier.load``, but wait; how many of ``blocks`` came, from the first."""
    def store(self, client: Client, hashes: Iterable[bytes], blocks: Sequence[int], *, after: int) -> Stored:
        """As ``GpuCopier.store``."""
