"""An Envoy that answers by itself: the upstream of benchmarks, where a model server's own time would only blur."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import yaml

from integration.stack.envoys import envoy_binary
from integration.stack.ports import free_ports
from integration.stack.process import Process, answers

REST_BODY = '{"predictions": [0]}\n'
# Larger than any body that is sent to it. It reads whole bodies: an answer before the end of the body would make
# the sender stop in the middle, and the benchmark measure something else.
LARGEST_BODY = 128 * 1024 * 1024
_TYPES = "type.googleapis.com/envoy.extensions.filters"


def render_answerer(listen: str, admin: str, models: str | None = None, also: Sequence[str] = ()) -> str:
    """Its bootstrap. `listen`, `admin` and what it listens at besides (`also`) are ip:port. With `models` V2 calls over
    gRPC go to the model server there.

    REST gets 200 and a small JSON body. gRPC gets a trailers-only OK: enough for a load generator that counts
    statuses, but a real client would miss the message.
    """
    routes = [_grpc(), _rest()] if models is None else [_models(), _grpc(), _rest()]
    manager = {
        "@type": f"{_TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "answerer",
        "codec_type": "AUTO",
        "generate_request_id": False,
        "http2_protocol_options": {"max_concurrent_streams": 10_000},
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.buffer",
                "typed_config": {"@type": f"{_TYPES}.http.buffer.v3.Buffer", "max_request_bytes": LARGEST_BODY},
            },
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPES}.http.router.v3.Router", "suppress_envoy_headers": True},
            },
        ],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    further = [{"address": _address(each)} for each in also]
    listener = {
        "name": "answerer", "address": _address(listen), "additional_addresses": further, "filter_chains": [chain],
    }  # fmt: skip
    resources: dict[str, object] = {"listeners": [listener]}
    if models is not None:
        resources["clusters"] = [_cluster(models)]
    document = {"admin": {"address": _address(admin)}, "static_resources": resources}
    return yaml.safe_dump(document, sort_keys=False)


@asynccontextmanager
async def answerer(folder: Path, models: str | None = None, also: Sequence[str] = ()) -> AsyncIterator[str]:
    """Runs one (one worker, the newest Envoy) with its files in `folder`; gives its `ip:port`, for REST and gRPC.

    `models` and `also` as in `render_answerer`: so a node can load and unload, and no call waits for a model server.
    """
    listen, admin = (f"127.0.0.1:{port}" for port in free_ports(2))
    config = folder / "answerer.yaml"
    config.write_text(render_answerer(listen, admin, models, also))
    command: list[str | Path] = [envoy_binary(), "--config-path", config]
    command += ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    process = Process("answering Envoy", command, folder / "answerer.log")
    try:
        await process.start(answers(f"http://{admin}/ready"))
        yield listen
    finally:
        await process.stop()


def _address(text: str) -> dict[str, object]:
    host, _, port = text.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


def _models() -> dict[str, object]:
    return {"match": {"prefix": "/inference.GRPCInferenceService/", "grpc": {}}, "route": {"cluster": "models"}}


def _cluster(models: str) -> dict[str, object]:
    options = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    endpoint = {"endpoint": {"address": _address(models)}}
    return {
        "name": "models",
        "load_assignment": {"cluster_name": "models", "endpoints": [{"lb_endpoints": [endpoint]}]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
    }


def _rest() -> dict[str, object]:
    return {
        "match": {"prefix": "/"},
        "direct_response": {"status": 200, "body": {"inline_string": REST_BODY}},
        "response_headers_to_add": [_header("content-type", "application/json")],
    }


def _grpc() -> dict[str, object]:
    return {
        "match": {"prefix": "/", "grpc": {}},
        "direct_response": {"status": 200},
        "response_headers_to_add": [_header("grpc-status", "0")],
    }


def _header(key: str, value: str) -> dict[str, object]:
    return {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
