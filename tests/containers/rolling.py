#!/usr/bin/env python3
"""The image as containers on a network of their own, from what the chart renders: three members, two node daemons, a router and two
simulated engines. Under load, each is restarted in turn as a rollout does it, the leader is killed, and a node is drained for good:
no request may fail.

    tests/containers/rolling.py [--image weft:dev] [--keep]

Needs root and docker. Everything it makes has the prefix `weft-containers`, and is removed at the end.
"""

import argparse
import http.client
import itertools
import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import yaml

from kubelet import Pod, docker

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "weft/assets/sim-8b"
NETWORK, SUBNET = "weft-containers", "10.77.35"
CLIENTS = 6
# What a phase has to have seen, or it shows nothing.
REQUESTS_MIN = 20


class World:
    """What the chart rendered, and where things are."""

    def __init__(self, folder: pathlib.Path, image: str, helm: str):
        self.folder, self.network, self.image = folder, NETWORK, image
        repository, _, tag = image.rpartition(":")
        values = {
            "image": {"repository": repository, "tag": tag},
            "tls": {"mode": "existingSecret", "secretName": "ca"},
            "log": {"format": "text"},
            "node": {"hostMemory": "64MiB", "overhead": "192MiB"},
            "router": {"indexMemory": "128MiB", "keyless": True,
                       "models": [{"name": "sim-8b", "volume": {"hostPath": {"path": "/model"}}}]},
        }
        file = folder / "values.json"
        file.write_text(json.dumps(values))
        command = [helm, "template", "weft", str(ROOT / "charts/weft"), "--namespace", "weft", "-f", str(file)]
        rendered = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        self.objects = {f"{found['kind']}/{found['metadata']['name']}": found for found in yaml.safe_load_all(rendered) if found}
        self.services = {f"weft-metadata-{number}.weft.svc": f"{SUBNET}.{10 + number}" for number in (1, 2, 3)}
        certs = folder / "certs"
        certs.mkdir()
        certs.chmod(0o777)
        docker("run", "--rm", "--volume", f"{certs}:/certs", image, "certs", "init", "--dir=/certs", "--cluster=weft")
        self.secrets = {"ca": {name: (certs / name).read_text() for name in ("ca.pem", "ca.key")}}

    def template(self, name: str) -> dict:
        return self.objects[name]["spec"]["template"]

    def member(self, number: int) -> Pod:
        labels = {"apps.kubernetes.io/pod-index": str(number)}
        return Pod(self, f"weft-containers-metadata-{number}", self.template("StatefulSet/weft-metadata"),
                   f"{SUBNET}.{10 + number}", "none", labels)

    def node(self, number: int) -> Pod:
        return Pod(self, f"weft-containers-node-{number}", self.template("DaemonSet/weft-node"), f"{SUBNET}.{20 + number}",
                   f"host-{number}")

    def router(self, number: int) -> Pod:
        pod = Pod(self, f"weft-containers-router-{number}", self.template("Deployment/weft-router"),
                  f"{SUBNET}.{30 + number}", "none")
        model = self.folder / "hosts/none/model"
        if not model.exists():
            shutil.copytree(MODEL, model)
        return pod

    def engine(self, number: int) -> None:
        """An engine's pod is its user's: it mounts the socket folder of its host and runs as root, as vLLM's image does."""
        name, address = f"weft-containers-engine-{number}", f"{SUBNET}.{40 + number}"
        socket = self.folder / f"hosts/host-{number}/run/weft"
        # Too little device memory for all conversations, so that the node is asked.
        sets = {
            "endpoint": f"engine-{number}", "addr": f"{address}:8000", "url": f"http://{address}:8000",
            "model_folder": "/model", "node_socket": "/run/weft/node.sock", "device_tokens": "3000",
            "pace.prefill_tokens_per_s": "20000",
        }
        docker("run", "-d", "--name", name, "--network", NETWORK, "--ip", address, "--user", "0:0", "--volume",
               f"{socket}:/run/weft", "--volume", f"{MODEL}:/model:ro", self.image, "engine-sim",
               *(f"--set={key}={value}" for key, value in sets.items()))


class Load:
    """Conversations that grow, at whatever router takes requests. Counts what fails, by phase."""

    def __init__(self):
        self.routers: list[str] = []
        self.done, self.failed, self.answered = threading.Event(), [], itertools.count()
        self.count = 0
        self.threads = [threading.Thread(target=self._converse, args=(client,), daemon=True) for client in range(CLIENTS)]

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        self.done.set()
        for thread in self.threads:
            thread.join(60)

    def _converse(self, client: int) -> None:
        chance = random.Random(client)
        for turn in itertools.count():
            prompt = f"conversation {client} {turn} " + "word " * chance.randrange(200, 800)
            for _ in range(6):
                if self.done.is_set():
                    return
                self._ask(prompt)
                prompt += "answer " * chance.randrange(20, 120)

    def _ask(self, prompt: str) -> None:
        router = random.choice(self.routers)
        body = json.dumps({"model": "sim-8b", "prompt": prompt, "max_tokens": 8, "stream": True})
        try:
            connection = http.client.HTTPConnection(router, 8080, timeout=60)
            connection.request("POST", "/v1/completions", body, {"content-type": "application/json"})
            answer = connection.getresponse()
            text = answer.read().decode()
            if answer.status != 200 or "[DONE]" not in text:
                raise RuntimeError(f"{answer.status}: {text[-300:]}")
            self.count += 1
        except (OSError, http.client.HTTPException, RuntimeError) as error:
            self.failed.append(f"{time.strftime('%H:%M:%S')} {router}: {error!r}")
        finally:
            connection.close()


