"""Makes the virtual environments of other readers of SavedModels, for tests/consumers.

``python tools/consumer_environments.py DIRECTORY``; run by a Python that has TensorFlow installed,
which tf2onnx borrows instead of a copy of its own.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path


def make(directory: Path, name: str, *packages: str) -> None:
    environment = directory / name
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    pip = [environment / "bin" / "python", "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "--disable-pip-version-check", *packages], check=True)


def borrow_packages(directory: Path, name: str) -> None:
    """Lets an environment see the packages of this Python."""
    environment = directory / name
    (site_packages,) = environment.glob("lib/python*/site-packages")
    own = sysconfig.get_paths()["purelib"]
    (site_packages / "borrowed.pth").write_text(f"{own}\n")


def main() -> None:
    directory = Path(sys.argv[1])
    make(directory, "openvino", "openvino", "numpy")
    make(directory, "onnx", "--no-deps", "tf2onnx", "onnx", "onnxruntime")
    borrow_packages(directory, "onnx")


if __name__ == "__main__":
    main()
