"""A digest of a model's weights that takes milliseconds, not minutes.

Of every tensor in every safetensors file: its name, type, shape, place, and three samples of its bytes; and the model's
configuration. Training touches whole tensors, so that two models which differ anywhere differ in samples. It is a guard
against accidents (the wrong checkpoint under the right name), not against somebody who edits single weights: such a model
has to be given a revision by hand.
"""

from __future__ import annotations

import hashlib
import json
import struct
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

SAMPLE_BYTES = 1024
"""Of the beginning, the middle and the end of each tensor: what one read of a disk brings anyway."""

FOLDERS_MAX = 256
"""Models and adapters whose digests are remembered."""

HEADER_BYTES_MAX = 100 << 20
"""As the format allows."""


class FingerprintError(Exception):
    """No digest can be had; the message says what to do."""


def of_folder(folder: str) -> str:
    """Digest of the weights in a folder, as 32 hexadecimal digits. The same bytes in another folder give the same."""
    files = sorted(Path(folder).glob("*.safetensors"))
    if not files:
        message = f"no *.safetensors in '{folder}': set 'revision' to a digest of the weights"
        raise FingerprintError(message)
    # The scale of an adapter is there, not among its tensors.
    files += sorted(Path(folder).glob("adapter_config.json"))
    stats = [(path, path.stat()) for path in files]
    return _of_files(tuple((str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats))


@lru_cache(maxsize=FOLDERS_MAX)
def _of_files(files: tuple[tuple[str, int, int], ...]) -> str:
    """Of files with these names, sizes and times: files that were replaced are read again."""
    digest = hashlib.sha256(b"weft weights 1")
    for path in (Path(name) for name, _, _ in files):
        if path.suffix == ".json":
            digest.update(path.read_bytes())
        else:
            with path.open("rb") as file:
                _safetensors(digest, file, path)
    return digest.hexdigest()[:32]


def of_model(name: str, revision: str | None = None) -> str:
    """Digest of a model as an engine names it, a folder or a name on the hub: its weights and its configuration."""
    folder = folder_of(name, revision)
    config = Path(folder, "config.json")
    described = json.loads(config.read_text()) if config.is_file() else {}
    described.pop("transformers_version", None)
    return of_text(f"{of_folder(folder)} {json.dumps(described, sort_keys=True)}")


def folder_of(name: str, revision: str | None = None) -> str:
    """Return where the weights of a model lie on this machine."""
    if Path(name).is_dir():
        return name
    try:
        from huggingface_hub import snapshot_download  # noqa: PLC0415 - not every engine has it

        return str(snapshot_download(name, revision=revision, local_files_only=True))
    except Exception as error:
        message = f"where the weights of '{name}' lie is not known ({error}): set 'revision' to a digest of the weights"
        raise FingerprintError(message) from error


def of_text(text: str) -> str:
    """Digest of a configuration, as 32 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _safetensors(digest: hashlib._Hash, file: BinaryIO, path: Path) -> None:
    try:
        (header_bytes,) = struct.unpack("<Q", file.read(8))
        if header_bytes > HEADER_BYTES_MAX:
            message = f"a header of {header_bytes} bytes"
            raise ValueError(message)  # noqa: TRY301 - said once, below
        header = file.read(header_bytes)
        tensors = json.loads(header)
        digest.update(header)
        data = 8 + header_bytes
        for name in sorted(tensors.keys() - {"__metadata__"}):
            begin, end = tensors[name]["data_offsets"]
            for at in (begin, (begin + end) // 2, max(begin, end - SAMPLE_BYTES)):
                file.seek(data + at)
                digest.update(file.read(min(SAMPLE_BYTES, end - at)))
    except (ValueError, KeyError, TypeError, AttributeError, OSError, struct.error) as error:
        message = f"'{path}' is no safetensors file ({error}): set 'revision' to a digest of the weights"
        raise FingerprintError(message) from error