def metric(pod: Pod, sample: str) -> float:
    with urllib.request.urlopen(f"http://{pod.address}:{pod.port('admin')}/metrics", timeout=5) as answer:
        return next(float(line.split()[-1]) for line in answer.read().decode().splitlines() if line.startswith(sample + " "))


def leader(members: list[Pod]) -> Pod | None:
    return next((pod for pod in members if metric(pod, "weft_metadata_leader") == 1), None)


def await_that(what: str, test, within: float = 60) -> None:
    end = time.monotonic() + within
    while not test():
        if time.monotonic() > end:
            raise RuntimeError(f"not within {within} s: {what}")
        time.sleep(0.2)


class Scenario:
    """Phases, each with load, and none with a failed request."""

    def __init__(self, world: World):
        self.world, self.load = world, Load()
        self.members = [world.member(number) for number in (1, 2, 3)]
        self.nodes = [world.node(number) for number in (1, 2)]
        self.router = world.router(1)

    def install(self) -> None:
        for pod in [*self.members, *self.nodes, self.router]:
            pod.start()
        for pod in [*self.members, *self.nodes]:
            pod.await_ready()
        for number in (1, 2):
            self.world.engine(number)
        self.router.await_ready()
        self.load.routers = [self.router.address]
        self.load.start()

    def phase(self, name: str, run) -> None:
        before, failed, began = self.load.count, len(self.load.failed), time.monotonic()
        run()
        await_that("enough requests", lambda: self.load.count - before >= REQUESTS_MIN or len(self.load.failed) > failed)
        wrong = self.load.failed[failed:]
        print(f"{name}: {self.load.count - before} requests in {time.monotonic() - began:.0f} s, {len(wrong)} failed", flush=True)
        if wrong:
            raise RuntimeError("\n".join([f"{name}: requests failed", *wrong[:10]]))

    def restart_members(self) -> None:
        # As a StatefulSet does it: the highest first, one after another.
        for pod in reversed(self.members):
            code = pod.stop()
            if code:
                raise RuntimeError(f"{pod.name} ended with {code}\n{pod.logs()}")
            pod.start()
            pod.await_ready()

    def kill_leader(self) -> None:
        await_that("a member leads", lambda: leader(self.members))
        pod = leader(self.members)
        pod.kill()
        await_that("another member leads", lambda: leader([other for other in self.members if other is not pod]))
        pod.start()
        pod.await_ready()

    def restart_nodes(self) -> None:
        for pod in self.nodes:
            code = pod.stop()
            if code:
                raise RuntimeError(f"{pod.name} ended with {code}\n{pod.logs()}")
            pod.start()
            pod.await_ready()

    def replace_router(self) -> None:
        # As a Deployment does it without maxUnavailable: a new one first; the old one leaves the Service, and then ends.
        new = self.world.router(2)
        new.start()
        new.await_ready()
        self.load.routers = [new.address]
        code = self.router.stop()
        if code:
            raise RuntimeError(f"{self.router.name} ended with {code}\n{self.router.logs()}")
        self.router = new

    def drain_a_node(self) -> None:
        self.nodes[0].stop()

    def use_the_other_node(self) -> None:
        for what in ("weft_node_stored_blocks_total", 'weft_node_loaded_blocks_total{source="host"}'):
            await_that(f"{what} over 0: the engine of the restarted node stores and loads", lambda: metric(self.nodes[1], what))

    def run(self) -> None:
        self.install()
        self.phase("quiet", lambda: await_that("a first hundred", lambda: self.load.count >= 100 or self.load.failed))
        self.phase("every member restarted", self.restart_members)
        self.phase("the leader killed", self.kill_leader)
        self.phase("every node restarted", self.restart_nodes)
        self.phase("the router replaced", self.replace_router)
        self.phase("a node drained for good", self.drain_a_node)
        self.phase("the other node used", self.use_the_other_node)
        self.load.stop()
        print(f"{self.load.count} requests, none failed")


def clean() -> None:
    names = docker("ps", "-aq", "--filter", "name=^weft-containers-").split()
    if names:
        docker("rm", "-f", *names)
    docker("network", "rm", NETWORK, check=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", default="weft:dev")
    parser.add_argument("--helm", default=str(ROOT / "target/chart/helm"))
    parser.add_argument("--keep", action="store_true", help="leave containers and files for a look")
    args = parser.parse_args()
    clean()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="weft-containers-"))
    # Users of the containers pass through it.
    folder.chmod(0o755)
    docker("network", "create", "--subnet", f"{SUBNET}.0/24", NETWORK)
    scenario = Scenario(World(folder, args.image, args.helm))
    try:
        scenario.run()
    except (RuntimeError, OSError) as error:
        for pod in [*scenario.members, *scenario.nodes, scenario.router]:
            print(f"== {pod.name}\n{pod.logs()}", file=sys.stderr)
        sys.exit(f"rolling.py: {error}")
    finally:
        if not args.keep:
            clean()
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
