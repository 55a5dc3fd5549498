"""A coverage-guided fuzzer of one target, by atheris.

    pip install atheris
    python -m tests.attacks.fuzz.fuzz graph new/ tests/attacks/fuzz/corpus/graph -max_total_time=600

Further arguments are libFuzzer's. What it finds new is in the first directory; a file ``crash-*``
is an input that raised something else than an error of savax. ``-merge=1`` picks what covers most:
that is how the corpus was chosen, which the tests replay.
"""

from __future__ import annotations

import random
import sys

import atheris

with atheris.instrument_imports(include=["savax"]):
    from tests.attacks.fuzz.targets import Targets


def main() -> None:
    name = sys.argv.pop(1)
    targets = Targets()
    target = targets.by_name[name]

    def change(data: bytes, most: int, seed: int) -> bytes:
        """Changes fields of messages, or bytes."""
        rng = random.Random(seed)
        changed = targets.changed_fields(name, data, rng) if rng.random() < 0.7 else None
        if changed is not None and len(changed) <= most:
            return changed
        found: bytes = atheris.Mutate(data, most)
        return found

    atheris.Setup(sys.argv, target, custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
