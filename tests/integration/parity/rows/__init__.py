"""The tables: data, and the few words that make a row short. What a row is: `tests.integration.parity.row`."""

from tests.integration.parity.row import Row
from tests.integration.parity.rows import (
    grpc_itself,
    http_itself,
    tfs_bodies,
    tfs_codings,
    tfs_grpc,
    tfs_paths,
    tfs_values,
    triton_calls,
    v2_about,
    v2_binary,
    v2_grpc,
    v2_inference,
)

TABLES: dict[str, tuple[Row, ...]] = {
    "TF Serving, bodies": tfs_bodies.ROWS,
    "TF Serving, values": tfs_values.ROWS,
    "TF Serving, paths": tfs_paths.ROWS,
    "TF Serving, codings": tfs_codings.ROWS,
    "TF Serving, gRPC": tfs_grpc.ROWS,
    "V2, inference": v2_inference.ROWS,
    "V2, binary data": v2_binary.ROWS,
    "V2, about": v2_about.ROWS,
    "V2, gRPC": v2_grpc.ROWS,
    "HTTP": http_itself.ROWS,
    "gRPC": grpc_itself.ROWS,
    "as Triton": triton_calls.ROWS,
}
