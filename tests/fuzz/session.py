"""One target in a process of its own, under atheris, which is guided by the lines that an input reaches.

Started by `tests.fuzz.__main__`, which passes on the name of the target and libFuzzer's own options.
"""

import sys

import atheris

with atheris.instrument_imports(include=["ext_proc", "mesh"]):
    from tests.fuzz.alarm import alarmed
    from tests.fuzz.targets import TARGETS


def main() -> None:
    name, *options = sys.argv[1:]
    target = TARGETS[name]
    with alarmed():
        atheris.Setup([sys.argv[0], *options], target.run)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
