"""Sessions at an edge: what makes a call one of a session, and on which node the session sits.

A session is named by the header `tbms-session`, or is the sequence that a request to a stateful model names. The first
call settles its node and, where the model's name is an alias or a split, the model; later calls find both.
"""

from dataclasses import dataclass
from hashlib import blake2b

from ext_proc.broker.plan import Candidate
from ext_proc.broker.session_header import read_session
from ext_proc.errors import CallError, Reason
from ext_proc.processing.decision import Seat
from ext_proc.wire.call import Call
from ext_proc.wire.sequences import SequencePart
from mesh.routing.placement import NoNode
from mesh.routing.router import Router
from mesh.routing.sessions import SessionCounts, Sitting
from mesh.routing.sessions import Sessions as Sittings
from mesh.session_claim import SessionClaim, write_claim

_KEY_BYTES = 16
_SWEPT = 10_000  # a few milliseconds


@dataclass(frozen=True, slots=True)
class Session:
    """The session of one call. `key` is a digest of its name and of the model that the client asks for.

    `begins`: the call says that it is the first one; `ends`: that it is the last.
    """

    key: bytes
    begins: bool = False
    ends: bool = False


def session_of_header(call: Call, text: str) -> Session:
    """That of `tbms-session`: a token, a string or an integer, with the parameter `end` on the last call.

    Raises CallError(INVALID).
    """
    name, ends = read_session(text)
    return Session(_key(call, "header", name), ends=ends)


def session_of_sequence(call: Call, part: SequencePart) -> Session:
    """That of a sequence of the model server's."""
    return Session(_key(call, type(part.id).__name__, str(part.id)), part.start, part.end)


def _key(call: Call, kind: str, name: str) -> bytes:
    # repr: no two different tuples are written alike.
    text = repr((call.model, call.version, call.label, kind, name))
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_KEY_BYTES, person=b"tbms session").digest()


class Sessions:
    """The sessions of one edge. Pure: time comes in as `now`, in seconds of one monotonic clock."""

    def __init__(self, router: Router) -> None:
        settings = router.settings
        self._router = router
        self._idle_seconds = settings.session_idle_seconds
        self._sittings: Sittings[Candidate] = Sittings(settings.max_sessions, settings.session_idle_seconds)

    def __len__(self) -> int:
        return len(self._sittings)

    @property
    def counts(self) -> SessionCounts:
        """What became of sessions so far."""
        return self._sittings.counts

    def expire(self, now: float) -> None:
        """Forgets sessions that are idle for too long; of very many, the next time will find the others."""
        self._sittings.expire(now, _SWEPT)

    def seat(self, call: Call, session: Session, primary: Candidate, now: float) -> tuple[Seat, Candidate]:
        """Where the call goes, and as what: `primary`, unless the session's first call was made to mean another.

        Raises CallError (UNAVAILABLE) if no node that can serve it is alive.
        """
        sitting = self._sittings.find(session.key, now)
        if sitting is not None:
            if not self._router.is_alive(sitting.node_id):
                self._sittings.lose(session.key)
                sitting = None
            elif not self._keeps(session, sitting):
                self._sittings.end(session.key)
                sitting = None
        if sitting is None:
            node_id, target = self._settled(call, session, primary)
            self._sittings.open(session.key, node_id, target, now)
        else:
            node_id, target = sitting.node_id, sitting.target
        if session.ends:
            self._sittings.end(session.key)
        return Seat(node_id, self._claim(session, node_id)), target

    def would_seat(self, call: Call, session: Session, primary: Candidate, now: float) -> tuple[Seat, Candidate]:
        """What `seat` would say. Changes nothing, and nothing is remembered for it. Raises CallError as `seat`."""
        sitting = self._sittings.look(session.key, now)
        if sitting is not None and self._router.is_alive(sitting.node_id) and self._keeps(session, sitting):
            node_id, target = sitting.node_id, sitting.target
        else:
            node_id, target = self._settled(call, session, primary, remember=False)
        return Seat(node_id, self._claim(session, node_id)), target

    def _keeps(self, session: Session, sitting: Sitting[Candidate]) -> bool:
        """Whether the session stays on the living node that it had."""
        return not session.begins or self._router.welcomes(sitting.node_id, sitting.target.model)

    def _settled(
        self, call: Call, session: Session, primary: Candidate, *, remember: bool = True
    ) -> tuple[str, Candidate]:
        try:
            node_id = self._router.settle(primary.model, session.key, call.protocol.kind, remember=remember)
        except NoNode as error:
            raise CallError(Reason.UNAVAILABLE, str(error)) from None
        return node_id, Candidate(primary.model, primary.version, primary.label)

    def _claim(self, session: Session, node_id: str) -> str:
        node = self._router.node(node_id)
        if node is None or node.residency is None:
            return ""
        return write_claim(SessionClaim(session.key.hex(), self._idle_seconds, session.ends))
