"""TF Serving's REST API: what its paths name.

Source: tensorflow_serving/model_servers/http_rest_api_util.cc. Words of the path are matched whatever their case,
on the path as sent; names and labels are percent-decoded afterwards. The HTTP method is left to the node.
"""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote, unquote

from ext_proc.errors import CallError, Reason
from ext_proc.wire.batch import BatchCodec
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.names import check_label, check_name, check_version, quoted
from ext_proc.wire.output_arrays import Array, Outputs
from ext_proc.wire.tfs import rest_outputs
from ext_proc.wire.tfs.rest_batch import TfsRestBatches

VERBS = {"predict": Verb.PREDICT, "classify": Verb.CLASSIFY, "regress": Verb.REGRESS}
_PLAIN = "!$&'()*+,;=@"  # what a segment of a path may hold as it is, but for the ':' before the verb


class _Path(NamedTuple):
    name: str
    version: str | None
    label: str | None
    verb: Verb
    suffix: str  # as sent: `:predict`, `/metadata` or nothing


def _read(parts: Sequence[str]) -> _Path | None:
    if len(parts) < 2 or parts[0].lower() != "models":
        return None
    last, colon, word = parts[-1].rpartition(":")
    verb = VERBS.get(word.lower()) if colon else Verb.STATUS
    if verb is None:
        return None  # another server's verb, as KServe's `:explain`
    name, *rest = [*parts[1:-1], last if colon else word]
    suffix = colon + word if colon else ""
    if not colon and len(rest) in (1, 3) and rest[-1].lower() == "metadata":
        verb, suffix = Verb.METADATA, "/" + rest.pop()
    version = label = None
    if len(rest) == 2 and rest[0].lower() == "versions":
        version = check_version(rest[1])
    elif len(rest) == 2 and rest[0].lower() == "labels":
        label = check_label(_decoded(rest[1], "version label"))
    elif rest:
        raise CallError(Reason.INVALID, f"Malformed request: {quoted('/'.join(rest))} after the model name.")
    return _Path(check_name(_decoded(name, "model name")), version, label, verb, suffix)


def _decoded(text: str, part: str) -> str:
    if ":" in text:
        raise CallError(Reason.INVALID, f"Malformed request: the {part} {quoted(text)} holds a ':'.")
    return unquote(text, errors="surrogateescape") if "%" in text else text


class TfsRest:
    """The codec of TF Serving's REST API, `/v1/...`."""

    batches: BatchCodec = TfsRestBatches()
    roots: tuple[str, ...] = ("v1", "V1")

    def error_body(self, message: str) -> bytes:
        """See `Codec`. TF Serving indents its JSON by four spaces."""
        return json.dumps({"error": message}, ensure_ascii=False, indent=4).encode(errors="backslashreplace")

    def name_path(self, parts: Sequence[str]) -> Call | None:
        """See `RestCodec`."""
        path = _read(parts)
        if path is None:
            return None
        return Call(InferenceProtocol.TFS_REST, path.verb, path.name, path.version, path.label)

    def rename_path(self, parts: Sequence[str], model: str, version: str | None, label: str | None) -> list[str]:
        """See `RestCodec`."""
        path = _read(parts)
        if path is None:
            raise ValueError("not a path of TF Serving's REST API")
        out = [parts[0], quote(model, safe=_PLAIN)]
        if version is not None:
            out += ["versions", version]
        elif label is not None:
            out += ["labels", quote(label, safe=_PLAIN)]
        out[-1] += path.suffix
        return out

    def decode_outputs(self, headers: Mapping[str, str], body: bytes) -> dict[str, Array]:
        """See `Codec`."""
        return rest_outputs.decode(body)

    def encode_outputs(
        self, headers: Mapping[str, str], body: bytes, outputs: Outputs
    ) -> tuple[bytes, tuple[tuple[str, str], ...]]:
        """See `Codec`."""
        return rest_outputs.encode(body, outputs), ()
