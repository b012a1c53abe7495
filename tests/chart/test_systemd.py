"""The units are ones that systemd takes, and the configurations beside them ones that weft takes."""

import os
import re
import shutil
import subprocess

import pytest

from conftest import ROOT

UNITS = ROOT / "deploy/systemd"
BLOCKS = re.findall(r"^```toml\n(.*?)^```", (UNITS / "README.md").read_text(), re.M | re.S)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_takes_the_unit(tmp_path):
    unit = (UNITS / "weft@.service").read_text().replace("/usr/bin/weft", "/bin/true")
    shutil.copytree(UNITS / "weft@node.service.d", tmp_path / "weft@node.service.d")
    (tmp_path / "weft@.service").write_text(unit)
    done = subprocess.run(["systemd-analyze", "verify", "weft@node.service"], capture_output=True, text=True,
                          env=os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"})
    about_us = [line for line in (done.stdout + done.stderr).splitlines() if "weft" in line]
    assert about_us == []


@pytest.mark.parametrize(("role", "text"), list(zip(("metadata", "node"), BLOCKS, strict=True)))
def test_weft_takes_the_configuration(role, text, tmp_path):
    weft = os.environ.get("WEFT")
    if not weft:
        pytest.skip("set WEFT to a built weft, as `make chart` does")
    file = tmp_path / "weft.toml"
    file.write_text(text.replace("/var/lib/weft", str(tmp_path)).replace("64GiB", "1MiB"))
    done = subprocess.run([weft, role, "--config", str(file)], capture_output=True, text=True, timeout=30)
    said = done.stdout + done.stderr
    assert done.returncode == 78 and "cannot read /etc/weft/identity/" in said, said
