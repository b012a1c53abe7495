"""The processes of a test: a cluster of two nodes by `weft up`, and engines that are told what to do."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
PATIENCE = 120.0
"""Seconds for anything: far beyond what it takes, since a test must end, not hurry."""


def await_that(what: str, probe):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if answer := probe():
            return answer
        time.sleep(0.02)
    raise AssertionError(f"'{what}' did not come true within {PATIENCE:.0f} s")


def connector(settings: dict) -> dict:
    """Settings of a vLLM with weft's connector."""
    return {
        "kv_transfer_config": {
            "kv_connector": "WeftConnector",
            "kv_connector_module_path": "weft_kv.vllm",
            "kv_role": "kv_both",
            "kv_load_failure_policy": "recompute",
            "kv_connector_extra_config": settings,
        }
    }


def tier(settings: dict) -> dict:
    """Settings of a vLLM with its own offloading, and weft as a tier below it."""
    extra = {
        # As TieringOffloadingSpec, which copies on GPUs only.
        "spec_name": "CpuTieringSpec",
        "spec_module_path": "cpu_tiering",
        "cpu_bytes_to_use": 4 << 20,
        "secondary_tiers": [{"type": "WeftTier", "module_path": "weft_kv.vllm.tier", **settings}],
    }
    return {
        "kv_transfer_config": {
            "kv_connector": "OffloadingConnector",
            "kv_role": "kv_both",
            "kv_connector_extra_config": extra,
        }
    }


class Cluster:
    """Three metadata members, two nodes, a router and simulated engines, on a loopback subnet of their own."""

    def __init__(self, weft: str, state: Path, contract_memory: str = "64MiB") -> None:
        self.weft, self.state = weft, state
        self.subnet = os.environ.get("ENGINES_SUBNET", f"127.{1 + os.getpid() // 250 % 250}.{os.getpid() % 250}")
        self._strays: dict[int, subprocess.Popen] = {}
        state.mkdir(parents=True, exist_ok=True)
        args = ["up", "--no-replay", "--restart", "never", "--subnet", self.subnet, "--state", str(state)]
        # Beside the engines' contract those of the simulated ones.
        sizes = ["--host-memory", os.environ.get("ENGINES_HOST_MEMORY", "256MiB"), "--contract-memory", contract_memory]
        self._log = state / "up.log"
        with self._log.open("w") as log:
            self._up = subprocess.Popen([weft, *args, *sizes], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        await_that("weft up serves", self._serves)

    def _serves(self) -> bool:
        assert self._up.poll() is None, self._log.read_text()
        return "Ctrl-C" in self._log.read_text()

    def address(self, node: int) -> str:
        return f"{self.subnet}.{20 + node}"

    def socket(self, node: int) -> str:
        return str(self.state / f"data/node-{node}/socket/engine.sock")

    def signal(self, node: int, what: signal.Signals) -> None:
        """To a node daemon, whoever started it."""
        os.kill(self._pid(node), what)

    def kill(self, node: int) -> None:
        pid = self._pid(node)
        os.kill(pid, signal.SIGKILL)
        if (stray := self._strays.get(node)) and stray.pid == pid:
            stray.wait()
        await_that("the daemon is gone", lambda: not Path(f"/proc/{pid}").exists() or "\nState:\tZ" in status(pid))

    def start_again(self, node: int) -> None:
        """What one that was killed had locked is free once all of its threads are gone, a moment after itself: try until then."""

        def serves() -> bool:
            stray = self._strays.get(node)
            if stray is None or stray.poll() is not None:
                with (self.state / f"logs/node-{node}.log").open("a") as log:
                    config = str(self.state / f"config/node-{node}.toml")
                    self._strays[node] = subprocess.Popen([self.weft, "node", "--config", config], stdout=log, stderr=log)
            try:
                return self.metric(node, "weft_node_memory_bytes") > 0
            except OSError:
                return False

        await_that("the daemon serves", serves)

    def configure(self, node: int, toml: str) -> None:
        """Start a node daemon again with more configuration."""
        with (self.state / f"config/node-{node}.toml").open("a") as config:
            config.write(f"\n{toml}\n")
        self.kill(node)
        self.start_again(node)

    def on_device(self, endpoint: str) -> int:
        """Blocks that the directory lists in an endpoint's device memory, as a router is told; 0 for one that is not listed."""
        with urllib.request.urlopen(f"http://{self.subnet}.31:7421/console/state", timeout=5) as answer:
            listed = json.load(answer)["fabric"]["endpoints"]
        return listed.get(endpoint, {}).get("blocks") or 0

    def metric(self, node: int, name: str) -> float:
        """A counter of a node daemon, over all its labels."""
        with urllib.request.urlopen(f"http://{self.address(node)}:7411/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    def _pid(self, node: int) -> int:
        stray = self._strays.get(node)
        return stray.pid if stray else json.loads((self.state / "up.json").read_text())[f"node-{node}"]["pid"]

    def stop(self) -> None:
        for stray in self._strays.values():
            stray.kill()
            stray.wait()
        self._up.send_signal(signal.SIGINT)
        self._up.wait(PATIENCE)


class Engine:
    """A vLLM in a process of its own."""

    def __init__(self, model: Path, log: Path, settings: dict | None = None, script: str = "engine.py") -> None:
        args = [sys.executable, str(HERE / script), str(model)]
        args += [json.dumps(settings)] if settings else []
        self._log = log
        with log.open("w") as stderr:
            self._process = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True)

    def ready(self) -> None:
        assert self.hear() == {"ready": True}

    def attached(self) -> None:
        await_that("the engine is attached", lambda: self.ask({"counts": True})["attached"])

    def tell(self, order: dict) -> None:
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def hear(self) -> dict:
        line = self._process.stdout.readline()
        assert line, f"the engine ended:\n{self._log.read_text()[-4000:]}"
        return json.loads(line)

    def ask(self, order: dict) -> dict:
        self.tell(order)
        return self.hear()

    def generate(self, prompts: list[str], **order) -> list[dict]:
        return self.ask({"generate": prompts, "tokens": 40} | order)["results"]

    def stop(self) -> None:
        if self._process.stdin.closed:
            return
        self._process.stdin.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""
