"""What the rendered objects have to be, in every layout."""

import json
import os
import re
import subprocess
import sys
import tomllib

import pytest
import yaml

from conftest import CHART, LAYOUTS, ROOT, Objects, helm, template

# Kinds whose schemas no Kubernetes release carries.
CUSTOM = {"Certificate", "Issuer", "PodMonitor", "PrometheusRule", "HTTPRoute"}


@pytest.mark.parametrize("values", LAYOUTS.values(), ids=LAYOUTS)
def test_lint(values):
    helm("lint", "--strict", str(CHART), *values)


@pytest.mark.parametrize("version", ["1.30", "1.34", "1.37"])
def test_kubernetes_knows_every_field(layout, version, tmp_path):
    known = [found for found in layout.values() if found["kind"] not in CUSTOM]
    file = tmp_path / "objects.yaml"
    file.write_text(yaml.safe_dump_all(known))
    validate = [sys.executable, "-c", "from kubernetes_validate.__main__ import main; main()"]
    done = subprocess.run([*validate, "--strict", "-k", version, str(file)], capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert done.returncode == 0 and said.count("passed") == len(known), said


def test_what_is_made_from_values_is_up_to_date():
    subprocess.run([sys.executable, str(ROOT / "tests/chart/generate.py"), "--check"], check=True)


def test_no_pod_has_more_than_it_needs(layout):
    for name, spec in layout.pods():
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] == 65532, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        assert spec["automountServiceAccountToken"] is name.startswith("Job/"), name
        for container in spec["containers"] + spec.get("initContainers", []):
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False and security["readOnlyRootFilesystem"], name
            assert security["capabilities"]["drop"] == ["ALL"] and "privileged" not in security, name
            assert container["resources"]["limits"]["memory"], name
            if container["name"] == "prepare":
                assert security["runAsUser"] == 0 and security["capabilities"]["add"] == ["CHOWN", "FOWNER"]
            else:
                assert "runAsUser" not in security and "add" not in security["capabilities"], name


def test_settings_of_weft_do_not_come_from_service_variables(layout):
    for name, spec in layout.pods():
        assert spec["enableServiceLinks"] is False, name


def test_only_the_container_that_issues_mounts_the_ca_key(layout):
    for name, spec in layout.pods():
        for container in spec["containers"]:
            assert "ca" not in {mount["name"] for mount in container.get("volumeMounts", [])}, name
        issuing = [c for c in spec.get("initContainers", []) if "certificate" in c["name"]]
        assert issuing or name.startswith("Job/"), name
        for container in issuing:
            assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/ca", "/identity"}


def test_host_folders_are_the_nodes_alone(layout):
    for name, spec in layout.pods():
        host = {volume["hostPath"]["path"] for volume in spec.get("volumes", []) if "hostPath" in volume}
        if not name.startswith("DaemonSet/"):
            assert host == set(), name
            continue
        config = tomllib.loads(layout["ConfigMap/" + name.split("/")[1]]["data"]["weft.toml"])
        assert host == {"/run/weft", "/var/lib/weft"} | ({"/mnt/nvme/weft"} if "disk" in config else set()), name
        prepare, daemon = spec["initContainers"][0], spec["containers"][0]
        owned = {mount["mountPath"] for mount in prepare["volumeMounts"]}
        assert owned == {arg for arg in prepare["args"] if arg.startswith("/")}
        assert owned <= {mount["mountPath"] for mount in daemon["volumeMounts"]}


def test_liveness_is_the_process_only(layout):
    for name, spec in layout.pods():
        for container in spec["containers"]:
            if "livenessProbe" in container:
                assert container["livenessProbe"]["httpGet"]["path"] == "/live", name
                assert container["readinessProbe"]["httpGet"]["path"] == "/ready", name


def test_what_selects_pods_selects_some(layout):
    pods = [found["spec"]["template"]["metadata"]["labels"] for found in layout.values() if "template" in found.get("spec", {})]
    for name, found in layout.items():
        spec = found.get("spec", {})
        selector = {"Service": lambda: spec["selector"], "PodDisruptionBudget": lambda: spec["selector"]["matchLabels"],
                    "NetworkPolicy": lambda: spec["podSelector"]["matchLabels"]}.get(found["kind"])
        if selector:
            wanted = {key: value for key, value in selector().items() if not key.startswith("statefulset.")}
            assert [labels for labels in pods if wanted.items() <= labels.items()], name


def test_configuration_files_are_toml_and_members_are_services(layout):
    for name, found in layout.items():
        if text := found.get("data", {}).get("weft.toml"):
            config = tomllib.loads(text)
            members = config.get("members", {}).values() if name.endswith("-metadata") else config["metadata"]
            for address in members:
                service = address.split(".")[0]
                owned = f"Service/{service}" in layout
                assert owned or address == "weft-metadata-%s.weft.svc:7400" % service[-1], address


def test_members_bind_what_their_services_point_at(default):
    config = tomllib.loads(default["ConfigMap/weft-metadata"]["data"]["weft.toml"])
    assert config["members"] == {str(n): f"weft-metadata-{n}.weft.svc:7400" for n in (1, 2, 3)}
    pod = default["StatefulSet/weft-metadata"]["spec"]
    assert pod["ordinals"] == {"start": 1} and pod["replicas"] == 3
    for number in (1, 2, 3):
        service = default[f"Service/weft-metadata-{number}"]["spec"]
        assert service["selector"]["statefulset.kubernetes.io/pod-name"] == f"weft-metadata-{number}"
        assert service["publishNotReadyAddresses"] is True


