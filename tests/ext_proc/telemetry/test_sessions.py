"""Sessions in the exposition for Prometheus."""

from ext_proc.telemetry.metrics import exposition
from ext_proc.telemetry.sessions import SessionReport
from mesh.routing.sessions import SessionCounts


def test_sessions_are_told_live_opened_and_by_why_they_are_no_more() -> None:
    counts = SessionCounts(opened=9, ended=1, idle=2, lost=3, pushed_out=1)
    text = exposition([SessionReport(lambda: (2, counts))]).decode()
    told = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if line[0] != "#"}
    assert told == {
        "tbms_sessions": 2,
        "tbms_sessions_opened_total": 9,
        'tbms_sessions_closed_total{why="ended"}': 1,
        'tbms_sessions_closed_total{why="idle"}': 2,
        'tbms_sessions_closed_total{why="lost"}': 3,
        'tbms_sessions_closed_total{why="pushed_out"}': 1,
    }
