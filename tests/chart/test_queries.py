"""Every query of alerts and dashboards parses, names only metrics that docs/metrics.md has, with labels they have, and is answered
by a real Prometheus that scrapes real processes."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import promql_parser
import pytest
import yaml

import dashboards
from conftest import CHART, ROOT
from test_alerts import ALERTS

METRICS = {
    match[1]: (match[2], set(re.findall(r"`(\w+)`", match[3])))
    for match in re.finditer(r"^\| `(weft_\w+)` \| (\w+) \| (.*?) \|", (ROOT / "docs/metrics.md").read_text(), re.M)
}
# Whose a series is: set by Prometheus and by the PodMonitor, not by weft.
TARGET = {"namespace", "pod", "instance", "job", "role", "node"}
QUERIES = {
    **{f"alert {name}": rule["expr"] for name, rule in ALERTS.items()},
    **{
        f"{board}: {panel.title}: {legend}": query
        for board, (_, panels) in dashboards.BOARDS.items() for panel in panels for legend, query in panel.queries.items()
    },
}


def plain(query: str) -> str:
    return query.replace("$__rate_interval", "1m").replace("$namespace", ".*")


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_a_query_parses_and_names_what_there_is(query):
    promql_parser.parse(plain(query))
    for name, inside in re.findall(r"\b(weft_\w+)(?:\{([^}]*)\})?", query):
        family = name if name in METRICS else re.sub("_(bucket|sum|count)$", "", name)
        assert family in METRICS, f"{name} is not in docs/metrics.md"
        kind, labels = METRICS[family]
        assert name == family or kind == "histogram", name
        for label in re.findall(r"(\w+)\s*(?:=~|!=|=|!~)", inside):
            assert label in labels | TARGET | {"le"}, f"{name} has no label {label}"


def test_rates_are_of_counters_only():
    for where, query in QUERIES.items():
        for name in re.findall(r"(?:rate|increase)\((weft_\w+)", query):
            assert name.endswith(("_total", "_bucket", "_count", "_sum")), f"{where}: {name}"


def test_dashboards_are_those_of_the_script():
    subprocess.run([sys.executable, str(ROOT / "tests/chart/dashboards.py"), "--check"], check=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def await_that(what, test, within=120):
    end = time.monotonic() + within
    while time.monotonic() < end:
        with contextlib.suppress(OSError, KeyError):
            if found := test():
                return found
        time.sleep(0.5)
    pytest.fail(f"not within {within} s: {what}")


def ask(base: str, path: str, **query: str) -> dict:
    with urllib.request.urlopen(f"{base}{path}?{urllib.parse.urlencode(query)}", timeout=10) as answer:
        return json.load(answer)["data"]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory):
    """Prometheus over a `weft up` that replays a workload. Both are stopped at the end, by their process groups."""
    weft = os.environ.get("WEFT")
    if not weft:
        pytest.skip("set WEFT to a built weft to run queries against real processes, as `make chart` does")
    if not shutil.which("prometheus"):
        pytest.skip("needs Prometheus: apt-get install prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    subnet = os.environ.get("SUBNET", "127.0.9")
    started = []

    def start(name, *command):
        log = open(folder / f"{name}.log", "w")
        started.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))

    try:
        workload = ["--requests", "60", "--speed", "8"]
        start("up", weft, "up", "--state", str(folder / "run"), "--subnet", subnet, *workload)
        targets = {
            "metadata": [f"{subnet}.{host}:7401" for host in (11, 12, 13)],
            "node": [f"{subnet}.{host}:7411" for host in (21, 22)],
            "router": [f"{subnet}.31:7421"],
        }
        await_that("weft up serves", lambda: "Ctrl-C" in (folder / "up.log").read_text())
        scraped = [
            {"targets": addresses, "labels": {"namespace": "weft", "role": role}} for role, addresses in targets.items()
        ]
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(CHART / "files/alerts.yaml")],
            "scrape_configs": [{"job_name": "weft", "static_configs": scraped}],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        port = free_port()
        start("prometheus", "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
              f"--web.listen-address=127.0.0.1:{port}")
        base = f"http://127.0.0.1:{port}/api/v1"
        expected = sum(map(len, targets.values()))
        await_that("all are scraped twice", lambda: len(ask(base, "/query", query="count_over_time(up[1m]) > 4")["result"]) == expected)
        # Some traffic while it is scraped, so that rates are of something.
        body = json.dumps({"model": "sim-8b", "prompt": "word " * 600, "max_tokens": 2, "stream": True}).encode()
        for _ in range(10):
            headers = {"content-type": "application/json"}
            with urllib.request.urlopen(urllib.request.Request(f"http://{subnet}.31:8080/v1/completions", body, headers), timeout=30) as answer:
                answer.read()
        time.sleep(3)
        yield base
    finally:
        for process in reversed(started):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


PANELS = {
    f"{board}: {panel.title}": panel for board, (_, panels) in dashboards.BOARDS.items() for panel in panels
}


@pytest.mark.parametrize("panel", PANELS.values(), ids=PANELS)
def test_a_panel_has_data(prometheus, panel):
    for legend, query in panel.queries.items():
        found = ask(prometheus, "/query", query=plain(query))["result"]
        assert found or panel.may_be_empty, query
        values = [float(sample["value"][1]) for sample in found]
        if not panel.may_be_empty:
            assert not all(value != value for value in values), f"nothing but NaN: {query}"
        for label in re.findall(r"\{\{(\w+)\}\}", legend):
            assert label == "pod" or all(label in sample["metric"] for sample in found), f"{legend}: {query}"


def test_every_rule_is_healthy_and_a_healthy_weft_raises_no_alarm(prometheus):
    groups = await_that("rules were evaluated", lambda: [
        group for group in ask(prometheus, "/rules")["groups"] if all(rule["health"] != "unknown" for rule in group["rules"])
    ])
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["name"] for rule in rules} == set(ALERTS)
    assert [rule for rule in rules if rule["health"] != "ok"] == []
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []
