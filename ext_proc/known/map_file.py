"""The map of known calls as the content of its file: what Envoy is told, byte for byte.

A call is known where all of this holds: it is a POST, it says nothing beyond the name of its model (`BEYOND_THE_NAME`),
and its path is one of the map's (REST), or its method one of `KNOWN_METHODS` and its name one of the map's: at an edge
what it says in `x-tbms-named`, at a node in `x-tbms-model`. Then Envoy writes down its nodes, as the server of an edge
would. Every other call is the server's.

Each predicate costs Envoy a tenth of a microsecond of every call that it is asked about, and more where the header is
there. So gRPC calls come first, by a header that no other call has; and where that is `x-tbms-named` nothing is asked
again that was asked before the header was written (`ext_proc.envoy_config.parts.grpc_names`), not even whether it is
there: a call without it is in no case of the look-up, and then the next predicate is asked.
"""

from collections.abc import Iterable, Sequence

from ext_proc.contract import (
    BEYOND_THE_NAME,
    GRPC_TIMEOUT,
    KNOWN_FILTER,
    KNOWN_KEY,
    KNOWN_METHODS,
    KNOWN_NAMESPACE,
    MODEL_KEY,
    NAMED_HEADER,
    ONE_IN,
    ONE_IN_KEY,
    TELL_KEY,
)
from ext_proc.known import matchers
from ext_proc.known.forms import FORMS, Form, spelling
from mesh.bounded import Memo
from mesh.known_map import PARTS, KnownModel, Shares

_SHARED_BY = "x-request-id"
"""Envoy makes one for each call that has none. A client that sends its own can have its own calls at one node only."""

Cases = tuple[bytes, bytes]
"""The cases of one model, REST and gRPC."""

Marks = tuple[tuple[str, str], ...]
"""What a call's metadata say beside its nodes: keys and values."""


class MapWriter:
    """Writes maps. Remembers its cases for `models` models at least, since most stay as they are.

    `named` is the header that has the name of a gRPC call's model.
    """

    def __init__(self, models: int, named: str = NAMED_HEADER) -> None:
        self._named = named
        self._cases: Memo[tuple[KnownModel, Cases]] = Memo(models)
        self._actions: dict[tuple[tuple[str, ...], Marks], bytes] = {}

    def prepare(self, models: Iterable[KnownModel]) -> None:
        """Writes the cases of these models ahead, so that `write` has less to do in one go."""
        for model in models:
            self._of(model)

    def write(self, models: Sequence[KnownModel], version: str) -> bytes:
        """The content of the file for these models. `version` is a word of ours, which Envoy tells again."""
        cases = [self._of(model) for model in models]
        rest, grpc = [case for case, _ in cases if case], [case for _, case in cases if case]
        self._actions.clear()  # of nodes that may have gone
        return matchers.discovery_response(KNOWN_FILTER, version, _matcher(rest, grpc, self._named))

    def _of(self, model: KnownModel) -> Cases:
        known = self._cases.get(model.name)
        if known is None or known[0] is not model:
            known = model, self._written(model)
            self._cases.put(model.name, known)
        return known[1]

    def _written(self, model: KnownModel) -> Cases:
        cases = {"rest": b"", "grpc": b""}
        for form in FORMS:
            shares = model.shares.get(form.kind, ())
            if model.forms & form and shares:
                said = spelling(form, model.name)
                marks: Marks = ((ONE_IN_KEY, str(ONE_IN)),) if model.sampled else ()
                if form is Form.GRPC and self._named == NAMED_HEADER:
                    marks += ((MODEL_KEY, said),)
                    if model.tells:
                        marks += ((TELL_KEY, said),)
                cases[form.kind] += matchers.exact_case(said, self._on_match(shares, marks))
        return cases["rest"], cases["grpc"]

    def _on_match(self, shares: Shares, marks: Marks) -> bytes:
        (*some, (_, last)) = shares
        otherwise = self._action(last, marks)
        if not some:
            return otherwise
        cases, below = [], 0
        for parts, nodes in some:
            below += parts
            cases.append((matchers.hashes_below(_SHARED_BY, below, PARTS), self._action(nodes, marks)))
        return matchers.to_matcher(matchers.first_match(cases, otherwise))

    def _action(self, nodes: tuple[str, ...], marks: Marks) -> bytes:
        action = self._actions.get((nodes, marks))
        if action is None:
            action = matchers.to_metadata(KNOWN_NAMESPACE, ((KNOWN_KEY, ",".join(nodes)), *marks))
            self._actions[nodes, marks] = action
        return action


def _matcher(rest: list[bytes], grpc: list[bytes], named: str) -> bytes:
    cases = []
    if grpc:
        predicate = (
            _READ if named == NAMED_HEADER else matchers.all_of([matchers.present(named), *_GRPC, *_only_the_name()])
        )
        cases.append((predicate, matchers.to_matcher(matchers.exact_match(named, grpc))))
    if rest:
        cases.append((matchers.all_of(_only_the_name()), matchers.to_matcher(matchers.exact_match(":path", rest))))
    return matchers.first_match(cases) if cases else b""


def _only_the_name() -> list[bytes]:
    said = [*[matchers.present(name) for name in BEYOND_THE_NAME], _wrong_timeout()]
    return [matchers.equals(":method", "POST"), matchers.none_of(matchers.any_of(said))]


def _wrong_timeout() -> bytes:
    """A gRPC deadline is the caller's own; but one that is none is refused, and the server has the words for it."""
    wrong = matchers.none_of(matchers.matches("grpc-timeout", GRPC_TIMEOUT))
    return matchers.all_of([matchers.present("grpc-timeout"), wrong])


def _is_grpc() -> bytes:
    """As `ext_proc.wire.content_type` has it."""
    plain = "application/grpc"
    tails = [matchers.starts("content-type", plain + tail) for tail in "+;"]
    return matchers.any_of([matchers.equals("content-type", plain), *tails])


_GRPC = [matchers.any_of([matchers.equals(":path", path) for path in KNOWN_METHODS]), _is_grpc()]
_READ = matchers.none_of(_wrong_timeout())
