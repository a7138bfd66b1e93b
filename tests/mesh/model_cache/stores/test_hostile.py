"""Stores that lie, that hang, that refuse us; and what the errors must not say."""

import asyncio
import logging
import traceback
from pathlib import Path

import pytest
from aiohttp import web

from mesh.model_cache.stores import StoreSettings, open_store
from mesh.model_cache.stores.store import (
    StoreCorrupt,
    StoreCredentials,
    StoreError,
    StoreMissing,
    StoreTransient,
)
from tests.mesh.model_cache.stores.conftest import SECRET
from tests.mesh.model_cache.stores.scripted_s3 import fixed_reply, scripted_gcs, scripted_s3, silent_server
from tests.mesh.model_cache.stores.shelves import ACCOUNT, Moto, S3Shelf
from tests.mesh.model_cache.stores.test_fetching import ignore

PATIENCE = {"connect_seconds": 0.5, "silence_seconds": 0.2, "request_seconds": 0.5, "retries": 0}


def adjusted(settings: StoreSettings, **changes: object) -> StoreSettings:
    return StoreSettings(**{**settings.model_dump(), **changes})


def cloud(endpoint: str) -> StoreSettings:
    return StoreSettings(url="s3://models/p", endpoint=endpoint, region="us-east-1", **PATIENCE)


def everything_of(error: BaseException) -> str:
    """What a careless log could show of it, its causes and contexts included."""
    return "".join(traceback.format_exception(error)) + repr(error) + repr(error.args)


@pytest.mark.parametrize(
    "key",
    [
        "p/m/1/../../../../etc/passwd",
        "p/m/1/..",
        "p/m/1//etc/passwd",
        "p/m/1/a\tb",
        "p/m/1/a\nb",
        "p/m/1/" + "n" * 256,
        "p/m/1/" + "d/" * 40 + "f",
        "p/m/1/" + ("n" * 200 + "/") * 6 + "f",
        "p/m/1/back\\slash",
        "elsewhere/1/a",
        "p/mm/1/a",
        "/etc/passwd",
    ],
)
async def test_hostile_names_are_refused(key: str, cache: Path) -> None:
    async with scripted_s3() as store:
        store.bodies["p/m/1/a"] = (b"x", '"1"')
        (good,) = await open_store(store.settings).versions("m")
        store.extra.append((key, 5))
        try:
            (bad,) = await open_store(store.settings).versions("m")
            assert bad.fault
        except StoreCorrupt:  # obstore gives no list, or the list is of another model
            assert ".." in key or "//" in key or not key.isprintable() or not key.startswith("p/m/")
        with pytest.raises(StoreCorrupt):
            await open_store(store.settings).fetch(good, cache / "m" / "1", ignore)
    assert not cache.exists()


@pytest.mark.parametrize(
    ("keys", "words"), [(("p/m/1/a", "p/m/1/a"), "twice"), (("p/m/1/a", "p/m/1/a/b"), "a file and a folder")]
)
async def test_contradictions_are_faults(keys: tuple[str, ...], words: str) -> None:
    async with scripted_s3() as store:
        store.extra += [(key, 5) for key in (*keys, "p/m/2/a")]
        faults = {each.version: each.fault for each in await open_store(store.settings).versions("m")}
    assert words in faults[1]
    assert not faults[2]


@pytest.mark.parametrize("key", ["1//x", "1/a//b", "1/./x", "1/../x", "1/variables/../../2/x", "tmp//x"])
async def test_a_key_that_is_no_path_costs_its_folder_alone(s3: S3Shelf, cache: Path, key: str) -> None:
    for path in ("1/a", "2/a", "config.pbtxt", "tmp/kept?"):
        s3.put(f"m/{path}", b"x")
    s3.put(f"m/{key}", b"x")
    faults = {each.version: each.fault for each in await open_store(s3.settings).versions("m")}
    assert faults[2] == ""
    assert bool(faults[1]) == key.startswith("1/")
    assert "'m/1' holds a key that cannot be a file" in faults[1] or not faults[1]


