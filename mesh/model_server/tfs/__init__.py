"""TF Serving's API, over gRPC and REST.

What it says is decided once, whichever of the two asks: in `lookup`, `signatures`, `descriptions` and `reload`.
`grpc_api` and `rest_api` read requests and print answers.
"""
