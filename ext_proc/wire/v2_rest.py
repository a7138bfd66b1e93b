"""The V2 (KServe, Triton) REST API: what its paths name.

Source: the KServe open inference protocol and its model and repository extensions, and Triton's src/http_server.cc.
The HTTP method is left to the node.
"""

from collections.abc import Sequence
from urllib.parse import quote, unquote

from ext_proc.errors import CallError, Reason
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.names import check_name, check_version

VERBS = {
    "": Verb.METADATA,
    "/infer": Verb.INFER,
    "/ready": Verb.READY,
    "/config": Verb.CONFIG,
    "/stats": Verb.STATISTICS,
    # Triton's generate extension: routed to the node that holds the model, never batched.
    "/generate": Verb.STREAM_INFER,
    "/generate_stream": Verb.STREAM_INFER,
}
_PLAIN = "!$&'()*+,;=:@"  # what a segment of a path may hold as it is; Triton does not decode


def name_path(parts: Sequence[str]) -> Call | None:
    """The call that `/v2/...` names; `parts` are its segments as sent, the first one after `/v2/`.

    None if it is none of ours. Raises CallError: DENIED for the repository, INVALID for a bad name or version.
    """
    words = [_decoded(part) for part in parts]
    if words[0].startswith("repository"):
        raise CallError(
            Reason.DENIED, "The model cache owns what each server holds; repository control is not open to clients."
        )
    if len(words) < 2 or words[0] != "models" or words[1:] == ["stats"]:
        return None  # `/v2/models/stats` asks for the statistics of all models
    name, rest = words[1], words[2:]
    version = None
    if len(rest) > 1 and rest[0] == "versions":
        version, rest = rest[1], rest[2:]
    verb = VERBS.get("".join("/" + word for word in rest))
    if verb is None:
        return None
    if version is not None:
        check_version(version)
    return Call(InferenceProtocol.V2_REST, verb, check_name(name), version)


def swap(parts: Sequence[str], model: str, version: str | None) -> list[str]:
    """The segments of a path that name_path names, with another model."""
    suffix = parts[4:] if len(parts) > 3 and _decoded(parts[2]) == "versions" else parts[2:]
    chosen = [] if version is None else ["versions", version]
    return [parts[0], quote(model, safe=_PLAIN), *chosen, *suffix]


def _decoded(text: str) -> str:
    return unquote(text, errors="surrogateescape") if "%" in text else text
