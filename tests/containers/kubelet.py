"""As much of a kubelet as the chart's pods need, over docker: pods are run from what helm renders, so that images, arguments,
users, capabilities, mounts and probes are the chart's own and not a copy of them.

Absent on purpose: scheduling, Services (a name in /etc/hosts with a fixed address stands for one), restarts.
"""

import os
import pathlib
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request

MIB = {"Mi": 1 << 20, "Gi": 1 << 30}


def docker(*args: str, check: bool = True) -> str:
    done = subprocess.run(["docker", *args], capture_output=True, text=True)
    if check and done.returncode:
        raise RuntimeError(f"docker {' '.join(args)}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


class Pod:
    """One pod of a template: its folders outlive it, its address is fixed."""

    def __init__(self, world, name: str, template: dict, address: str, node: str, labels: dict[str, str] | None = None):
        self.world, self.name, self.spec, self.address, self.node = world, name, template["spec"], address, node
        self.labels = template["metadata"]["labels"] | (labels or {})
        self.container = self.spec["containers"][0]
        self.folder = world.folder / "pods" / name

    def start(self) -> None:
        """Runs init containers to their end, and starts the container."""
        for volume in self.spec["volumes"]:
            if "emptyDir" in volume:
                shutil.rmtree(self._source(volume["name"]), ignore_errors=True)
        for init in self.spec.get("initContainers", []):
            docker("run", "--rm", *self._flags(init), self._image(init), *self._args(init))
        docker("rm", "-f", self.name, check=False)
        flags = self._flags(self.container)
        docker("run", "-d", "--name", self.name, *flags, self._image(self.container), *self._args(self.container))

    def stop(self) -> int:
        """SIGTERM, the grace period, SIGKILL; gives the exit code."""
        docker("stop", "-t", str(self.spec["terminationGracePeriodSeconds"]), self.name)
        return int(docker("inspect", "--format", "{{.State.ExitCode}}", self.name))

    def kill(self) -> None:
        docker("kill", "-s", "KILL", self.name)

    def logs(self) -> str:
        done = subprocess.run(["docker", "logs", "--tail", "40", self.name], capture_output=True, text=True)
        return done.stdout + done.stderr

    def ready(self) -> str | None:
        """`None` while it is ready, else why not."""
        return self._probe(self.container["readinessProbe"]["httpGet"])

    def await_ready(self, within: float = 60) -> None:
        end, why = time.monotonic() + within, "never asked"
        while time.monotonic() < end:
            if (why := self.ready()) is None:
                return
            time.sleep(0.2)
        raise RuntimeError(f"{self.name} is not ready after {within} s: {why}\n{self.logs()}")

    def port(self, name: str) -> int:
        return next(port["containerPort"] for port in self.container["ports"] if port["name"] == name)

    def _probe(self, probe: dict) -> str | None:
        url = f"http://{self.address}:{self.port(probe['port'])}{probe['path']}"
        try:
            with urllib.request.urlopen(url, timeout=2):
                return None
        except urllib.error.HTTPError as error:
            return error.read().decode().strip()
        except OSError as error:
            return str(error)

    def _image(self, container: dict) -> str:
        return container["image"]

    def _environment(self, container: dict) -> dict[str, str]:
        fields = {"metadata.name": self.name, "spec.nodeName": self.node, "status.podIP": self.address}
        fields |= {f"metadata.labels['{key}']": value for key, value in self.labels.items()}
        return {env["name"]: fields[env["valueFrom"]["fieldRef"]["fieldPath"]] for env in container.get("env", [])}

    def _args(self, container: dict) -> list[str]:
        environment = self._environment(container)
        return [re.sub(r"\$\((\w+)\)", lambda found: environment[found[1]], arg) for arg in container["args"]]

    def _flags(self, container: dict) -> list[str]:
        security = self.spec["securityContext"] | container["securityContext"]
        flags = ["--network", self.world.network, "--ip", self.address, "--hostname", self.name]
        flags += ["--user", f"{security['runAsUser']}:{security['runAsGroup']}", "--security-opt", "no-new-privileges"]
        flags += ["--read-only"] if security["readOnlyRootFilesystem"] else []
        flags += [f"--cap-drop={name}" for name in security["capabilities"]["drop"]]
        flags += [f"--cap-add={name}" for name in security["capabilities"].get("add", [])]
        limit = re.fullmatch(r"(\d+)(Mi|Gi)", container["resources"]["limits"]["memory"])
        flags += ["--memory", str(int(limit[1]) * MIB[limit[2]])]
        for name, value in self._environment(container).items():
            flags += ["--env", f"{name}={value}"]
        for name, address in self.world.services.items():
            flags += ["--add-host", f"{name}:{address}"]
        for mount in container.get("volumeMounts", []):
            mode = ":ro" if mount.get("readOnly") else ""
            flags += ["--volume", f"{self._source(mount['name'])}:{mount['mountPath']}{mode}"]
        return flags

    def _source(self, name: str) -> pathlib.Path:
        """The folder behind a volume, made as a kubelet would make it."""
        group = self.spec["securityContext"]["fsGroup"]
        volume = next((found for found in self.spec["volumes"] if found["name"] == name), None)
        if volume and "hostPath" in volume:
            folder = self.world.folder / "hosts" / self.node / volume["hostPath"]["path"].lstrip("/")
            folder.mkdir(parents=True, exist_ok=True)
            return folder
        folder = self.folder / name
        if volume and "configMap" in volume:
            folder.mkdir(parents=True, exist_ok=True)
            for file, text in self.world.objects[f"ConfigMap/{volume['configMap']['name']}"]["data"].items():
                (folder / file).write_text(text)
        elif volume and "secret" in volume:
            folder.mkdir(parents=True, exist_ok=True)
            for file, text in self.world.secrets[volume["secret"]["secretName"]].items():
                (folder / file).write_text(text)
                os.chown(folder / file, 0, group)
                (folder / file).chmod(volume["secret"]["defaultMode"])
        elif not folder.exists():
            # An emptyDir or a claim: the group of the pod may write.
            folder.mkdir(parents=True)
            os.chown(folder, 0, group)
            folder.chmod(0o2775)
        return folder
