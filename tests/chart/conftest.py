"""What the chart's tests share: real helm, and rendered objects by kind and name."""

import os
import pathlib
import subprocess

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "charts/weft"
HELM = os.environ.get("HELM", str(ROOT / "target/chart/helm"))
# Each of these is a way to install that has to work: a name, and arguments of helm.
LAYOUTS = {
    "default": [],
    "dev": ["-f", str(CHART / "values-dev.yaml")],
    "ha": ["-f", str(CHART / "values-ha.yaml")],
    **{file.stem: ["-f", str(file)] for file in sorted((CHART / "ci").glob("*.yaml"))},
}


def helm(*args: str, check: bool = True) -> subprocess.CompletedProcess:
    return subprocess.run([HELM, *args], check=check, capture_output=True, text=True)


def template(*args: str, release: str = "weft", namespace: str = "weft") -> list[dict]:
    done = helm("template", release, str(CHART), "--namespace", namespace, *args, check=False)
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def refusal(*args: str) -> str:
    done = helm("template", "weft", str(CHART), "--namespace", "weft", *args, check=False)
    assert done.returncode != 0, "helm rendered what it should refuse"
    return done.stderr


class Objects(dict):
    """Rendered objects by `Kind/name`."""

    def __init__(self, objects: list[dict]):
        super().__init__({f"{found['kind']}/{found['metadata']['name']}": found for found in objects})
        assert len(self) == len(objects), "two objects have one name"

    def pods(self):
        """Every pod that is described, with the name of what describes it."""
        for name, found in self.items():
            spec = found["spec"] if found["kind"] == "Pod" else found.get("spec", {}).get("template", {}).get("spec")
            if spec and "containers" in spec:
                yield name, spec


@pytest.fixture(scope="session", params=LAYOUTS)
def layout(request) -> Objects:
    return Objects(template(*LAYOUTS[request.param]))


@pytest.fixture(scope="session")
def default() -> Objects:
    return Objects(template())
