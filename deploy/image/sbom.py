#!/usr/bin/env python3
"""Writes the bill of materials of the image as CycloneDX 1.5: the crates of Cargo.lock, and the Debian packages of its root.

The lock file covers the whole workspace: a crate that only tests use is listed too, and none that is in the binary is missing.
"""

import argparse
import json
import subprocess
import sys
import tomllib


def crate(package: dict) -> dict:
    name, version = package["name"], package["version"]
    component = {"type": "library", "name": name, "version": version, "purl": f"pkg:cargo/{name}@{version}"}
    if "checksum" in package:
        component["hashes"] = [{"alg": "SHA-256", "content": package["checksum"]}]
    return component


def debian(file: str) -> dict:
    fields = subprocess.run(
        ["dpkg-deb", "-f", file, "Package", "Version", "Architecture"], check=True, capture_output=True, text=True
    ).stdout
    found = dict(line.split(": ", 1) for line in fields.splitlines())
    name, version, architecture = found["Package"], found["Version"], found["Architecture"]
    purl = f"pkg:deb/debian/{name}@{version}?arch={architecture}"
    return {"type": "library", "name": name, "version": version, "purl": purl}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lock", required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("packages", nargs="*")
    args = parser.parse_args()
    with open(args.lock, "rb") as lock:
        crates = [crate(package) for package in tomllib.load(lock)["package"]]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": "weft", "version": args.version}},
        "components": sorted(crates + [debian(file) for file in args.packages], key=lambda found: found["purl"]),
    }
    json.dump(document, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