@pytest.mark.parametrize("key", ["/x", "./x", "../x"])
async def test_a_key_that_is_no_path_in_the_models_own_folder_costs_the_model(s3: S3Shelf, key: str) -> None:
    s3.put("m/1/a", b"x")
    s3.put(f"m/{key}", b"x")
    with pytest.raises(StoreCorrupt, match="lists a name that cannot be a file"):
        await open_store(s3.settings).versions("m")


async def test_objects_that_stand_for_folders_are_no_files() -> None:
    """The S3 console and Hadoop make them."""
    async with scripted_s3() as store:
        store.extra += [("p/m/", 0), ("p/m/1/", 0), ("p/m/1/variables/", 0), ("p/m/1/variables/data", 5), ("p/m/2/", 0)]
        (remote,) = await open_store(store.settings).versions("m")
    assert (remote.version, remote.size_bytes) == (1, 5)


async def test_a_list_without_end_is_cut_off() -> None:
    async with scripted_s3() as store:
        store.endless = True
        store.extra += [(f"p/m/1/{index}-", 1) for index in range(100)]
        with pytest.raises(StoreCorrupt, match=r"more than 1000 files"):
            await open_store(adjusted(store.settings, max_files=1000)).versions("m")
        assert store.pages < 25


@pytest.mark.parametrize("body", ["<html>", "", "<ListBucketResult>", "{}"])
async def test_a_reply_that_makes_no_sense_is_an_error(body: str) -> None:
    async with fixed_reply(200, body) as endpoint:
        with pytest.raises(StoreTransient, match=r"makes no sense"):
            await open_store(cloud(endpoint)).versions("m")


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "ExpiredToken", StoreCredentials),
        (400, "InvalidArgument", StoreError),
        (401, "InvalidAuthenticationInfo", StoreCredentials),
        (403, "SignatureDoesNotMatch", StoreCredentials),
        (404, "NoSuchBucket", StoreMissing),
        (429, "TooManyRequests", StoreTransient),
        (500, "InternalError", StoreTransient),
        (503, "SlowDown", StoreTransient),
    ],
)
async def test_what_the_store_says_becomes_a_kind_of_error(status: int, code: str, kind: type[StoreError]) -> None:
    async with fixed_reply(status, f"<Error><Code>{code}</Code><Secret>{SECRET}</Secret></Error>") as endpoint:
        with pytest.raises(StoreError) as failed:
            await open_store(cloud(endpoint)).versions("m")
    assert type(failed.value) is kind
    assert f"({status} {code})" in str(failed.value)
    assert SECRET not in everything_of(failed.value)


async def test_a_store_that_is_not_there(unused_tcp_port: int) -> None:
    with pytest.raises(StoreTransient, match=r"connection is refused"):
        await open_store(cloud(f"http://127.0.0.1:{unused_tcp_port}")).versions("m")


async def test_a_store_that_hangs_gives_an_error_in_time() -> None:
    async with silent_server() as endpoint:
        with pytest.raises(StoreTransient, match=r"gives no answer in time"):
            await open_store(cloud(endpoint)).versions("m")


async def test_the_limit_of_a_request_holds_over_all_retries(cache: Path) -> None:
    """The second try began later than the request, so its own limit would end later."""
    async with scripted_s3() as store:
        store.bodies["p/m/1/a"] = (b"x", '"1"')
        tries = 0

        async def fail_then_hang(_: str, __: int) -> web.StreamResponse | None:
            nonlocal tries
            tries += 1
            if tries > 1:
                await asyncio.Event().wait()
            return web.Response(status=503)

        store.on_read = fail_then_hang
        settings = adjusted(store.settings, silence_seconds=60, request_seconds=0.4)
        (remote,) = await open_store(settings).versions("m")
        with pytest.raises(StoreTransient, match=r"gave no answer within 0.4 s"):
            await open_store(settings).fetch(remote, cache / "m" / "1", ignore)
        assert tries == 2


async def test_a_store_that_hangs_in_the_middle_of_a_file_leaves_what_has_arrived(cache: Path) -> None:
    body = bytes(300_000)
    async with scripted_s3() as store:
        store.bodies["p/m/1/a"] = (body, '"1"')

        async def hang(_: str, offset: int) -> web.StreamResponse | None:
            if offset >= 128 << 10:
                await asyncio.Event().wait()
            return None

        store.on_read = hang
        settings = adjusted(store.settings, **PATIENCE)
        (remote,) = await open_store(settings).versions("m")
        with pytest.raises(StoreTransient, match=r"no answer"):
            await open_store(settings).fetch(remote, cache / "m" / "1", ignore)
        store.on_read = None
        store.reads.clear()
        await open_store(settings).fetch(remote, cache / "m" / "1", ignore)
        assert (cache / "m/1/a").read_bytes() == body
        assert min(first for _, first, _ in store.reads) == 128 << 10


