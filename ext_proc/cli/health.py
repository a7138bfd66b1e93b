"""A probe for containers without curl: `python -m ext_proc.cli.health ADDRESS [PATH]` asks an admin port.

Exit status 0 for a reply of 200, 1 for any other or none. It imports nothing but what it needs, since orchestrators run
it every few seconds.
"""

import http.client
import sys
from contextlib import closing

_SECONDS = 2.0


def healthy(address: str, path: str) -> bool:
    """Whether the admin port at `host:port` answers a GET of that path with 200."""
    try:
        with closing(http.client.HTTPConnection(address, timeout=_SECONDS)) as connection:
            connection.request("GET", path)
            return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False


def main(arguments: list[str]) -> int:
    """The command line: where, and what to ask for (`/readyz` without a word)."""
    if len(arguments) not in (1, 2):
        print("usage: python -m ext_proc.cli.health HOST:PORT [PATH]", file=sys.stderr)
        return 2
    return 0 if healthy(arguments[0], arguments[1] if len(arguments) == 2 else "/readyz") else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
