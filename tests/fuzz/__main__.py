"""`python -m tests.fuzz --minutes 10`: every target for its share of the time, and what was found.

Most of a share goes to finding errors that no room documents, the rest to inputs whose time grows faster than their
size. What is found lies in build/fuzz/finds, and belongs into tests/fuzz/corpus/TARGET once it is mended. What inputs
reach is kept in build/fuzz/corpus: the next run begins there.
"""

import argparse
import gc
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from random import Random

from tests.fuzz.alarm import alarmed
from tests.fuzz.growth import Repeated, guess, is_too_steep
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build/fuzz"
_GROWTH_SHARE = 0.25
_SLOW_SECONDS = 10  # of one input
_MEMORY_MIB = 2048
_SAMPLES = 500  # of the corpus, that inputs are guessed from


@dataclass(slots=True)
class Outcome:
    """What one target came to."""

    name: str
    runs: int = 0
    grown: int = 0
    corpus: int = 0
    finds: tuple[Path, ...] = ()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="for all targets together")
    parser.add_argument("--target", action="append", choices=sorted(TARGETS), help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="of the guesses; 0 is another one each time")
    options = parser.parse_args()
    names = options.target or sorted(TARGETS)
    seconds = options.minutes * 60 / len(names)
    seed = options.seed or time.time_ns() & 0xFFFF
    outcomes = []
    for name in names:
        outcome = find_errors(name, seconds * (1 - _GROWTH_SHARE))
        outcome = find_growth(outcome, seconds * _GROWTH_SHARE, Random(seed))
        outcomes.append(outcome)
        print(
            f"{name:20} {outcome.runs:>10} runs {outcome.grown:>6} grown {outcome.corpus:>6} in the corpus", flush=True
        )
        for find in outcome.finds:
            print(f"  found: {find.relative_to(ROOT)}", flush=True)
    total = sum(outcome.runs for outcome in outcomes)
    finds = [find for outcome in outcomes for find in outcome.finds]
    print(f"{total} runs, {len(finds)} found")
    return 1 if finds else 0


def find_errors(name: str, seconds: float) -> Outcome:
    """Runs libFuzzer over the target, in a process of its own: an input may take it down."""
    target = TARGETS[name]
    corpus, seeds, finds = (BUILD / part / name for part in ("corpus", "seeds", "finds"))
    for folder in (corpus, seeds, finds):
        folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate((*target.seeds, *target.words)):
        (seeds / f"{number}").write_bytes(data)
    words = seeds.with_suffix(".words")
    escaped = ("".join(f"\\x{byte:02x}" for byte in word) for word in target.words)
    words.write_text("".join(f'"{word}"\n' for word in escaped))
    before = set(finds.iterdir())
    log = BUILD / f"{name}.log"
    command = [
        sys.executable, "-m", "tests.fuzz.session", name,
        f"-max_total_time={max(1, round(seconds))}", f"-max_len={target.longest}", f"-dict={words}",
        f"-timeout={_SLOW_SECONDS}", f"-rss_limit_mb={_MEMORY_MIB}", f"-artifact_prefix={finds}/",
        "-print_final_stats=1", str(corpus), str(seeds), *folders(name),
    ]  # fmt: skip
    with log.open("wb") as output:
        subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, env=_environment(), cwd=ROOT, check=False)
    told = log.read_text(errors="replace")
    if "stat::number_of_executed_units" not in told:
        raise SystemExit(f"{name} did not run; {log.relative_to(ROOT)} ends with:\n{told[-2000:]}")
    runs = int(re.findall(r"stat::number_of_executed_units:\s*(\d+)", told)[-1])
    new = sorted(set(finds.iterdir()) - before)
    return Outcome(name, runs, corpus=len(list(corpus.iterdir())), finds=tuple(new))


def folders(name: str) -> list[str]:
    """Where inputs of the target are kept in the repository, if there are any."""
    kept = Path(__file__).parent / "corpus" / name
    return [str(kept)] if kept.is_dir() else []


def find_growth(outcome: Outcome, seconds: float, chance: Random) -> Outcome:
    """Repeats parts of what the corpus holds, and compares times."""
    target, name = TARGETS[outcome.name], outcome.name
    paths = sorted((BUILD / "corpus" / name).iterdir(), key=lambda path: sha256(path.name.encode()).digest())
    corpus = [*target.seeds, *(path.read_bytes() for path in paths[:_SAMPLES])]

    def cost(data: bytes) -> float:
        gc.collect()
        gc.disable()
        begun = time.process_time()
        try:
            with suppress(Exception):  # found by the other half
                target.run(data)
            return time.process_time() - begun
        finally:
            gc.enable()

    gc.freeze()  # what is here now need not be looked at for each of them
    ends = time.monotonic() + seconds
    with alarmed():
        while time.monotonic() < ends:
            repeated = guess(target, corpus, chance)
            outcome.grown += 1
            if is_too_steep(cost, repeated):
                outcome.finds += (_keep(name, repeated),)
                break
    return outcome


def _keep(name: str, repeated: Repeated) -> Path:
    """The find, small: what is repeated, and around what; the times are found again from that."""
    text = f"{repeated!r}\n"
    path = BUILD / "finds" / name / f"growth-{sha256(text.encode()).hexdigest()[:16]}"
    path.write_text(text)
    return path


def _environment() -> dict[str, str]:
    paths: Iterable[str] = (str(ROOT), str(BUILD / "packages"), os.environ.get("PYTHONPATH", ""))
    return os.environ | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}


if __name__ == "__main__":
    sys.exit(main())
