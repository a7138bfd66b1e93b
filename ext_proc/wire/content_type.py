"""What counts as a gRPC call, by its content-type."""


def is_grpc(content_type: str) -> bool:
    """Whether the body is gRPC's own framing.

    grpc/doc/PROTOCOL-HTTP2.md: `application/grpc`, with `+` and the message's format or `;` and parameters after it.
    `application/grpc-web` is another framing, which Envoy's grpc_web filter turns into this one.
    """
    return content_type == "application/grpc" or content_type.startswith(("application/grpc+", "application/grpc;"))
