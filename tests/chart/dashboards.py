#!/usr/bin/env python3
"""Writes the Grafana dashboards of the chart: charts/weft/files/dashboards/*.json.

A panel is a title, a unit and its queries; where it stands and how Grafana wants it said is worked out here. Queries select by
`$namespace` (regular expression; all by default), and rates use `$__rate_interval`. `make chart` runs each against a real
Prometheus that scrapes real processes.

    tests/chart/dashboards.py [--check]
"""

import argparse
import dataclasses
import json
import pathlib
import sys

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "charts/weft/files/dashboards"
WIDTH = 24
HEIGHT = 8
# What stands for the series of one process: a pod on Kubernetes, an address elsewhere.
PROCESS = "namespace, pod, instance"


@dataclasses.dataclass
class Panel:
    title: str
    unit: str
    # Legend and query.
    queries: dict[str, str]
    about: str = ""
    kind: str = "timeseries"
    width: int = 8
    stacked: bool = False
    # Why it may have no data where nothing is wrong.
    may_be_empty: str = ""


def rate(metric: str, by: str = "", **labels: str) -> str:
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping} (rate({metric}{selector(labels)}[$__rate_interval]))"


def gauge(metric: str, how: str = "sum", by: str = "", **labels: str) -> str:
    grouping = f" by ({by})" if by else ""
    return f"{how}{grouping} ({metric}{selector(labels)})"


def quantile(share: float, metric: str, by: str = "") -> str:
    grouping = f"{by}, le" if by else "le"
    return f"histogram_quantile({share}, sum by ({grouping}) (rate({metric}_bucket{selector({})}[$__rate_interval])))"


def selector(labels: dict[str, str]) -> str:
    inner = ['namespace=~"$namespace"'] + [f'{name}=~"{value}"' for name, value in labels.items()]
    return "{" + ", ".join(inner) + "}"


def quantiles(metric: str) -> dict[str, str]:
    return {f"p{round(share * 100)}": quantile(share, metric) for share in (0.5, 0.9, 0.99)}


