"""A server in a process that has few file descriptors: `python -m tests.integration.http2.out_of_descriptors LOOP`.

It opens connections to itself until there are no descriptors left for both of their ends, sees that the next one waits
and then that it is served once the others are gone. Prints what it saw as JSON; the log goes to stderr.
"""

import asyncio
import json
import logging
import os
import resource
import socket
import sys

import uvloop

from ext_proc.http2.aio.server import Http2Server
from ext_proc.http2.frames import PREFACE, settings_frame

MOST = 64
GREETING = PREFACE + settings_frame({})


async def connected(port: int) -> socket.socket:
    """A connection on which the client has said its part. Raises OSError where there is no descriptor for it."""
    loop, client = asyncio.get_running_loop(), socket.socket()
    client.setblocking(False)
    await loop.sock_connect(client, ("127.0.0.1", port))
    await loop.sock_sendall(client, GREETING)
    return client


async def greeted(client: socket.socket) -> bool:
    """Whether the server says something; False if it closes the connection."""
    return bool(await asyncio.get_running_loop().sock_recv(client, 1))


async def case() -> dict[str, object]:
    server = Http2Server("127.0.0.1:0", {})
    await server.start()
    port = int(server.address.rpartition(":")[2])
    spare = os.open(os.devnull, os.O_RDONLY)  # for the client's end of the last one, whoever takes the last but one
    served: list[socket.socket] = []
    async with asyncio.timeout(60):
        while True:
            try:
                client = await connected(port)
            except OSError:
                os.close(spare)
                client = await connected(port)
            answer = asyncio.create_task(greeted(client))
            while not answer.done() and not server.accept_failures:
                await asyncio.sleep(0.01)
            if server.accept_failures:
                break
            assert answer.result()
            served.append(client)
        for connection in served:
            connection.close()
        waited = await answer
        later = await connected(port)
        after = await greeted(later)
    client.close()
    later.close()
    await server.stop(0.0)
    return {"served": len(served), "waited": waited, "after": after, "failures": server.accept_failures}


def main() -> None:
    """Runs the case on the loop that the argument names."""
    logging.basicConfig(format="%(name)s: %(message)s")
    resource.setrlimit(resource.RLIMIT_NOFILE, (MOST, MOST))
    loop = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}[sys.argv[1]]
    with asyncio.Runner(loop_factory=loop) as runner:
        print(json.dumps(runner.run(case())))


if __name__ == "__main__":
    main()
