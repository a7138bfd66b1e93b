from pathlib import Path

import pytest

from ext_proc.config import ServerSettings, TlsSettings
from ext_proc.errors import TbmsError
from ext_proc.process.grpc_server import GrpcServer


async def test_tls_files_that_cannot_be_read_are_an_error_of_the_listener(tmp_path: Path) -> None:
    none = tmp_path / "none.pem"
    settings = ServerSettings(listen="127.0.0.1:0", tls=TlsSettings(certificate=none, key=none, client_ca=none))
    with pytest.raises(TbmsError, match=r"^server\.listen: cannot listen on 127\.0\.0\.1:0: .*No such file"):
        await GrpcServer(settings, {}).start()


async def test_a_socket_whose_file_is_anothers_or_gone_is_not_held(tmp_path: Path) -> None:
    path = tmp_path / "s"
    first, second = (GrpcServer(ServerSettings(listen=f"unix:{path}"), {}) for _ in range(2))
    assert not first.holds_address
    await first.start()
    assert first.holds_address
    await second.start()
    assert (first.holds_address, second.holds_address) == (False, True)
    await second.stop(0)
    assert path.exists(), "whoever comes next takes it over"
    assert not first.holds_address
    path.unlink()
    assert not first.holds_address
    await first.stop(0)


async def test_the_address_has_the_port_that_the_system_chose() -> None:
    server = GrpcServer(ServerSettings(listen="127.0.0.1:0"), {})
    assert server.address == "127.0.0.1:0"
    await server.start()
    assert server.address.rpartition(":")[0] == "127.0.0.1"
    assert int(server.address.rpartition(":")[2]) > 0
    await server.stop(0)
