"""What can't work is refused when it is rendered, with what to do instead."""

import http.server
import json
import threading

import pytest

from conftest import CHART, helm, refusal

REFUSED = {
    "an even number of members": (["metadata.members=2"], "use 1, 3 or 5"),
    "seven members": (["metadata.members=7"], "use 1, 3 or 5"),
    "nobody's metadata": (["metadata.enabled=false", "tls.mode=existingSecret", "tls.secretName=ca"], "externalMetadata={"),
    "two groups": (["externalMetadata={other:7400}"], "Set metadata.enabled=false"),
    "a secret without a name": (["tls.mode=existingSecret"], "weft certs init"),
    "a CA of its own for another's group": (["metadata.enabled=false", "externalMetadata={other:7400}"], "Copy the group's CA Secret"),
    "a route to nowhere": (["router.httpRoute.enabled=true"], "name the Gateway"),
    "fewer at most than at least": (["router.autoscaling.enabled=true", "router.autoscaling.maxReplicas=1"], "is over maxReplicas"),
    "a setting that the chart makes": (["metadata.settings.data=/x"], "the chart sets it itself"),
    "a disk without a size": (["node.disk.path=/mnt/nvme"], "node.disk.size=2TiB"),
    "an unknown value": (["metadata.replicas=3"], "replicas"),
    "an unknown value at the top": (["metdata.members=3"], "metdata"),
    "a size of Kubernetes": (["node.hostMemory=64Gi"], "hostMemory"),
    "an unknown mode": (["tls.mode=disabled"], "mode"),
    "a model without a volume": (["router.models[0].name=m"], "volume"),
}


@pytest.mark.parametrize(("sets", "expected"), REFUSED.values(), ids=REFUSED)
def test_refused(sets, expected):
    said = refusal(*(arg for value in sets for arg in ("--set", value)))
    assert expected in said, said


class ApiServer(http.server.BaseHTTPRequestHandler):
    """As much of an API server as `lookup` asks: discovery, and one StatefulSet that runs."""

    running = {
        "apiVersion": "apps/v1", "kind": "StatefulSet", 
        "metadata": {
            "name": "weft-metadata", "namespace": "weft", "labels": {"app.kubernetes.io/managed-by": "Helm"},
            "annotations": {"meta.helm.sh/release-name": "weft", "meta.helm.sh/release-namespace": "weft"},
        },
        "spec": {"replicas": 5, "volumeClaimTemplates": [{"spec": {"resources": {"requests": {"storage": "10Gi"}}}}]},
    }
    kinds = {
        "v1": "ServiceAccount ConfigMap Service Pod", "apps/v1": "StatefulSet DaemonSet Deployment", "batch/v1": "Job",
        "networking.k8s.io/v1": "NetworkPolicy", "policy/v1": "PodDisruptionBudget",
        "rbac.authorization.k8s.io/v1": "Role RoleBinding",
    }
    answers = {
        "/version": {"major": "1", "minor": "34", "gitVersion": "v1.34.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [
            {"name": version.split("/")[0], "versions": [{"groupVersion": version, "version": "v1"}]}
            for version in kinds if "/" in version]},
        **{("/apis/" if "/" in version else "/api/") + version: {
            "kind": "APIResourceList", "groupVersion": version, "resources": [
                {"name": kind.lower().replace("policy", "policie") + "s", "singularName": kind.lower(),
                 "namespaced": True, "kind": kind, "verbs": ["get"]} for kind in names.split()]}
           for version, names in kinds.items()},
        "/apis/apps/v1/namespaces/weft/statefulsets/weft-metadata": running,
    }

    def do_GET(self):
        answer = self.answers.get(self.path.split("?")[0])
        self.send_response(200 if answer else 404)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer or {"kind": "Status", "code": 404}).encode())

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), ApiServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    cluster = {"server": f"http://127.0.0.1:{server.server_port}"}
    file = tmp_path_factory.mktemp("kube") / "config"
    file.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": cluster}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "users": [{"name": "test", "user": {}}],
    }))
    yield str(file)
    server.shutdown()


def upgrade(kubeconfig, *sets):
    args = [arg for value in sets for arg in ("--set", value)]
    return helm("template", "weft", str(CHART), "--namespace", "weft", "--dry-run=server", "--kubeconfig", kubeconfig,
                "--disable-openapi-validation", *args, check=False)


def test_an_upgrade_that_fits_what_runs_is_rendered(kubeconfig):
    done = upgrade(kubeconfig, "metadata.members=5")
    assert done.returncode == 0, done.stderr
    done = upgrade(kubeconfig, "metadata.members=3", "metadata.fewerMembers=true")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("sets", "expected"), [
    (["metadata.members=3"], "weft metadata remove 5"),
    (["metadata.members=5", "metadata.persistence.size=20Gi"], "kubectl patch pvc data-weft-metadata-1"),
    (["metadata.members=5", "metadata.persistence.enabled=false"], "the group would lose its log"),
])
def test_an_upgrade_that_kubernetes_or_the_group_would_refuse_is_refused(kubeconfig, sets, expected):
    done = upgrade(kubeconfig, *sets)
    assert done.returncode != 0 and expected in done.stderr, done.stderr