def test_memory_of_a_node_is_what_it_shares_and_an_overhead():
    values = ["--set", "node.hostMemory=64GiB", "--set", "node.overhead=512MiB"]
    node = lambda *more: Objects(template(*values, *more))["DaemonSet/weft-node"]["spec"]["template"]["spec"]
    resources = node()["containers"][0]["resources"]
    assert resources["requests"]["memory"] == resources["limits"]["memory"] == f"{64 * 1024 + 512}Mi"
    resources = node("--set", "node.hugePages=true")["containers"][0]["resources"]
    assert resources["limits"] == {"memory": "512Mi", "hugepages-2Mi": f"{64 * 1024}Mi"}
    assert "runtimeClassName" not in node()


def test_engines_are_told_what_the_connector_reads(default):
    told = json.loads(default["ConfigMap/weft-connection"]["data"]["vllm-kv-transfer-config"])
    connector = (ROOT / "connectors/weft_kv/vllm/__init__.py").read_text()
    settings = (ROOT / "connectors/weft_kv/settings.py").read_text()
    for key, value in told.items():
        if key != "kv_connector_extra_config":
            assert f'"{key}": "{value}"' in connector, key
    for key in told["kv_connector_extra_config"]:
        assert f"    {key}: str" in settings, key
    assert told["kv_connector_extra_config"]["socket"] == "/run/weft/node.sock"


def test_autoscaling_owns_the_number_of_routers():
    objects = Objects(template("--set", "router.autoscaling.enabled=true"))
    assert "replicas" not in objects["Deployment/weft-router"]["spec"]
    assert "HorizontalPodAutoscaler/weft-router" in objects


def test_a_router_ends_after_its_last_answers(default):
    spec = default["Deployment/weft-router"]["spec"]["template"]["spec"]
    lame = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = next(int(arg[len("--drain="):-1]) for arg in spec["containers"][0]["args"] if arg.startswith("--drain="))
    assert spec["terminationGracePeriodSeconds"] > lame + drain


def test_the_job_that_makes_the_ca_can_do_nothing_else(default):
    rules = default["Role/weft-ca"]["rules"]
    assert rules == [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]}]
    hooks = {name: found["metadata"]["annotations"] for name, found in default.items() if name.endswith("/weft-ca")}
    assert set(hooks) == {"ServiceAccount/weft-ca", "Role/weft-ca", "RoleBinding/weft-ca", "Job/weft-ca"}
    for annotations in hooks.values():
        assert annotations["helm.sh/hook"] == "pre-install,pre-upgrade"
    weights = {name: int(annotations["helm.sh/hook-weight"]) for name, annotations in hooks.items()}
    assert weights["Job/weft-ca"] > weights["RoleBinding/weft-ca"] > weights["Role/weft-ca"]


def test_the_ca_of_cert_manager_is_one_that_weft_takes():
    objects = Objects(template("--set", "tls.mode=certManager", "--set", "cluster=prod"))
    ca = objects["Certificate/weft-ca"]["spec"]
    # `weft certs issue` reads the cluster from this URI, and the key as PKCS 8.
    assert ca["uris"] == ["weft://prod/ca"] and ca["isCA"] and ca["privateKey"]["encoding"] == "PKCS8"
    volume = objects["StatefulSet/weft-metadata"]["spec"]["template"]["spec"]["volumes"][1]["secret"]
    assert volume["secretName"] == ca["secretName"]
    assert {item["key"]: item["path"] for item in volume["items"]} == {"tls.crt": "ca.pem", "tls.key": "ca.key"}
    assert "Job/weft-ca" not in objects


def test_the_binary_takes_what_is_rendered(layout, tmp_path):
    weft = os.environ.get("WEFT")
    if not weft:
        pytest.skip("set WEFT to a built weft, as `make chart` does")
    roles = [name for name in layout if name.split("/")[0] in ("StatefulSet", "DaemonSet", "Deployment")]
    assert roles
    for name in roles:
        container = layout[name]["spec"]["template"]["spec"]["containers"][0]
        config = layout["ConfigMap/" + name.split("/")[1]]["data"]["weft.toml"]
        file = tmp_path / "weft.toml"
        # Names of Services are known inside of Kubernetes only.
        file.write_text(re.sub(r"[\w.-]+[.]svc:", "127.0.0.1:", config))
        known = {"MEMBER": "1", "POD_IP": "127.0.0.1", "NODE_NAME": "10", "POD_NAME": "router-x"}
        known["POD_IP"] = "::1" if "[$(POD_IP)]" in " ".join(container["args"]) else known["POD_IP"]
        args = [re.sub(r"\$\((\w+)\)", lambda found: known[found[1]], arg) for arg in container["args"]]
        args = [arg.replace("/etc/weft/weft.toml", str(file)).replace("/identity/", "/nowhere/") for arg in args]
        sets = [f"--set=state_dir={tmp_path}/state", "--set=host_memory=1MiB"] if name.startswith("DaemonSet/") else []
        done = subprocess.run([weft, *args, *sets], capture_output=True, text=True, timeout=30)
        # All was understood: the first thing it misses is what only a pod has.
        said = done.stdout + done.stderr
        assert done.returncode == 78 and "cannot read /nowhere/" in said, f"{name}: {said}"
