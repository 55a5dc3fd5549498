"""A process that serves a model and is started again: time from loading to the first answer.

The imports are not counted. JAX's compilation cache keeps compiled programs between processes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks._rows import Options, Row, run_alone
from benchmarks._timing import processes, run_program

PROGRAMS = Path(__file__).with_name("programs")
GOAL_SECONDS = 1.4
NAME, IMAGE_SIZE = "efficientnetb0", 224


def measure(options: Options) -> list[Row]:
    with tempfile.TemporaryDirectory() as directory:
        try:
            run_program([PROGRAMS / "export_by_tensorflow.py", directory, IMAGE_SIZE, NAME])
        except RuntimeError:
            return [Row("restart", "TensorFlow isn't installed", None, None)]
        command = [PROGRAMS / "first_answer.py", directory, IMAGE_SIZE, NAME]
        costs = processes(
            {"without": command, "with": [*command, f"{directory}/cache"]},
            repeats=options.repeats(5),
        )
    ours = costs["with"].reported[NAME]
    without = costs["without"].reported[NAME]
    what = "EfficientNetB0: load to first answer, with JAX's compilation cache"
    return [
        Row(what, "without the cache", ours, without, unit="s"),
        Row(what, f"{GOAL_SECONDS} s", ours, GOAL_SECONDS, 1.0, unit="s"),
    ]


if __name__ == "__main__":
    run_alone("restart", measure)
