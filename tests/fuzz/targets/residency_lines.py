"""Lines of a node's residency stream, and what an edge takes down of them."""

from mesh.residency.cache_map import CacheMap
from mesh.residency.line import Lines, ResidencyError, read_line, write_line
from mesh.residency.load_waits import LoadWaits
from tests.fuzz.reader import Reader
from tests.fuzz.target import Target
from tests.fuzz.targets.json_text import WORDS


def run(data: bytes) -> None:
    lines, cache_map, waits = Lines(), CacheMap(), LoadWaits()
    try:
        for chunk in Reader(data).chunks():
            for heard in lines.push(chunk):
                if heard.full:
                    cache_map.snapshot("a", heard.models)
                for model, state in heard.models.items():
                    cache_map.change("a", model, state)
                waits.told("a", heard.models, heard.load_seconds, heard.default_load_seconds, 1.0)
                again = read_line(write_line(heard))
                assert (again.models, again.full, again.leaving) == (heard.models, heard.full, heard.leaving)
    except ResidencyError:
        return


LINE = b'{"v":1,"full":true,"models":{"resnet":"available"},"leaving":false,"free":{"models":3,"memory_bytes":null}}\n'
LOAD = b'{"v":1,"models":{"bert":"loading"},"load":{"models":{"bert":4.2},"default":3.1}}\n'
TARGET = Target(
    run,
    (b"\0" + LINE + LOAD, b"\7" + LINE + b"{}\n"),
    (b'"v":1,', b'"full":true', b'"models":{', b'"load":{', b'"default":', b'"free":', b"\n", LINE, *WORDS),
)
