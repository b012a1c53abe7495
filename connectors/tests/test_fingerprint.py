"""The digest of weights: equal for equal weights wherever they lie, and another for any tensor that was trained."""

import importlib.util
import json
import os
import struct
import tempfile
import unittest
from pathlib import Path

# By its path: no compiled module is needed, nor what else is in the package.
_spec = importlib.util.spec_from_file_location("fingerprint", Path(__file__).parent.parent / "weft_kv" / "fingerprint.py")
fingerprint = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fingerprint)


def write(folder: Path, tensors: dict[str, bytes], name: str = "model.safetensors") -> str:
    header, at = {}, 0
    for tensor, data in tensors.items():
        header[tensor] = {"dtype": "U8", "shape": [len(data)], "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(tensors.values()))
    return str(folder)


class Fingerprint(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        self.tensors = {"a": os.urandom(5000), "b": os.urandom(200_000), "empty": b""}
        self.digest = fingerprint.of_folder(write(self.root / "one", self.tensors))

    def test_the_place_does_not_matter(self):
        self.assertEqual(fingerprint.of_folder(write(self.root / "another", self.tensors)), self.digest)
        self.assertEqual(len(self.digest), 32)

    def test_any_tensor_that_was_trained_shows(self):
        for name in ("a", "b"):
            other = self.tensors | {name: os.urandom(len(self.tensors[name]))}
            self.assertNotEqual(fingerprint.of_folder(write(self.root / f"other-{name}", other)), self.digest)

    def test_names_and_files_show(self):
        renamed = {"z" if name == "a" else name: data for name, data in self.tensors.items()}
        self.assertNotEqual(fingerprint.of_folder(write(self.root / "renamed", renamed)), self.digest)
        more = write(self.root / "more", self.tensors)
        write(self.root / "more", {"c": b"c"}, "second.safetensors")
        self.assertNotEqual(fingerprint.of_folder(more), self.digest)

    def test_an_adapter_of_another_scale_is_another(self):
        folder = write(self.root / "adapter", self.tensors)
        (self.root / "adapter" / "adapter_config.json").write_text('{"lora_alpha": 16}')
        before = fingerprint.of_folder(folder)
        (self.root / "adapter" / "adapter_config.json").write_text('{"lora_alpha": 8}')
        self.assertNotEqual(fingerprint.of_folder(folder), before)

    def test_replaced_files_are_read_again(self):
        folder = write(self.root / "one", self.tensors | {"a": os.urandom(5000)})
        os.utime(self.root / "one" / "model.safetensors", ns=(1, 1))
        self.assertNotEqual(fingerprint.of_folder(folder), self.digest)

    def test_what_is_no_model_is_told_what_to_do(self):
        (self.root / "none").mkdir()
        with self.assertRaisesRegex(fingerprint.FingerprintError, "set 'revision'"):
            fingerprint.of_folder(str(self.root / "none"))
        for junk in (b"", b"\xff" * 8, struct.pack("<Q", 2) + b"[]", struct.pack("<Q", 9) + b'{"a": {}}'):
            (self.root / "none" / "model.safetensors").write_bytes(junk)
            with self.assertRaisesRegex(fingerprint.FingerprintError, "no safetensors file"):
                fingerprint.of_folder(str(self.root / "none"))

    def test_a_model_is_its_weights_and_its_configuration(self):
        def of_model(**config) -> str:
            (self.root / "one" / "config.json").write_text(json.dumps(config))
            return fingerprint.of_model(str(self.root / "one"))

        digest = of_model(rope_theta=1, transformers_version="1")
        self.assertEqual(of_model(transformers_version="2", rope_theta=1), digest)
        self.assertNotEqual(of_model(rope_theta=2), digest)
        self.tensors["a"] = os.urandom(5000)
        write(self.root / "one", self.tensors)
        self.assertNotEqual(of_model(rope_theta=1), digest)


if __name__ == "__main__":
    unittest.main(verbosity=2)
