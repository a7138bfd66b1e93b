"""The network of the demo's scene, in the embedded model server: a batch costs what it costs on this machine.

Its weights are some 40 MB, so that on a CPU, too, a row waits for all of them and company is cheap. Its calls are
gathered where they ask for that; the same calls without a word pass one by one, through the same Envoy and server.
"""

import json
import statistics
from pathlib import Path

from integration.bench.routing.h2load import Load, Request, h2load
from integration.scenes.batches import network
from integration.stack.cached_node import CachedNode, CachedSpec
from integration.stack.models import digits

_ROUNDS = 2
_CALLS = 300
_BUSY = (4, 8)
_SHARING = {"tloc": "20000;cross-request=1"}


class Network:
    """Loads of both kinds, in rounds that alternate. `light` is of one call at a time, `busy` of 32."""

    def __init__(self) -> None:
        self.light: dict[bool, list[Load]] = {True: [], False: []}
        self.busy: dict[bool, list[Load]] = {True: [], False: []}

    async def run(self, folder: Path) -> None:
        """Starts a node and a model server, and calls them."""
        shelf, body = folder / "network", folder / "image.json"
        network.write(shelf)
        image = digits()[1].images[0].tolist()
        tensor = {"name": "image", "datatype": "FP32", "shape": [1, len(image)], "data": image}
        body.write_text(json.dumps({"inputs": [tensor]}))
        batching = {"default": {"max_rows": 32}, "check_share": 0}
        spec = CachedSpec("network", batching=batching, log="warning")
        async with CachedNode(spec, shelf, folder / "network-node") as node:

            async def load(gathered: bool, calls: int, in_flight: tuple[int, int]) -> Load:
                headers = {"content-type": "application/json", **(_SHARING if gathered else {})}
                request = Request(f"/v2/models/{network.NAME}/infer", headers, body)
                return await h2load(node.agent.http, request, calls, *in_flight)

            await load(True, _CALLS, _BUSY)  # loads it, and teaches its batch time
            for _ in range(_ROUNDS):
                for gathered in (True, False):
                    self.busy[gathered].append(await load(gathered, _CALLS, _BUSY))
                    self.light[gathered].append(await load(gathered, _CALLS // 10, (1, 1)))

    def rate(self, gathered: bool) -> float:
        """Rows a second, 32 calls at a time."""
        return statistics.median(each.rate for each in self.busy[gathered])

    def p99_ms(self, gathered: bool) -> float:
        """Of a call, 32 at a time."""
        return statistics.median(each.quantile(0.99) for each in self.busy[gathered])

    def light_ms(self, gathered: bool) -> float:
        """The median of a call that is alone."""
        return statistics.median(each.quantile(0.5) for each in self.light[gathered])

    def ratios(self) -> dict[str, float]:
        """As the benchmark tells them; medians of rounds that were run one after the other."""
        pairs = zip(self.busy[True], self.busy[False], strict=True)
        return {
            "network_throughput_vs_unbatched": statistics.median(ours.rate / plain.rate for ours, plain in pairs),
            "network_p99_vs_unbatched": self.p99_ms(True) / self.p99_ms(False),
            "network_light_load_added_ms": self.light_ms(True) - self.light_ms(False),
        }