NO_DISK = "no node has a disk tier"
BOARDS = {
    "overview": ("weft / Overview", [
        Panel("Prompt tokens expected in a cache", "percentunit", {
            "{{source}}": f'{rate("weft_router_matched_tokens_total", "source")} / ignoring (source) group_left () {rate("weft_router_prompt_tokens_total")}',
        }, "By where: on the device already, in the node's memory, at a peer.", stacked=True, width=12),
        Panel("Time to first token", "s", quantiles("weft_router_ttft_seconds"), "Streamed answers, from a whole request on.", width=12),
        Panel("Tokens that were not computed", "short", {"tokens a second": rate("weft_router_matched_tokens_total")}, kind="stat", width=6),
        Panel("Requests", "reqps", {"{{outcome}}": rate("weft_router_requests_total", "outcome")}, width=6),
        Panel("Engines", "short", {"{{state}}": gauge("weft_router_endpoints", "max", "state")}, kind="stat", width=6),
        Panel("Leader", "short", {"members that lead": gauge("weft_metadata_leader")}, "1, but for a second in an election.", kind="stat", width=6),
        Panel("Blocks held", "bytes", {"{{tier}}": gauge("weft_node_bytes", "sum", "tier")}, stacked=True, width=12),
        Panel("Blocks known to the group", "short", {"distinct": gauge("weft_metadata_index_blocks", "max")}, width=12),
    ]),
    "router": ("weft / Router", [
        Panel("Requests", "reqps", {"{{outcome}}": rate("weft_router_requests_total", "outcome")}, stacked=True),
        Panel("Requests in flight", "short", {"{{pod}}{{instance}}": gauge("weft_router_in_flight_requests", "sum", PROCESS)}),
        Panel("Second attempts", "reqps", {"retries": rate("weft_router_retries_total")}),
        Panel("Decision", "s", quantiles("weft_router_decision_seconds"), "Template, tokens, hashes, lookup and cost."),
        Panel("Time to first token", "s", quantiles("weft_router_ttft_seconds")),
        Panel("Expected in a cache, less what was", "short", quantiles("weft_router_hit_error_tokens"), "Tokens a request.", may_be_empty="no engine said what it did not compute"),
        Panel("Prompts counted otherwise by engines", "short", {"prompts": rate("weft_router_token_mismatches_total")}, "Over 0: the router's tokenizer or template is not the engine's."),
        Panel("Endpoints", "short", {"{{state}}": gauge("weft_router_endpoints", "max", "state")}),
        Panel("Prompt tokens", "short", {"prompt": rate("weft_router_prompt_tokens_total"), "expected on {{source}}": rate("weft_router_matched_tokens_total", "source")}, width=12),
        Panel("Copy of the index", "bytes", {"{{pod}}{{instance}}": gauge("weft_follower_index_bytes", "sum", PROCESS)}, width=6),
        Panel("Blocks forgotten for room", "short", {"{{pod}}{{instance}}": rate("weft_follower_evicted_blocks_total", PROCESS)}, "Over 0: index_bytes is too small.", width=6),
        Panel("Behind the log", "short", {
            "{{pod}}{{instance}}": f'scalar({gauge("weft_metadata_applied_index", "max")}) - {gauge("weft_follower_log_index", "max", PROCESS)}',
        }, "Entries; scrapes are not of one moment, so that some hundreds say nothing."),
        Panel("Snapshots taken in", "short", {"{{pod}}{{instance}}": gauge("weft_follower_snapshots_total", "sum", PROCESS)}),
        Panel("Changes applied", "short", {"blocks": rate("weft_follower_block_changes_total", PROCESS)}),
    ]),
    "nodes": ("weft / Nodes", [
        Panel("Blocks that engines asked for", "short", {"{{source}}": rate("weft_node_loaded_blocks_total", "source")}, "By where they were; none: the engine computes.", stacked=True, width=12),
        Panel("Host memory used", "percentunit", {
            "{{pod}}{{instance}}": f'{gauge("weft_node_bytes", "sum", PROCESS, tier="host")} / {gauge("weft_node_memory_bytes", "sum", PROCESS)}',
        }, "A full cache is what one wants.", width=12),
        Panel("Stored", "Bps", {"{{pod}}{{instance}}": rate("weft_node_stored_bytes_total", PROCESS)}),
        Panel("Slots", "short", {"{{state}}": gauge("weft_node_host_slots", "sum", "state")}),
        Panel("Stores that found no slot", "short", {"{{pod}}{{instance}}": rate("weft_node_refused_blocks_total", PROCESS)}),
        Panel("Engines attached", "short", {"{{pod}}{{instance}}": gauge("weft_node_attached_engines", "sum", PROCESS)}),
        Panel("Reports", "short", {"{{outcome}}": rate("weft_node_reports_total", "outcome")}),
        Panel("Reports that wait", "short", {"{{pod}}{{instance}}": gauge("weft_node_waiting_reports", "max", PROCESS)}),
        Panel("Blocks listed wrongly", "short", {"{{tier}} {{pod}}{{instance}}": gauge("weft_node_divergence_blocks", "sum", f"tier, {PROCESS}")}, "At the last comparison, which is every minute."),
        Panel("Blocks put right", "short", {"{{tier}}": rate("weft_node_repaired_blocks_total", "tier")}),
        Panel("Disk tier", "Bps", {"{{what}}": rate("weft_node_disk_bytes_total", "what")}, "Taken in, written for it, written again, read.", may_be_empty=NO_DISK),
        Panel("Blocks offered to the disk tier", "short", {"{{outcome}}": rate("weft_node_demotions_total", "outcome")}),
        Panel("Blocks read from the disk tier", "short", {"{{outcome}}": rate("weft_node_promotions_total", "outcome")}),
        Panel("Written to the device, ever", "bytes", {"{{pod}}{{instance}}": gauge("weft_node_disk_wear_bytes", "max", PROCESS)}, "Against what it is good for.", may_be_empty=NO_DISK),
        Panel("Resyncs", "short", {"{{cause}}": rate("weft_node_resyncs_total", "cause")}),
    ]),
    "transfers": ("weft / Transfers", [
        Panel("Fetched from peers", "Bps", {"{{pod}}{{instance}}": rate("weft_node_fetched_bytes_total", PROCESS)}, width=12),
        Panel("Served to peers", "Bps", {"{{pod}}{{instance}}": rate("weft_node_served_bytes_total", PROCESS)}, width=12),
        Panel("Fetch", "s", quantiles("weft_node_fetch_duration_seconds"), may_be_empty="no node had to ask a peer yet"),
        Panel("What kept fetches from being whole", "short", {"{{cause}}": rate("weft_node_fetch_failures_total", "cause")}),
        Panel("Blocks that arrived damaged", "short", {"{{pod}}{{instance}}": gauge("weft_node_checksum_failures_total", "sum", PROCESS)}, "Never served. Any at all is a fault of memory or network."),
        Panel("UDP payload", "Bps", {"{{profile}} {{direction}}": rate("weft_transport_bytes_total", "profile, direction")}),
        Panel("Packets lost", "pps", {"{{profile}}": rate("weft_transport_lost_packets_total", "profile")}),
        Panel("Connections", "short", {"{{profile}} {{direction}}": gauge("weft_transport_connections", "sum", "profile, direction")}),
        Panel("Peers refused", "short", {"{{reason}}": rate("weft_transport_refused_peers_total", "reason")}),
        Panel("Connection attempts", "short", {"{{outcome}}": rate("weft_transport_dials_total", "outcome")}),
        Panel("Certificates end in", "s", {"{{pod}}{{instance}}": f'{gauge("weft_transport_certificate_end_timestamp_seconds", "min", PROCESS)} - time()'}),
    ]),
    "metadata": ("weft / Metadata", [
        Panel("Who leads", "short", {"{{pod}}{{instance}}": gauge("weft_metadata_leader", "max", PROCESS)}, kind="state-timeline", width=16),
        Panel("Voters", "short", {"agreed on": gauge("weft_metadata_voters", "max"), "scraped": gauge("weft_metadata_voters", "count")}, kind="stat"),
        Panel("Term", "short", {"{{pod}}{{instance}}": gauge("weft_metadata_term", "max", PROCESS)}, "Rises with each election."),
        Panel("Sync of the log", "s", {"{{pod}}{{instance}}": quantile(0.99, "weft_metadata_log_sync_seconds", PROCESS)}, "p99."),
        Panel("Not applied yet", "short", {"{{pod}}{{instance}}": f'{gauge("weft_metadata_last_log_index", "max", PROCESS)} - {gauge("weft_metadata_applied_index", "max", PROCESS)}'}),
        Panel("Entries applied", "short", {"{{pod}}{{instance}}": rate("weft_metadata_applied_entries_total", PROCESS)}),
        Panel("Reports taken in", "short", {"reports": rate("weft_metadata_reports_total"), "entries": rate("weft_metadata_report_entries_total"), "refused": rate("weft_metadata_reports_overloaded_total")}),
        Panel("Lookups", "s", quantiles("weft_metadata_lookup_seconds"), may_be_empty="no node had to ask who holds what yet"),
        Panel("Log on disk", "bytes", {"{{pod}}{{instance}}": gauge("weft_metadata_log_disk_bytes", "max", PROCESS)}),
        Panel("Index in memory", "bytes", {"{{pod}}{{instance}}": gauge("weft_metadata_index_bytes", "max", PROCESS)}),
        Panel("Snapshots", "short", {"written": gauge("weft_metadata_snapshots_total"), "taken over": gauge("weft_metadata_snapshots_installed_total"), "sent to watchers": gauge("weft_metadata_watch_snapshots_total")}),
        Panel("Watchers", "short", {"{{pod}}{{instance}}": gauge("weft_metadata_watchers", "sum", PROCESS)}),
        Panel("Watches ended", "short", {"{{reason}}": rate("weft_metadata_watch_cut_offs_total", "reason")}),
        Panel("Nodes that went without a word", "short", {"expired": gauge("weft_metadata_expired_nodes_total")}, kind="stat"),
        Panel("Pinned blocks", "short", {"blocks": gauge("weft_metadata_leased_blocks", "max"), "leases": gauge("weft_metadata_leases", "max"), "tenants": gauge("weft_metadata_tenants", "max")}),
        Panel("Operators' requests", "short", {"{{outcome}}": rate("weft_metadata_operator_requests_total", "outcome")}),
    ]),
}


