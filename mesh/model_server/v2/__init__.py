"""Triton's V2 protocol (KServe), over gRPC and REST.

What it says is decided once, whichever of the two asks: in `lookup`, `inference`, `descriptions` and `repository`.
`grpc_api` and `rest_api` read requests and print answers. The texts are those of Triton 2.51, compared with a real one
in tests/integration/model_server.
"""
