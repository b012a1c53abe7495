#!/usr/bin/env python3
"""Writes what is made from values.yaml: the strict JSON schema, and the table in the chart's README.

Every value has a comment above it and a default, which says its type; OVERRIDES says what a default cannot. A value that is not
in values.yaml is refused by the schema at every level, except inside OPEN: objects that Kubernetes or weft itself checks.

    tests/chart/generate.py [--check]
"""

import argparse
import json
import pathlib
import re
import sys

import yaml

CHART = pathlib.Path(__file__).resolve().parents[2] / "charts/weft"

SIZE = {"type": "string", "pattern": "^[1-9][0-9]*(MiB|GiB|TiB)$"}
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
SETTINGS = TEXTS | {"propertyNames": {"pattern": "^[a-z_]+([.][a-z_]+)*$"}}
OBJECTS = {"type": "array", "items": {"type": "object"}}
OPEN_OBJECT = {"type": "object"}
QUANTITY = {"type": ["string", "integer"], "pattern": "^[0-9]+([.][0-9]+)?(m|[kMGTPE]i?)?$"}
MODEL = {
    "type": "object",
    "properties": {"name": {"type": "string", "minLength": 1}, "path": {"type": "string"}, "volume": OPEN_OBJECT},
    "required": ["name", "volume"],
    "additionalProperties": False,
}
ENDPOINT = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "minLength": 1},
        "url": {"type": "string", "pattern": "^http://"},
        "models": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "cache_salt": {"type": "boolean"},
    },
    "required": ["id", "url", "models"],
    "additionalProperties": False,
}

OVERRIDES = {
    "cluster": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,63}$"},
    "ipFamily": {"enum": ["IPv4", "IPv6"]},
    "image.digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
    "image.pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "imagePullSecrets": OBJECTS,
    "log.format": {"enum": ["json", "text"]},
    "tls.mode": {"enum": ["selfSigned", "certManager", "existingSecret"]},
    "tls.days": {"type": "integer", "minimum": 1, "maximum": 3650},
    "metadata.members": {"type": "integer", "minimum": 1},
    "metadata.blocksMax": {"type": "string", "pattern": "^[1-9][0-9]*$"},
    "metadata.persistence.size": QUANTITY,
    "metadata.settings": SETTINGS,
    "metadata.spread": {"enum": ["required", "preferred", "none"]},
    "externalMetadata": {"type": "array", "items": {"type": "string", "pattern": "^.+:[0-9]+$"}},
    "node.hostMemory": SIZE,
    "node.overhead": SIZE,
    "node.disk.path": {"type": "string", "pattern": "^(/.+)?$"},
    "node.disk.size": {"type": "string", "pattern": "^([1-9][0-9]*(MiB|GiB|TiB))?$"},
    "node.disk.admission": {"enum": ["seen_twice", "all"]},
    "node.cpu": QUANTITY,
    "node.socketDir": {"type": "string", "pattern": "^/."},
    "node.stateDir": {"type": "string", "pattern": "^/."},
    "node.allowUids": {"type": "array", "items": {"type": "integer", "minimum": 1}},
    "node.labels": TEXTS,
    "node.settings": SETTINGS,
    "node.nodeSelector": {"type": ["object", "null"], "additionalProperties": {"type": "string"}},
    "router.replicas": {"type": "integer", "minimum": 1},
    "router.models": {"type": "array", "items": MODEL},
    "router.endpoints": {"type": "array", "items": ENDPOINT},
    "router.indexMemory": SIZE,
    "router.settings": SETTINGS,
    "router.lameDuckSeconds": {"type": "integer", "minimum": 1},
    "router.drainSeconds": {"type": "integer", "minimum": 1},
    "router.autoscaling.targetCPU": {"type": "integer", "minimum": 1},
    "router.service.type": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    "router.service.annotations": TEXTS,
    "router.httpRoute.parentRefs": OBJECTS,
    "router.httpRoute.hostnames": {"type": "array", "items": {"type": "string"}},
    "networkPolicy.clients": OBJECTS,
    "networkPolicy.monitoring": OBJECTS,
    "monitoring.podMonitor.labels": TEXTS,
    "monitoring.podMonitor.interval": {"type": "string", "pattern": "^[0-9]+(ms|s|m)$"},
    "monitoring.rules.labels": TEXTS,
    "monitoring.dashboards.labels": TEXTS,
    "monitoring.dashboards.annotations": TEXTS,
}
# By their last word, wherever they are.
OPEN = {
    "resources": OPEN_OBJECT,
    "affinity": OPEN_OBJECT,
    "tolerations": OBJECTS,
    "nodeSelector": TEXTS,
    "podAnnotations": TEXTS,
    "podLabels": TEXTS,
}
TYPES = {bool: "boolean", int: "integer", str: "string", list: "array"}


