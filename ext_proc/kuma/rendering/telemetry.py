"""What is seen of model serving in the mesh: metrics, traces and access logs, sent to one OpenTelemetry collector."""

from typing import Any

from ext_proc.contract import MODEL_HEADER, NODES_KEY, NODES_NAMESPACE
from ext_proc.kuma.rendering.commented_yaml import Because
from ext_proc.kuma.rendering.description import Collector, Labels, MeshDescription
from ext_proc.kuma.rendering.document import Document, of_dataplanes, of_service

BACKEND = "tbms-collector"
ADMIN_PORT = 9904
"""Where the server's own metrics are scraped: an edge's default."""


def telemetry(mesh: MeshDescription, collector: Collector) -> dict[str, list[Document]]:
    """The documents by kind; the backend first, where it is one."""
    found: dict[str, list[Document]] = {}
    if mesh.kuma.has_telemetry_backends:
        spec = {"endpoint": {"address": collector.host, "port": collector.port}, "protocol": "grpc"}
        about = "The collector that metrics, traces and logs of model serving go to."
        found["mesh-opentelemetry-backend"] = [
            Document("MeshOpenTelemetryBackend", BACKEND, about, spec, labels={"tbms": "collector"})
        ]
    roles = (("edge", mesh.edge_labels), ("node", mesh.node_labels))
    found["mesh-metric"] = [_metrics(mesh, collector, role, pairs) for role, pairs in roles]
    found["mesh-trace"] = [_traces(mesh, collector, role, pairs) for role, pairs in roles]
    found["mesh-access-log"] = [_logs(mesh, collector)]
    return found


def _metrics(mesh: MeshDescription, collector: Collector, role: str, pairs: Labels) -> Document:
    default = {
        "applications": Because(
            [{"name": "tbms", "path": "/metrics", "port": ADMIN_PORT, "address": "127.0.0.1"}],
            "The tbms server's own metrics, on its admin port (server.admin).",
        ),
        "sidecar": {
            "profiles": Because(
                {
                    "appendProfiles": [{"name": "Basic"}],
                    "include": [
                        {"type": "Contains", "match": "ext_proc"},
                        {"type": "Contains", "match": "tbms"},
                        {"type": "Contains", "match": "override_host"},
                    ],
                },
                "The dashboards' usual set, and what Envoy counts of us.",
            ),
            "includeUnused": Because(False, "What nothing has counted is no news."),
        },
        "backends": [{"type": "OpenTelemetry", "openTelemetry": _to(mesh, collector) | {"refreshInterval": "30s"}}],
    }
    return Document(
        "MeshMetric",
        f"tbms-{role}",
        f"Metrics of {role}s: their Envoys', and the tbms servers' beside them.",
        {"targetRef": of_dataplanes(pairs), "default": default},
    )


def _traces(mesh: MeshDescription, collector: Collector, role: str, pairs: Labels) -> Document:
    # Whether a call has a traceparent makes no difference to it, but at 100: then a caller's word holds.
    few = Because(
        1, "Of all others one in a hundred, callers that trace included: a span costs more than a known call."
    )
    all_told = Because(100, "Edges have decided and say so; with less than 100 their traces would break off here.")
    default = {
        "backends": [{"type": "OpenTelemetry", "openTelemetry": _to(mesh, collector)}],
        "sampling": {
            "overall": Because(100, "Of what the two below ask for."),
            "client": Because(100, "Callers that ask for a trace by x-client-trace-id get one."),
            "random": few if role == "edge" else all_told,
        },
        "tags": Because(
            [{"name": "tbms.model", "header": {"name": MODEL_HEADER, "default": "in the path"}}],
            "Which model was called, where a header says it; of REST calls the path does.",
        ),
    }
    return Document(
        "MeshTrace",
        f"tbms-{role}",
        f"Spans of calls at {role}s.",
        {"targetRef": of_dataplanes(pairs), "default": default},
    )


def _logs(mesh: MeshDescription, collector: Collector) -> Document:
    attributes = [
        {"key": "tbms.model", "value": f"%REQ({MODEL_HEADER})%"},
        {"key": "tbms.nodes", "value": f"%DYNAMIC_METADATA({NODES_NAMESPACE}:{NODES_KEY})%"},
        {"key": "tbms.node", "value": "%UPSTREAM_HOST%"},
        {"key": "url.path", "value": "%REQ(:PATH)%"},
        {"key": "http.response.status_code", "value": "%RESPONSE_CODE%"},
        {"key": "rpc.grpc.status_code", "value": "%GRPC_STATUS%"},
        {"key": "duration_ms", "value": "%DURATION%"},
        {"key": "details", "value": "%RESPONSE_CODE_DETAILS%"},
        {"key": "request_id", "value": "%REQ(X-REQUEST-ID)%"},
    ]
    backend = {
        "type": "OpenTelemetry",
        "openTelemetry": _to(mesh, collector)
        | {
            "attributes": Because(
                attributes, "Which model, which nodes were named and which answered, how and how fast."
            )
        },
    }
    return Document(
        "MeshAccessLog",
        "tbms-edge",
        "One record for each call to model servers, at the caller's sidecar. For people: the server has a log of its "
        "own (MeshProxyPatch tbms-edge). Leave this file out where a record for each call is too much.",
        {
            "targetRef": of_dataplanes(mesh.edge_labels),
            "to": [{"targetRef": of_service(mesh), "default": {"backends": [backend]}}],
        },
    )


def _to(mesh: MeshDescription, collector: Collector) -> dict[str, Any]:
    if mesh.kuma.has_telemetry_backends:
        return {"backendRef": {"kind": "MeshOpenTelemetryBackend", "labels": {"tbms": "collector"}}}
    return {"endpoint": f"{collector.host}:{collector.port}"}
