"""The start of a process: ``import savax``, and ``savax show`` on a small model."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path

from benchmarks._rows import Options, Row, run_alone
from benchmarks._timing import processes, run_program

PROGRAMS = Path(__file__).with_name("programs")
IMPORT_SECONDS, SHOW_SECONDS = 0.1, 0.4


def measure(options: Options) -> list[Row]:
    has_tensorflow = importlib.util.find_spec("tensorflow") is not None
    with tempfile.TemporaryDirectory() as directory:
        run_program([PROGRAMS / "export_small.py", directory])
        commands = {
            "python": ["-c", "pass"],
            "import": ["-c", "import savax"],
            "show": ["-m", "savax", "show", directory],
        }
        if has_tensorflow:
            cli = "tensorflow.python.tools.saved_model_cli"
            commands["import TF"] = ["-c", "import tensorflow"]
            commands["show by TF"] = ["-m", cli, "show", "--all", "--dir", directory]
        costs = processes(commands, repeats=options.repeats(9))
    seconds = {name: cost.seconds for name, cost in costs.items()}
    imported = seconds["import"] - seconds["python"]
    shown = seconds["show"]
    tensorflow = seconds.get("import TF")
    peer = None if tensorflow is None else tensorflow - seconds["python"]
    return [
        Row("import savax", "import tensorflow", imported, peer, unit="s"),
        Row("import savax", f"{IMPORT_SECONDS} s", imported, IMPORT_SECONDS, 1.0, unit="s"),
        Row("process: savax show", "saved_model_cli", shown, seconds.get("show by TF"), unit="s"),
        Row("process: savax show", f"{SHOW_SECONDS} s", shown, SHOW_SECONDS, 1.0, unit="s"),
    ]


if __name__ == "__main__":
    run_alone("command_line", measure)