def render(uid: str, title: str, panels: list[Panel]) -> dict:
    source = {"type": "prometheus", "uid": "${datasource}"}
    drawn, x, y = [], 0, 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > WIDTH:
            x, y = 0, y + HEIGHT
        defaults = {"unit": panel.unit, "min": 0 if panel.unit == "percentunit" else None}
        options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
        if panel.kind == "timeseries":
            stacking = {"mode": "normal" if panel.stacked else "none"}
            defaults["custom"] = {"fillOpacity": 30 if panel.stacked else 5, "showPoints": "never", "stacking": stacking}
        elif panel.kind == "stat":
            options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "textMode": "value_and_name"}
        drawn.append({
            "id": number, "type": panel.kind, "title": panel.title, "description": panel.about, "datasource": source,
            "gridPos": {"x": x, "y": y, "w": panel.width, "h": HEIGHT},
            "fieldConfig": {"defaults": {key: value for key, value in defaults.items() if value is not None}, "overrides": []},
            "options": options,
            "targets": [
                {"refId": chr(ord("A") + index), "datasource": source, "expr": query, "legendFormat": legend}
                for index, (legend, query) in enumerate(panel.queries.items())
            ],
        })
        x += panel.width
    variables = [
        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        {"name": "namespace", "label": "Namespace", "type": "query", "datasource": source, "refresh": 2, "multi": True,
         "includeAll": True, "allValue": ".*", "query": "label_values(weft_transport_connections, namespace)",
         "current": {"text": "All", "value": "$__all"}},
    ]
    return {
        "uid": f"weft-{uid}", "title": title, "tags": ["weft"], "schemaVersion": 39, "editable": False,
        "refresh": "30s", "time": {"from": "now-1h", "to": "now"}, "templating": {"list": variables}, "panels": drawn,
        "links": [{"type": "dashboards", "tags": ["weft"], "title": "weft", "asDropdown": True, "keepTime": True}],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where something would change")
    args = parser.parse_args()
    wanted = {
        FOLDER / f"{uid}.json": json.dumps(render(uid, title, panels), indent=1, ensure_ascii=False) + "\n"
        for uid, (title, panels) in BOARDS.items()
    }
    behind = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    behind += [path for path in FOLDER.glob("*.json") if path not in wanted]
    if args.check and behind:
        sys.exit(f"behind dashboards.py: {', '.join(path.name for path in behind)}; run tests/chart/dashboards.py")
    for path in behind:
        path.write_text(wanted[path]) if path in wanted else path.unlink()


if __name__ == "__main__":
    main()
