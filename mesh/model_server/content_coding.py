"""Content codings of the REST APIs: bodies of requests unpacked, those of answers packed as the client asks."""

import gzip
import re
import zlib

from mesh.errors import MeshError
from mesh.model_server.errors import invalid

_WEIGHT = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")


class TooLarge(MeshError):
    """What a body unpacks to is more than is taken: 413, whichever API it is for."""


def unpacked(name: str, body: bytes, max_bytes: int) -> bytes:
    """The body without its coding, gzip or deflate, whichever of the two `name` says.

    Raises ServingError, and TooLarge for more than `max_bytes`, which are never in memory.
    """
    inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # either header
    try:
        plain = inflate.decompress(body, max_bytes)
    except zlib.error as error:
        raise invalid(f"the request's body is not {name} data as its Content-Encoding says") from error
    if inflate.unconsumed_tail:
        raise TooLarge(f"the request's body is larger than {max_bytes} bytes")
    if not inflate.eof:
        raise invalid(f"the request's body ends in the middle of its {name} data")
    return plain


def packed(coding: str, body: bytes) -> bytes:
    """The body in a coding that `preferred` gave."""
    return gzip.compress(body, 6, mtime=0) if coding == "gzip" else zlib.compress(body)


def preferred(accept: str) -> str | None:
    """gzip or deflate, where the field's value asks for one of them more than for none; RFC 9110, section 12.5.3.

    A weight that is no number from 0 to 1 counts as 0: what is not understood is not sent.
    """
    weights: dict[str, float] = {}
    for member in accept.lower().split(","):
        coding, _, parameters = member.partition(";")
        name, _, value = parameters.partition("=")
        weight = _WEIGHT.fullmatch(value.strip()) if parameters else None
        weights[coding.strip()] = float(weight[0]) if weight and name.strip() == "q" else 0.0 if parameters else 1.0
    others = weights.get("*", 0.0)
    asked = {coding: weights.get(coding, weights.get(f"x-{coding}", others)) for coding in ("gzip", "deflate")}
    best = max(asked, key=asked.__getitem__)
    return best if asked[best] > 0 and asked[best] >= weights.get("identity", 0.0) else None