def comments(text: str) -> dict[str, str]:
    """The comment above each key, by its dotted path."""
    found, path, pending = {}, [], []
    for line in text.splitlines():
        if match := re.match(r"^( *)# (.*)$", line):
            pending.append(match[2])
            continue
        if match := re.match(r"^( *)([A-Za-z]\w*):", line):
            depth = len(match[1]) // 2
            path = path[:depth] + [match[2]]
            if pending:
                found[".".join(path)] = " ".join(pending)
        pending = []
    return found


def schema(values: dict, notes: dict[str, str], prefix: str = "") -> dict:
    properties = {}
    for key, value in values.items():
        path = prefix + key
        fragment = OVERRIDES.get(path) or OPEN.get(key)
        if fragment is None and isinstance(value, dict):
            fragment = schema(value, notes, path + ".")
        elif fragment is None:
            fragment = {"type": TYPES[type(value)]}
        properties[key] = ({"description": notes[path]} if path in notes else {}) | fragment
    return {"type": "object", "properties": properties, "additionalProperties": False}


def rows(values: dict, notes: dict[str, str], prefix: str = "") -> list[str]:
    lines = []
    for key, value in values.items():
        path = prefix + key
        leaf = path in OVERRIDES or key in OPEN or not isinstance(value, dict)
        if path in notes or leaf:
            default = f"`{json.dumps(value)}`" if leaf else ""
            lines.append(f"| `{path}` | {notes.get(path, '')} | {default} |")
        if not leaf:
            lines += rows(value, notes, path + ".")
    return lines


def outputs() -> dict[pathlib.Path, str]:
    text = (CHART / "values.yaml").read_text()
    values, notes = yaml.safe_load(text), comments(text)
    stray = (set(OVERRIDES) | set(notes)) - set(paths(values))
    if stray:
        sys.exit(f"generate.py: no such value in values.yaml: {', '.join(sorted(stray))}")
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Values of the weft chart"}
    document |= schema(values, notes)
    # Helm gives every chart this one.
    document["properties"]["global"] = {"type": "object"}
    table = "\n".join(["| value | meaning | default |", "|---|---|---|", *rows(values, notes)])
    readme = (CHART / "README.md").read_text()
    head, _, _ = readme.partition("<!-- values -->")
    return {
        CHART / "values.schema.json": json.dumps(document, indent=2, ensure_ascii=False) + "\n",
        CHART / "README.md": f"{head}<!-- values -->\n\n{table}\n",
    }


def paths(values: dict, prefix: str = ""):
    for key, value in values.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from paths(value, prefix + key + ".")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where something would change")
    args = parser.parse_args()
    behind = [path for path, text in outputs().items() if not path.exists() or path.read_text() != text]
    if args.check and behind:
        sys.exit(f"behind values.yaml: {', '.join(path.name for path in behind)}; run tests/chart/generate.py")
    for path in behind:
        path.write_text(outputs()[path])


if __name__ == "__main__":
    main()
