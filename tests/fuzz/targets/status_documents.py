"""What a command reads of an admin port."""

import json

from ext_proc.admin.documents import read_done, read_status
from ext_proc.admin.explanation import read_explanation
from ext_proc.errors import TbmsError
from tests.fuzz.target import Target
from tests.fuzz.targets.json_text import WORDS


def run(data: bytes) -> None:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return
    for read in (read_status, read_done, read_explanation):
        try:
            read(document)
        except TbmsError as error:
            str(error).encode(errors="surrogateescape")


TARGET = Target(
    run,
    (
        b'{"role": "edge", "nodes": [{"id": 1}], "models": {}}',
        b'{"role": "node", "models": [{}]}',
        b'{"model": "m", "version": 1}',
    ),
    (b'"role": "edge"', b'"role": "node"', b'"nodes": [', b'"models": ', b'"capacity": {', *WORDS),
    longest=1024,
)
