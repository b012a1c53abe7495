"""Let PyPI's torch be imported on a machine without CUDA, and without the 2.7 GB of CUDA wheels it names.

    VENV/bin/python stub_cuda.py

For each CUDA library that torch's own libraries name, a stub of the same name is compiled beside them, with a function for each
symbol they want of it, which answers "no device". For tests on machines without a GPU; needs cc, nm and readelf.
"""

import re
import subprocess
import sysconfig
import tempfile
from collections import defaultdict
from pathlib import Path

NO_DEVICE = 100
"""cudaErrorNoDevice, and CUDA_ERROR_NO_DEVICE."""

CUDA = re.compile(r"lib(cu\w*|nccl|nvrtc|nvJitLink|nvshmem_host|nvToolsExt)\.so[.\d]*")
OF_CUDA = re.compile(r"_?_?(cu[a-zA-Z]|nccl|nvrtc|nvshmem|nvtx)")


def run(*args: str) -> list[str]:
    return subprocess.run(args, capture_output=True, text=True, check=True).stdout.splitlines()


def wanted(library: Path) -> tuple[set[str], dict[str, tuple[str, str]]]:
    """CUDA libraries that a library names; and what it wants: symbol → version, and the library that version is of."""
    names = {name for line in run("readelf", "-d", str(library)) if "NEEDED" in line for name in re.findall(r"\[(.*?)\]", line)}
    home, versions = "", {}
    for line in run("readelf", "-VW", str(library)):
        if found := re.search(r"File: (\S+)", line):
            home = found[1]
        elif found := re.search(r"Name: (\S+)\s+Flags", line):
            versions[found[1]] = home
    symbols = {}
    for line in run("nm", "-D", "--undefined-only", str(library)):
        name, _, version = line.split()[-1].partition("@")
        version = version.lstrip("@")
        if OF_CUDA.match(name) and (not version or CUDA.fullmatch(versions.get(version, ""))):
            symbols[name] = (version, versions.get(version, ""))
    return {name for name in names if CUDA.fullmatch(name)}, symbols


def compile_stub(folder: Path, name: str, versions: dict[str, set[str]]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        source, script = Path(scratch) / "stub.c", Path(scratch) / "stub.map"
        symbols = sorted(set().union(*versions.values()))
        source.write_text("".join(f"long {symbol}(void) {{ return {NO_DEVICE}; }}\n" for symbol in symbols))
        args = ["cc", "-shared", "-fPIC", "-w", "-fno-builtin", f"-Wl,-soname,{name}", "-o", str(folder / name), str(source)]
        if named := {version: of for version, of in versions.items() if version}:
            script.write_text("".join(f"{version} {{ global: {'; '.join(sorted(of))}; }};\n" for version, of in named.items()))
            args.append(f"-Wl,--version-script,{script}")
        subprocess.run(args, check=True)


def main() -> None:
    folder = Path(sysconfig.get_paths()["purelib"]) / "torch" / "lib"
    libraries = [path for path in folder.glob("*.so*") if not CUDA.fullmatch(path.name)]
    defined = {line.split()[-1].partition("@")[0] for path in libraries for line in run("nm", "-D", "--defined-only", str(path))}
    found = {library: wanted(library) for library in libraries}
    named = set().union(*(names for names, _ in found.values()))
    versioned = {home for _, symbols in found.values() for _, home in symbols.values()}
    stubs: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for names, symbols in found.values():
        # A symbol without a version may come from any library that is loaded: from one that is named beside it, without versions.
        elsewhere = min(names - versioned, default=min(named - versioned))
        for symbol, (version, home) in symbols.items():
            if home or symbol not in defined:
                stubs[home or elsewhere][version].add(symbol)
    for name in sorted(named):
        compile_stub(folder, name, stubs[name])
    print(f"{len(named)} stubs, {sum(len(of) for stub in stubs.values() for of in stub.values())} symbols")


if __name__ == "__main__":
    main()