async def test_a_broken_connection_is_tried_again(cache: Path) -> None:
    async with scripted_s3() as store:
        store.bodies["p/m/1/a"] = (b"x" * 1000, '"1"')
        failures = iter(range(2))

        async def fail(_: str, __: int) -> web.StreamResponse | None:
            return None if next(failures, None) is None else web.Response(status=503)

        store.on_read = fail
        (remote,) = await open_store(store.settings).versions("m")
        await open_store(store.settings).fetch(remote, cache / "m" / "1", ignore)
        assert (cache / "m/1/a").read_bytes() == b"x" * 1000


async def test_a_file_shorter_than_promised_is_corrupt_and_leaves_nothing(cache: Path) -> None:
    async with scripted_s3() as store:
        store.bodies["p/m/1/a"] = (b"x" * 1000, '"1"')

        async def cut(_: str, __: int) -> web.StreamResponse | None:
            store.bodies["p/m/1/a"] = (b"x" * 900, '"1"')
            return None

        store.on_read = cut
        (remote,) = await open_store(store.settings).versions("m")
        with pytest.raises(StoreCorrupt, match=r"sent 900 bytes of 'm/1/a' where 1000 were asked for"):
            await open_store(store.settings).fetch(remote, cache / "m" / "1", ignore)
    assert not (cache / "m").exists()


async def test_no_more_reads_at_once_than_configured(cache: Path) -> None:
    async with scripted_s3() as store:
        for index in range(6):
            store.bodies[f"p/m/1/{index}"] = (bytes(200_000), f'"{index}"')
        now = most = 0

        async def count(_: str, __: int) -> web.StreamResponse | None:
            nonlocal now, most
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1
            return None

        store.on_read = count
        settings = adjusted(store.settings, concurrency=3)
        (remote,) = await open_store(settings).versions("m")
        await open_store(settings).fetch(remote, cache / "m" / "1", ignore)
        assert most <= 3
        assert len(store.reads) == 6 * 4


