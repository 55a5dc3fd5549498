"""Makes the environments of other readers of SavedModels, for tests/consumers.

``python tools/consumer_environments.py DIRECTORY``; run by a Python that has TensorFlow installed,
which converters borrow instead of a copy of their own. TF.js needs node and npm.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

# The packages of npm and their versions are those of package-lock.json there.
CONSUMERS = Path(__file__).resolve().parent.parent / "tests" / "consumers"


def make(directory: Path, name: str, *packages: str) -> None:
    environment = directory / name
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    pip = [environment / "bin" / "python", "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "--disable-pip-version-check", *packages], check=True)


def make_borrowing(directory: Path, name: str, *packages: str) -> None:
    """Makes an environment that sees the packages of this Python beside its own."""
    make(directory, name, "--no-deps", *packages)
    (site_packages,) = (directory / name).glob("lib/python*/site-packages")
    own = sysconfig.get_paths()["purelib"]
    (site_packages / "borrowed.pth").write_text(f"{own}\n")


def install_node_modules(directory: Path, name: str) -> None:
    for file in ("package.json", "package-lock.json"):
        shutil.copy(CONSUMERS / file, directory / name)
    npm = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
    subprocess.run(npm, cwd=directory / name, check=True)


def main() -> None:
    directory = Path(sys.argv[1])
    make(directory, "openvino", "openvino==2026.4.1", "numpy==2.4.6")
    make_borrowing(directory, "onnx", "tf2onnx==1.17.0", "onnx==1.23.2", "onnxruntime==1.31.1")
    make_borrowing(directory, "litert", "ai-edge-litert==2.3.0")
    make_borrowing(directory, "tfjs", "tensorflowjs==4.22.0")
    install_node_modules(directory, "tfjs")


if __name__ == "__main__":
    main()
