from collections.abc import Iterable, Mapping

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mesh.model_cache.stores.objects import MANIFEST, Listing, Object, Odd, Package, contents, version_number

hostile = st.lists(
    st.sampled_from(
        ["", ".", "..", "1", "2", "007", "a", "b", ".a", "\x00", "\n", "\\", "é", "\ud800", MANIFEST, "x" * 256]
    ),
    max_size=5,
).map("/".join)
objects = st.builds(Object, hostile | st.text(max_size=20), st.integers(0, 9), st.sampled_from(["e", "f"]))


odd = st.builds(Odd, hostile, st.just("is a link"), st.booleans())


def packages(files: Iterable[Object], odd: Iterable[Odd] = ()) -> Mapping[str, Package]:
    return contents("m", Listing(list(files), list(odd))).packages


@given(st.lists(objects, max_size=8), st.lists(odd, max_size=2))
@example([Object("1/.tbms-manifest.json/1", 1, "e"), Object("1/a", 1, "e")], [])
@example([Object("1/.tbms-manifest.json/1", 1, "e"), Object(".tbms-manifest.json", 1, "e")], [])
@example([Object("001/a", 1, "e"), Object("1/b", 1, "e"), Object("1", 1, "e")], [])
def test_whatever_is_listed_no_file_leaves_its_folder(listed: list[Object], odd: list[Odd]) -> None:
    found = contents("m", Listing(listed, odd))
    for words in (*found.left_out, *(package.fault for package in found.packages.values() if package.fault)):
        assert words.isascii()
        assert words.isprintable()
    for folder, package in found.packages.items():
        paths = [each.path for each in package.objects]
        assert package.own or package.fault
        assert package.version == int(folder)
        assert len(set(paths)) == len(paths)
        for path in paths:
            assert not path.startswith("/")
            assert not {"", ".", "..", MANIFEST} & set(path.split("/"))
            assert not any(other.startswith(path + "/") for other in paths)
            assert package.in_store(path) in {each.path for each in listed}
        assert all(each.path.startswith(f"{package.version}/") for each in package.own)
        assert not any(each.path.split("/")[0].isdecimal() for each in package.shared)


safe = st.from_regex(r"[a-z]{1,3}", fullmatch=True)


@given(st.dictionaries(safe, st.tuples(st.integers(0, 99), safe), min_size=1), st.randoms())
def test_the_digest_knows_files_not_their_order(files: dict[str, tuple[int, str]], random: object) -> None:
    listed = [Object(f"1/{path}", size, etag) for path, (size, etag) in files.items()]
    package = packages(listed)["1"]
    assert packages(reversed(listed))["1"].digest == package.digest
    assert package.size_bytes == sum(size for size, _ in files.values())
    for index, each in enumerate(listed):
        for other in (
            Object(each.path + "!", each.size, each.etag),
            Object(each.path, each.size + 1, each.etag),
            Object(each.path, each.size, each.etag + "!"),
        ):
            assert packages([*listed[:index], other, *listed[index + 1 :]])["1"].digest != package.digest


def test_files_beside_the_versions_belong_to_each_of_them() -> None:
    listed = [Object(path, 1, "e") for path in ("1/a", "2/b/c", "config.pbtxt", "configs/x", ".DS_Store", ".git/HEAD")]
    found = packages(listed)
    assert {version: [each.path for each in package.objects] for version, package in found.items()} == {
        "1": ["1/a", "config.pbtxt", "configs/x"],
        "2": ["2/b/c", "config.pbtxt", "configs/x"],
    }


def test_without_a_version_there_is_none() -> None:
    assert packages([Object("config.pbtxt", 1, "e"), Object("3", 0, "e")]) == {}


def test_a_manifest_that_was_uploaded_is_left_out() -> None:
    found = packages([Object("1/a", 1, "e"), Object(f"1/{MANIFEST}", 1, "e"), Object(MANIFEST, 1, "e")])
    assert [each.path for each in found["1"].objects] == ["1/a"]


@pytest.mark.parametrize("path", ["1/../../a", "1/./a", "1//a", "1/a\x00", "1/\u2028", "1/a/", "1/" + "d/" * 40 + "f"])
def test_a_name_that_could_do_harm_is_a_fault_of_its_version_that_shows_it_safely(path: str) -> None:
    found = packages([Object(path, 1, "e"), Object("1/b", 1, "e"), Object("2/b", 1, "e")])
    assert ascii(f"m/{path}") in found["1"].fault
    assert not found["2"].fault


@pytest.mark.parametrize(
    "path", ["../1/a", "/1/a", "a\x00", "\ud800", "a//b", "a/../1", "d/" * 40 + "f", "4", "x" * 256]
)
def test_a_name_that_could_do_harm_beside_the_versions_is_left_out(path: str) -> None:
    found = contents("m", Listing([Object(path, 1, "e"), Object("1/b", 1, "e")]))
    assert found.packages == packages([Object("1/b", 1, "e")])
    assert ascii(f"m/{path}"[:200]) in found.left_out[0]


@pytest.mark.parametrize("path", ["configs/\x00", "config.pbtxt/a", "tbms.json"])
def test_what_servers_read_beside_the_versions_is_there_or_no_version_is(path: str) -> None:
    twice = Object(path, 1, "e")
    listed = [twice, twice, Object("config.pbtxt", 1, "e"), Object("1/b", 1, "e"), Object("2/b", 1, "e")]
    assert all(package.fault for package in packages(listed).values())


@pytest.mark.parametrize(
    ("folder", "version"),
    [
        *[("0", 0), ("00", 0), ("1", 1), ("002", 2), ("00000123", 123), ("9223372036854775807", 2**63 - 1)],
        *[("0" * 100 + "7", 7), ("0" * 255, 0), ("0" * 256, None), ("9223372036854775808", None)],
        *[("", None), ("-1", None), ("+1", None), (" 1", None), ("1 ", None), ("1_0", None), ("1.0", None)],
        *[("v1", None), ("1a", None), ("0x1", None), ("\u0661", None), ("\u00b2", None)],
    ],
)
def test_a_version_is_a_number_whatever_zeros_its_folder_has(folder: str, version: int | None) -> None:
    assert version_number(folder) == version


def test_a_folder_with_zeros_is_its_number_on_the_disk_and_itself_in_the_store() -> None:
    found = packages([Object("00000123/a", 1, "e"), Object("00000123/assets/123/b", 2, "f"), Object("labels", 3, "g")])
    package = found["00000123"]
    assert (package.version, package.fault) == (123, "")
    assert [each.path for each in package.objects] == ["123/a", "123/assets/123/b", "labels"]
    assert [package.in_store(each.path) for each in package.objects] == [
        "00000123/a",
        "00000123/assets/123/b",
        "labels",
    ]


def test_two_folders_with_one_number_are_two() -> None:
    found = packages([Object("1/a", 1, "e"), Object("001/b", 1, "e")])
    assert {folder: [each.path for each in package.own] for folder, package in found.items()} == {
        "1": ["1/a"],
        "001": ["1/b"],
    }
