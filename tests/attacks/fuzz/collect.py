"""Chooses the corpus: for each way out of a reader the smallest input that takes it.

    python -m tests.attacks.fuzz.collect SECONDS [DIRECTORY]

A way out is an error with the line that raises it, or success. Inputs are random variants, for
SECONDS a target, and the files of DIRECTORY/TARGET, where a fuzzer may have left some.
"""

from __future__ import annotations

import itertools
import random
import sys
import time
import traceback
from pathlib import Path

from tests.attacks.fuzz.targets import CORPUS, Targets

_LARGEST = 16_000  # bytes of one input, as long as there is a smaller one


def way_out(targets: Targets, name: str, data: bytes) -> str:
    """Returns how reading an input ends."""
    try:
        with targets.errors_pass():
            targets.by_name[name](data)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        last = [frame for frame in frames if "/savax/" in frame.filename][-1]
        return f"{type(error).__name__} {last.filename}:{last.lineno}"
    return "success"


def collect(targets: Targets, name: str, seconds: float, more: Path | None) -> dict[str, bytes]:
    """Returns the smallest input for each way out."""
    files = sorted((more / name).glob("*")) if more is not None else []
    files += sorted((CORPUS / name).glob("*"))
    found: dict[str, bytes] = {}
    end = time.perf_counter() + seconds
    inputs = itertools.chain(
        (file.read_bytes() for file in files), targets.variants(name, random.Random())
    )
    for data in inputs:
        key = way_out(targets, name, data)
        if key not in found or len(data) < len(found[key]):
            found[key] = data
        if time.perf_counter() > end:
            return found
    return found


def main() -> None:
    seconds = float(sys.argv[1])
    more = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    targets = Targets()
    for name in targets.by_name:
        chosen = sorted(collect(targets, name, seconds, more).values())
        small = [data for data in chosen if len(data) <= _LARGEST] or chosen[:1]
        folder = CORPUS / name
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        for number, data in enumerate(small):
            (folder / f"{number:03}").write_bytes(data)
        print(f"{name}: {len(small)} files, {sum(map(len, small))} bytes")
    targets.close()


if __name__ == "__main__":
    main()
