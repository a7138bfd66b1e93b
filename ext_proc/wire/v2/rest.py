"""The V2 (KServe, Triton) REST API: what its paths name.

Source: the KServe open inference protocol and its model and repository extensions, and Triton's src/http_server.cc.
The HTTP method is left to the node.
"""

import json
from collections.abc import Mapping, Sequence
from urllib.parse import quote, unquote

from ext_proc.errors import CallError, Reason
from ext_proc.wire.batch import BatchCodec
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.names import check_name, check_version
from ext_proc.wire.output_arrays import Array, Outputs
from ext_proc.wire.v2 import rest_outputs
from ext_proc.wire.v2.refusals import REPOSITORY, check_no_label
from ext_proc.wire.v2.rest_batch import V2RestBatches

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


def _decoded(text: str) -> str:
    return unquote(text, errors="surrogateescape") if "%" in text else text


class V2Rest:
    """The codec of the V2 REST API, `/v2/...`."""

    batches: BatchCodec = V2RestBatches()
    roots: tuple[str, ...] = ("v2",)

    def error_body(self, message: str) -> bytes:
        """See `Codec`. Triton writes its JSON without a space."""
        return json.dumps({"error": message}, ensure_ascii=False, separators=(",", ":")).encode(
            errors="backslashreplace"
        )

    def name_path(self, parts: Sequence[str]) -> Call | None:
        """See `RestCodec`."""
        words = [_decoded(part) for part in parts]
        if words[0].startswith("repository"):
            raise CallError(Reason.DENIED, REPOSITORY)
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

    def rename_path(self, parts: Sequence[str], model: str, version: str | None, label: str | None) -> list[str]:
        """See `RestCodec`. UNSUPPORTED for a label."""
        check_no_label(model, label)
        suffix = parts[4:] if len(parts) > 3 and _decoded(parts[2]) == "versions" else parts[2:]
        chosen = [] if version is None else ["versions", version]
        return [parts[0], quote(model, safe=_PLAIN), *chosen, *suffix]

    def decode_outputs(self, headers: Mapping[str, str], body: bytes) -> dict[str, Array]:
        """See `Codec`."""
        return rest_outputs.decode(body, headers.get(rest_outputs.HEADER))

    def encode_outputs(
        self, headers: Mapping[str, str], body: bytes, outputs: Outputs
    ) -> tuple[bytes, tuple[tuple[str, str], ...]]:
        """See `Codec`."""
        body, size = rest_outputs.encode(body, headers.get(rest_outputs.HEADER), outputs)
        return body, () if size is None else ((rest_outputs.HEADER, size),)