async def test_s3_that_refuses_our_credentials(
    moto_server: Moto, s3: S3Shelf, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    s3.put("m/1/a", b"x")
    (remote,) = await open_store(s3.settings).versions("m")
    moto_server.check_credentials(True)
    try:
        for asking in (open_store(s3.settings).versions("m"), open_store(s3.settings).fetch(remote, cache, ignore)):
            with (
                caplog.at_level(logging.DEBUG),
                pytest.raises(StoreCredentials, match="403 InvalidAccessKeyId") as failed,
            ):
                await asking
            for secret in (SECRET, "AKIDEXAMPLE"):
                assert secret not in everything_of(failed.value)
                # The server of the test logs in its own thread.
                ours = [record.getMessage() for record in caplog.records if record.threadName == "MainThread"]
                assert secret not in "".join(ours)
    finally:
        moto_server.check_credentials(False)


@pytest.mark.azurite
async def test_azure_that_refuses_our_key(azurite_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = "d3Jvbmcta2V5LXRoYXQtaXMtYmFzZTY0"
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", wrong)
    settings = StoreSettings(url="az://models", endpoint=azurite_endpoint, account=ACCOUNT)
    with pytest.raises(StoreCredentials, match=r"403 AuthorizationFailure") as failed:
        await open_store(settings).versions("m")
    assert wrong not in everything_of(failed.value)


@pytest.mark.azurite
async def test_azure_that_refuses_our_signed_url(azurite_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_KEY")
    monkeypatch.setenv("AZURE_STORAGE_SAS_KEY", f"sv=2021-08-06&sp=rl&sig={SECRET}")
    settings = StoreSettings(url="az://models", endpoint=azurite_endpoint, account=ACCOUNT)
    with pytest.raises(StoreCredentials, match=r"403") as failed:
        await open_store(settings).versions("m")
    assert SECRET not in everything_of(failed.value)


async def test_a_key_that_is_no_key_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", f"{SECRET} is not base64!")
    with pytest.raises(StoreError) as failed:
        await open_store(StoreSettings(url="az://models", account=ACCOUNT)).versions("m")
    assert SECRET not in everything_of(failed.value)


async def test_the_endpoint_of_the_settings_wins_over_the_environment(
    s3: S3Shelf, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    s3.put("m/1/a", b"x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused_tcp_port}")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{unused_tcp_port}")
    assert len(await open_store(s3.settings).versions("m")) == 1


async def test_a_bucket_that_does_not_exist_is_missing(moto_server: Moto) -> None:
    settings = StoreSettings(url="s3://no-such-bucket", endpoint=moto_server.endpoint, region="us-east-1")
    with pytest.raises(StoreMissing, match=r"s3://no-such-bucket does not exist \(404 NoSuchBucket\)"):
        await open_store(settings).versions("m")


async def test_a_folder_that_does_not_exist_is_missing(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing, match="is not a folder"):
        await open_store(StoreSettings(url=f"file://{tmp_path}/nope")).versions("m")


async def test_google_cloud_storage_lists_and_is_read(cache: Path) -> None:
    """Against a scripted one: see scripted_s3."""
    body = bytes(range(256)) * 1000
    async with scripted_gcs() as store:
        store.bodies = {"p/m/00000123/a b%#ä": (body, '"1"'), "p/m/config.pbtxt": (b"c", '"2"')}
        store.extra += [("p/m/", 0), ("p/m/00000123/", 0)]
        (remote,) = await open_store(store.settings).versions("m")
        assert (remote.version, remote.size_bytes) == (123, len(body) + 1)
        await open_store(store.settings).fetch(remote, cache / "m" / "123", ignore)
        assert (cache / "m/123/a b%#ä").read_bytes() == body
        assert len(store.reads) == 7, "each of the two looks into config.pbtxt once"
        assert set(store.authorization) == {""}
        store.bodies["p/m/config.pbtxt"] = (b"d", '"3"')
        with pytest.raises(StoreTransient, match="has changed since it was listed"):
            await open_store(store.settings).fetch(remote, cache / "m" / "123", ignore)


async def test_google_cloud_storage_is_told_our_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_BEARER_TOKEN", SECRET)
    async with scripted_gcs() as store:
        store.extra.append(("p/m/1/a", 5))
        await open_store(adjusted(store.settings, anonymous=False)).versions("m")
        assert store.authorization == [f"Bearer {SECRET}"]


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "AuthenticationRequired", StoreCredentials),
        (403, "AccessDenied", StoreCredentials),
        (404, "NoSuchBucket", StoreMissing),
        (429, "SlowDown", StoreTransient),
        (503, "Unavailable", StoreTransient),
    ],
)
async def test_what_google_says_becomes_a_kind_of_error(
    status: int, code: str, kind: type[StoreError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_BEARER_TOKEN", SECRET)
    async with fixed_reply(status, f"<Error><Code>{code}</Code><Details>{SECRET}</Details></Error>") as endpoint:
        with pytest.raises(StoreError) as failed:
            await open_store(StoreSettings(url="gs://models/p", endpoint=endpoint, **PATIENCE)).versions("m")
    assert type(failed.value) is kind
    assert f"({status} {code})" in str(failed.value)
    assert SECRET not in everything_of(failed.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GOOGLE_SERVICE_ACCOUNT_KEY", f"{{{SECRET}"),
        (
            "GOOGLE_SERVICE_ACCOUNT_KEY",
            f'{{"client_email": "{SECRET}", "private_key": "{SECRET}", "private_key_id": "{SECRET}"}}',
        ),
        ("GOOGLE_SERVICE_ACCOUNT", f"/nowhere/{SECRET}.json"),
        ("GOOGLE_APPLICATION_CREDENTIALS", f"/nowhere/{SECRET}.json"),
    ],
)
def test_a_service_account_that_cannot_be_read_is_not_repeated(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(StoreCredentials, match="those that the environment names cannot be read") as failed:
        open_store(StoreSettings(url="gs://models", **PATIENCE))
    assert SECRET not in everything_of(failed.value)
