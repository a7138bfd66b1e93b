"""What a store lists of a model, made into versions."""

from mesh.model_cache.stores.objects import Listing, Object, Odd, contents
from tests.fuzz.reader import Reader
from tests.fuzz.target import Target

NAMES = (
    "1",
    "2",
    "001",
    "0",
    "config.pbtxt",
    "saved_model.pb",
    "variables",
    ".tbms-manifest.json",
    "..",
    "",
    "latest",
    ".x",
)


def run(data: bytes) -> None:
    reader = Reader(data)
    files: list[Object] = []
    odd: list[Odd] = []
    while reader:
        path = "/".join(
            reader.pick((*NAMES, None)) or reader.piece().decode(errors="surrogateescape")
            for _ in range(reader.number(4) + 1)
        )
        if reader.number(5):
            files.append(Object(path, reader.number(), reader.text()))
        else:
            odd.append(Odd(path, "is odd", reader.flag()))
    found = contents("m", Listing(files, odd))
    for folder, package in found.packages.items():
        assert int(folder) == package.version
        assert package.own or package.fault
        for each in package.objects:
            assert not each.path.startswith("/")
            assert ".." not in each.path.split("/")
            assert package.fault or package.in_store(each.path) in {file.path for file in files}
        if not package.fault:
            assert len(package.digest) == 64


TARGET = Target(
    run,
    (b"\1\0\5\1\3\1x" + b"\0\4\1\7\0" + b"\2\1\6\5\1\1\1y", b"\1\2\5\0\1" + b"\1\0\5\1\3\1x"),
    (b"\1\0\5\1\3\1x", b"\0\4\1\7\0", b"\1\1\x0c\2a/\1\1\1"),
)
