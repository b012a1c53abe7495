"""Alerts: promtool takes them, each fires when it should and is silent beside it, and each has a runbook."""

import shutil
import subprocess

import pytest
import yaml

from conftest import CHART, ROOT, Objects, template

RULES = yaml.safe_load((CHART / "files/alerts.yaml").read_text())
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}
needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool: apt-get install prometheus")

NAMESPACE = 'namespace="weft"'


def series(name, values, **labels):
    inner = ",".join([NAMESPACE] + [f'{k}="{v}"' for k, v in labels.items()])
    return {"series": f"{name}{{{inner}}}", "values": values}


def hist(name, fast, slow, edges, **labels):
    """A histogram: how many are below the first edge, and how many below the second."""
    return [series(name + "_bucket", fast, le=edges[0], **labels), series(name + "_bucket", slow, le=edges[1], **labels), series(name + "_bucket", slow, le="+Inf", **labels)]

term = series("weft_metadata_term", "1x2000", pod="m-1")


def voters(total, up):
    return [series("weft_metadata_voters", f"{total}x200", pod=f"m-{i}") for i in range(up)]


POD = {"pod": "p"}
# By alert: series that fire it, series beside those that must not, when to look, and labels beside namespace and severity
# (None: not even a namespace).
CASES = {
    "WeftNoLeader": ([series("weft_metadata_leader", "0x200", pod="m-1"), series("weft_metadata_leader", "0x200", pod="m-2")],
                  [series("weft_metadata_leader", "0x200", pod="m-1"), series("weft_metadata_leader", "1x200", pod="m-2")], "5m", {}),
    "WeftQuorumAtRisk": (voters(3, 2), voters(3, 3), "5m", {}),
    "WeftMemberMissing": (voters(5, 4), voters(5, 5), "15m", {}),
    "WeftMetricsAbsent": ([], [term], "10m", None),
    "WeftLeaderFlapping": ([series("weft_metadata_term", "1+1x60", pod="m-1")], [series("weft_metadata_term", "1x30 2x30", pod="m-1")], "40m", {}),
    "WeftLogSyncSlow": (hist("weft_metadata_log_sync_seconds", "0x100", "0+600x100", ("0.4096", "0.8192"), **POD),
                     hist("weft_metadata_log_sync_seconds", "0+600x100", "0+600x100", ("0.4096", "0.8192"), **POD), "30m", POD),
    "WeftAppliedLag": ([series("weft_metadata_last_log_index", "5000x60", **POD), series("weft_metadata_applied_index", "100x60", **POD)],
                    [series("weft_metadata_last_log_index", "5000x60", **POD), series("weft_metadata_applied_index", "4990x60", **POD)], "20m", POD),
    "WeftReportsOverloaded": ([series("weft_metadata_reports_overloaded_total", "0+10x60", **POD)], [series("weft_metadata_reports_overloaded_total", "7x60", **POD)], "30m", {}),
    "WeftAllNodesDown": ([series("weft_node_attached_engines", "0x60", pod="n-1"), series("weft_node_memory_bytes", "1x60", pod="n-1", use="left"), term],
                      [series("weft_node_attached_engines", "0x60", pod="n-1"), series("weft_node_attached_engines", "2x60", pod="n-2"), series("weft_node_memory_bytes", "1x60", pod="n-1", use="left"), term], "20m", {}),
    "WeftNodeExpired": ([series("weft_metadata_expired_nodes_total", "0x10 1x60", **POD)], [series("weft_metadata_expired_nodes_total", "3x60", **POD)], "12m", {}),
    "WeftChecksumFailures": ([series("weft_node_checksum_failures_total", "0x10 1x60", **POD)], [series("weft_node_checksum_failures_total", "1x60", **POD)], "15m", POD),
    "WeftStoresRefused": ([series("weft_node_refused_blocks_total", "0+5x100", **POD)], [series("weft_node_refused_blocks_total", "5x100", **POD)], "40m", POD),
    "WeftNotAdmitting": ([series("weft_node_loaded_blocks_total", "0+600x100", source="none", **POD), series("weft_node_stored_blocks_total", "9x100", **POD)],
                      [series("weft_node_loaded_blocks_total", "0+600x100", source="none", **POD), series("weft_node_stored_blocks_total", "0+1x100", **POD)], "60m", {}),
    "WeftPhantomHits": ([series("weft_node_fetch_failures_total", "0+60x100", cause="gone", **POD), series("weft_node_fetch_duration_seconds_count", "0+600x100", **POD)],
                     [series("weft_node_fetch_failures_total", "0+1x100", cause="gone", **POD), series("weft_node_fetch_duration_seconds_count", "0+1x100", **POD)], "60m", {}),
    "WeftPeerErrors": ([series("weft_node_fetch_failures_total", "0+300x100", cause="peer", **POD), series("weft_node_fetch_duration_seconds_count", "0+600x100", **POD)],
                    [series("weft_node_fetch_failures_total", "0+300x100", cause="lookup", **POD), series("weft_node_fetch_duration_seconds_count", "0+600x100", **POD)], "60m", POD),
    "WeftFetchSlow": (hist("weft_node_fetch_duration_seconds", "0x100", "0+600x100", ("1", "2"), **POD),
                   hist("weft_node_fetch_duration_seconds", "0+600x100", "0+600x100", ("1", "2"), **POD), "60m", POD),
    "WeftIndexDiverged": ([series("weft_node_divergence_blocks", "600x60", tier="host", **POD), series("weft_node_divergence_blocks", "600x60", tier="device", **POD)],
                       [series("weft_node_divergence_blocks", "600x60", tier="host", **POD)], "30m", POD),
    "WeftDiskErrors": ([series("weft_node_disk_errors_total", "0x10 1x60", **POD)], [series("weft_node_disk_errors_total", "1x60", **POD)], "15m", POD),
    "WeftNoEngines": ([series("weft_router_endpoints", "0x60", state="healthy", pod="r-1")], [series("weft_router_endpoints", "0x60", state="healthy", pod="r-1"), series("weft_router_endpoints", "4x60", state="healthy", pod="r-2")], "10m", {}),
    "WeftEnginesOut": ([series("weft_router_endpoints", "1x60", state="out", **POD)], [series("weft_router_endpoints", "0x60", state="out", **POD)], "20m", {}),
    "WeftErrorRatio": ([series("weft_router_requests_total", "0+30x60", outcome="failed", **POD), series("weft_router_requests_total", "0+60x60", outcome="answered", **POD)],
                    [series("weft_router_requests_total", "0+3x60", outcome="failed", **POD), series("weft_router_requests_total", "0+0x60", outcome="answered", **POD)], "20m", {}),
    "WeftRequestsRefused": ([series("weft_router_requests_total", "0+2x60", outcome="refused", **POD), series("weft_router_requests_total", "0+60x60", outcome="answered", **POD)],
                         [series("weft_router_requests_total", "2x60", outcome="refused", **POD), series("weft_router_requests_total", "0+60x60", outcome="answered", **POD)], "20m", {}),
    "WeftDecisionSlow": ([*hist("weft_router_decision_seconds", "0x60", "0+600x60", ("0.05", "0.1"), **POD), series("weft_router_decision_seconds_count", "0+600x60", **POD)],
                      [*hist("weft_router_decision_seconds", "0x60", "0+1x60", ("0.05", "0.1"), **POD), series("weft_router_decision_seconds_count", "0+1x60", **POD)], "30m", POD),
    "WeftIndexStale": ([series("weft_follower_log_index", "77x60", **POD), series("weft_metadata_applied_entries_total", "0+600x60", pod="m-1")],
                    [series("weft_follower_log_index", "77x60", **POD), series("weft_metadata_applied_entries_total", "77x60", pod="m-1")], "20m", POD),
    "WeftHitRatioLow": ([series("weft_router_matched_tokens_total", "0+6000x200", source="device", **POD), series("weft_router_prompt_tokens_total", "0+600000x200", **POD)],
                     [series("weft_router_matched_tokens_total", "0+0x200", source="device", **POD), series("weft_router_prompt_tokens_total", "0+6000x200", **POD)], "90m", {}),
    "WeftHitRatioDrop": ([series("weft_router_matched_tokens_total", "0+300000x1440 432000000+60000x240", source="device", **POD), series("weft_router_prompt_tokens_total", "0+600000x1700", **POD)],
                      [series("weft_router_matched_tokens_total", "0+300000x1700", source="device", **POD), series("weft_router_prompt_tokens_total", "0+600000x1700", **POD)], "1640m", {}),
    "WeftPeersRefused": ([series("weft_transport_refused_peers_total", "0+1x60", reason="untrusted", **POD)], [series("weft_transport_refused_peers_total", "4x60", reason="untrusted", **POD)], "30m", {"reason": "untrusted", **POD}),
    "WeftCertificateEnds": ([series("weft_transport_certificate_end_timestamp_seconds", "86400x200", **POD)], [series("weft_transport_certificate_end_timestamp_seconds", "8640000x200", **POD)], "90m", POD),
}


