"""Real stores for the tests: a folder, moto's S3 server, and Azurite; each a Shelf to put models on."""

import base64
import email.utils
import hashlib
import hmac
import shutil
import subprocess
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import boto3
import obstore
import pytest
from moto.server import ThreadedMotoServer
from obstore.store import AzureStore

from mesh.model_cache.stores import StoreSettings

BUCKET = "models"
ACCOUNT = "devstoreaccount1"
# The emulator's own account: every copy of it has this key.
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_AZURITE = Path(__file__).parents[4] / "build/azurite/node_modules/azurite/dist/src/blob/main.js"


class Shelf(Protocol):
    """One empty store."""

    settings: StoreSettings

    def put(self, path: str, data: bytes) -> None: ...
    def remove(self, path: str) -> None: ...


class DiskShelf:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.settings = StoreSettings(url=f"file://{folder}", part_bytes=64 << 10, concurrency=3)

    def put(self, path: str, data: bytes) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)

    def remove(self, path: str) -> None:
        (self.folder / path).unlink()


class S3Shelf:
    def __init__(self, endpoint: str) -> None:
        self.prefix = uuid.uuid4().hex
        self.client: Any = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
        self.settings = StoreSettings(
            url=f"s3://{BUCKET}/{self.prefix}",
            endpoint=endpoint,
            region="us-east-1",
            part_bytes=64 << 10,
            concurrency=3,
        )

    def put(self, path: str, data: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=f"{self.prefix}/{path}", Body=data)

    def remove(self, path: str) -> None:
        self.client.delete_object(Bucket=BUCKET, Key=f"{self.prefix}/{path}")


class AzureShelf:
    def __init__(self, endpoint: str) -> None:
        self.prefix = uuid.uuid4().hex
        self._store = AzureStore(
            BUCKET,
            endpoint=endpoint,
            account_name=ACCOUNT,
            account_key=ACCOUNT_KEY,
            client_options={"allow_http": True},
        )
        self.settings = StoreSettings(
            url=f"az://{BUCKET}/{self.prefix}", endpoint=endpoint, account=ACCOUNT, part_bytes=64 << 10, concurrency=3
        )

    def put(self, path: str, data: bytes) -> None:
        obstore.put(self._store, f"{self.prefix}/{path}", data)

    def remove(self, path: str) -> None:
        obstore.delete(self._store, f"{self.prefix}/{path}")


@dataclass
class Moto:
    endpoint: str

    def check_credentials(self, on: bool) -> None:
        """Whether it checks them from the next call on; at first it takes all."""
        after = b"0" if on else b"inf"
        headers = {"Content-Type": "text/plain"}
        urllib.request.urlopen(
            urllib.request.Request(f"{self.endpoint}/moto-api/reset-auth", after, headers, method="POST")
        ).close()


@contextmanager
def moto() -> Iterator[Moto]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        client: Any = boto3.client(
            "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
        )
        client.create_bucket(Bucket=BUCKET)
        yield Moto(endpoint)
    finally:
        server.stop()


@contextmanager
def azurite(log: Path) -> Iterator[str]:
    """The endpoint of an Azurite with one container; skips where there is none."""
    node = shutil.which("node")
    if node is None or not _AZURITE.exists():
        pytest.skip("no Azurite here: it needs Node.js (make build/.azurite)")
    command = [node, str(_AZURITE), "--inMemoryPersistence", "--disableTelemetry", "--silent"]
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [*command, "--blobHost", "127.0.0.1", "--blobPort", "0"], stdout=subprocess.PIPE, stderr=errors, text=True
        ) as server,
    ):
        try:
            assert server.stdout is not None
            line = next((line for line in server.stdout if "successfully listens on" in line), None)
            assert line, log.read_text()
            endpoint = f"{line.split()[-1]}/{ACCOUNT}"
            _make_container(endpoint)
            yield endpoint
        finally:
            server.kill()


def _make_container(endpoint: str) -> None:
    """Create Container, signed by hand: obstore makes no containers, and Azure's own library would be one more."""
    date = email.utils.formatdate(usegmt=True)
    headers = {"x-ms-date": date, "x-ms-version": "2021-08-06", "Content-Type": "", "Content-Length": "0"}
    signed = (
        "PUT"
        + "\n" * 12
        + f"x-ms-date:{date}\nx-ms-version:2021-08-06\n/{ACCOUNT}/{ACCOUNT}/{BUCKET}\nrestype:container"
    )
    mac = hmac.new(base64.b64decode(ACCOUNT_KEY), signed.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(mac).decode()}"
    url = f"{endpoint}/{BUCKET}?restype=container"
    urllib.request.urlopen(urllib.request.Request(url, headers=headers, method="PUT")).close()
