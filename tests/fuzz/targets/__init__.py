"""The table of targets, by name. A new one is a file here and a line in it."""

from collections.abc import Mapping

from tests.fuzz.target import Target
from tests.fuzz.targets import (
    addresses,
    batches,
    configuration,
    explained_calls,
    header_block,
    http2_client,
    http2_server,
    json_text,
    machine,
    naming,
    outputs,
    protobuf_scan,
    race_headers,
    replies,
    residency_lines,
    status_documents,
    store_listing,
    tensors,
    tfs_rest_request,
    v2_rest_request,
)

TARGETS: Mapping[str, Target] = {
    "addresses": addresses.TARGET,
    "batches": batches.TARGET,
    "configuration": configuration.TARGET,
    "explained-calls": explained_calls.TARGET,
    "header-block": header_block.TARGET,
    "http2-client": http2_client.TARGET,
    "http2-server": http2_server.TARGET,
    "json-text": json_text.TARGET,
    "machine": machine.TARGET,
    "naming": naming.TARGET,
    "outputs": outputs.TARGET,
    "protobuf-scan": protobuf_scan.TARGET,
    "race-headers": race_headers.TARGET,
    "replies": replies.TARGET,
    "residency-lines": residency_lines.TARGET,
    "status-documents": status_documents.TARGET,
    "store-listing": store_listing.TARGET,
    "tensors": tensors.TARGET,
    "tfs-rest-request": tfs_rest_request.TARGET,
    "v2-rest-request": v2_rest_request.TARGET,
}
