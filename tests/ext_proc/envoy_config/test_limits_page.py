"""docs/limits-of-envoy.md against the rendered bootstraps."""

from pathlib import Path

import pytest

from ext_proc.envoy_config.parts.replies import REFUSED
from tests.ext_proc.envoy_config.documents import VERSIONS, edge_document, manager, node_document

PAGE = Path(__file__).resolve().parents[3] / "docs" / "limits-of-envoy.md"


def rows() -> dict[str, list[str]]:
    """First cell -> the rest of its row, of all tables."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return {row[0]: row[1:] for row in cells}


@pytest.mark.parametrize("version", VERSIONS)
def test_numbers_are_those_of_the_bootstraps(version: str) -> None:
    page = rows()
    for config in (
        manager(edge_document(version=version)),
        manager(edge_document(version=version), "egress"),
        manager(node_document(version), "models"),
    ):
        rendered = {
            "headers of one call": str(config["common_http_protocol_options"]["max_headers_count"]),
            "all headers of one call, the path among them": f"{config['max_request_headers_kb']} KiB",
            "time for the headers to arrive": config["request_headers_timeout"],
            "time without a byte on a call": config["stream_idle_timeout"],
            "calls at once on one HTTP/2 connection": str(config["http2_protocol_options"]["max_concurrent_streams"]),
        }
        assert {name: page[name][0] for name in rendered} == rendered


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_taken_and_refused_is_as_the_page_says(version: str) -> None:
    host = rows()["HTTP/1.0, with or without a Host"][0]
    for config in (manager(edge_document(version=version)), manager(node_document(version), "models")):
        http1 = config["http_protocol_options"]
        assert http1["accept_http_10"] is True
        assert f"`{http1['default_host_for_http_10']}`" in host
        assert http1["ignore_http_11_upgrade"] == [{"safe_regex": {"regex": ".*"}}]
        # Two readings of where a call ends, and trailers, are never asked for.
        assert not {"allow_chunked_length", "enable_trailers", "allow_custom_methods"} & set(http1)
        assert "upgrade_configs" not in config


def test_reasons_without_a_table_row_are_none_of_our_listeners() -> None:
    text = PAGE.read_text(encoding="utf-8")
    elsewhere = {
        "absolute_path_rejected",  # `OPTIONS *`, and
        "route_not_found",  # CONNECT: "named"
        "low_version",  # HTTP/1.0 and
        "upgrade_failed",  # upgrades, in a mesh's listener
        "missing_path_rejected",  # the codec is earlier
        "request_payload_too_large",  # `envoy.limits.body_buffer_bytes` on 1.36
    }
    assert {reason for reason in REFUSED if f"`{reason}`" not in text} == elsewhere
