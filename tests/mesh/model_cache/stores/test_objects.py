import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.model_cache.stores.objects import MANIFEST, Object, packages
from mesh.model_cache.stores.store import StoreCorrupt

hostile = st.lists(
    st.sampled_from(
        ["", ".", "..", "1", "2", "007", "a", "b", ".a", "\x00", "\n", "\\", "é", "\ud800", MANIFEST, "x" * 256]
    ),
    max_size=5,
).map("/".join)
objects = st.builds(Object, hostile | st.text(max_size=20), st.integers(0, 9), st.sampled_from(["e", "f"]))


@given(st.lists(objects, max_size=8))
def test_whatever_is_listed_no_file_leaves_its_folder(listed: list[Object]) -> None:
    try:
        found = packages("m", listed)
    except StoreCorrupt as error:
        words = str(error)
        assert words.isascii()
        assert words.isprintable()
        return
    for version, package in found.items():
        paths = [each.path for each in package.objects]
        assert package.own
        assert len(set(paths)) == len(paths)
        for path in paths:
            assert not path.startswith("/")
            assert not {"", ".", "..", MANIFEST} & set(path.split("/"))
            assert not any(other.startswith(path + "/") for other in paths)
        assert all(each.path.startswith(f"{version}/") for each in package.own)
        assert not any(each.path.split("/")[0].isdecimal() for each in package.shared)


safe = st.from_regex(r"[a-z]{1,3}", fullmatch=True)


@given(st.dictionaries(safe, st.tuples(st.integers(0, 99), safe), min_size=1), st.randoms())
def test_the_digest_knows_files_not_their_order(files: dict[str, tuple[int, str]], random: object) -> None:
    listed = [Object(f"1/{path}", size, etag) for path, (size, etag) in files.items()]
    package = packages("m", listed)[1]
    assert packages("m", reversed(listed))[1].digest == package.digest
    assert package.size_bytes == sum(size for size, _ in files.values())
    for index, each in enumerate(listed):
        for other in (
            Object(each.path + "!", each.size, each.etag),
            Object(each.path, each.size + 1, each.etag),
            Object(each.path, each.size, each.etag + "!"),
        ):
            assert packages("m", [*listed[:index], other, *listed[index + 1 :]])[1].digest != package.digest


def test_files_beside_the_versions_belong_to_each_of_them() -> None:
    listed = [Object(path, 1, "e") for path in ("1/a", "2/b/c", "config.pbtxt", "configs/x", ".DS_Store", ".git/HEAD")]
    found = packages("m", listed)
    assert {version: [each.path for each in package.objects] for version, package in found.items()} == {
        1: ["1/a", "config.pbtxt", "configs/x"],
        2: ["2/b/c", "config.pbtxt", "configs/x"],
    }


def test_without_a_version_there_is_none() -> None:
    assert packages("m", [Object("config.pbtxt", 1, "e"), Object("3", 0, "e")]) == {}


def test_a_manifest_that_was_uploaded_is_left_out() -> None:
    found = packages("m", [Object("1/a", 1, "e"), Object(f"1/{MANIFEST}", 1, "e"), Object(MANIFEST, 1, "e")])
    assert [each.path for each in found[1].objects] == ["1/a"]


@pytest.mark.parametrize("path", ["../1/a", "1/../../a", "1/./a", "/1/a", "1//a", "1/a\x00", "1/\u2028", "1/a/"])
def test_a_name_that_could_do_harm_is_an_error_that_shows_it_safely(path: str) -> None:
    with pytest.raises(StoreCorrupt) as refused:
        packages("m", [Object(path, 1, "e")])
    assert ascii(f"m/{path}") in str(refused.value)