def promtool(*args):
    done = subprocess.run(["promtool", *args], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_promtool_takes_the_rules():
    promtool("check", "rules", str(CHART / "files/alerts.yaml"))


@pytest.mark.parametrize("name", sorted(set(ALERTS) | set(CASES)))
@needs_promtool
def test_an_alert_fires_when_it_should_and_only_then(name, tmp_path):
    # promtool compares annotations too, to the letter; here it is about when.
    rule = {key: value for key, value in ALERTS[name].items() if key != "annotations"}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "one", "rules": [rule]}]}))
    fires, silent, when, labels = CASES[name]
    namespace = {} if labels is None else {"namespace": "weft"}
    expected = {"severity": rule["labels"]["severity"], **namespace, **(labels or {})}
    tests = [
        {"interval": "1m", "input_series": given,
         "alert_rule_test": [{"eval_time": when, "alertname": name, "exp_alerts": alerts}]}
        for given, alerts in ((fires, [{"exp_labels": expected}]), (silent, []))
    ]
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}))
    promtool("test", "rules", str(file))


def test_every_alert_has_a_runbook_and_every_runbook_an_alert():
    books = {file.stem for file in (ROOT / "docs/runbooks").glob("*.md")}
    assert books == set(ALERTS)
    for name, rule in ALERTS.items():
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{name}.md"


def test_rendered_rules_are_the_tested_ones_with_the_runbooks_of_the_values():
    sets = ["--set", "monitoring.rules.enabled=true", "--set", "monitoring.rules.runbooks=https://example.com/books"]
    rendered = Objects(template(*sets))["PrometheusRule/weft"]["spec"]
    text = yaml.safe_dump(rendered).replace("https://example.com/books", "docs/runbooks")
    assert yaml.safe_load(text) == RULES
