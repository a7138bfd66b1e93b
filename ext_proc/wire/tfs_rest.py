"""TF Serving's REST API: what its paths name.

Source: tensorflow_serving/model_servers/http_rest_api_util.cc. Words of the path are matched whatever their case,
on the path as sent; names and labels are percent-decoded afterwards. The HTTP method is left to the node.
"""

from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote, unquote

from ext_proc.errors import CallError, Reason
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.names import check_label, check_name, check_version, quoted

VERBS = {"predict": Verb.PREDICT, "classify": Verb.CLASSIFY, "regress": Verb.REGRESS}
_PLAIN = "!$&'()*+,;=@"  # what a segment of a path may hold as it is, but for the ':' before the verb


class _Path(NamedTuple):
    name: str
    version: str | None
    label: str | None
    verb: Verb
    suffix: str  # as sent: `:predict`, `/metadata` or nothing


def name_path(parts: Sequence[str]) -> Call | None:
    """The call that `/v1/...` names; `parts` are its segments as sent, the first one after `/v1/`.

    None if it is none of ours. Raises CallError(INVALID) if it is one that TF Serving would call malformed.
    """
    path = _read(parts)
    return None if path is None else Call(InferenceProtocol.TFS_REST, path.verb, path.name, path.version, path.label)


def swap(parts: Sequence[str], model: str, version: str | None, label: str | None) -> list[str]:
    """The segments of a path that name_path names, with another model."""
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
