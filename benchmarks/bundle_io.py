"""Speed of checkpoint files against plain file I/O and other formats.

    python benchmarks/bundle_io.py              # 256 MiB, then 100,000 small tensors
    python benchmarks/bundle_io.py --large      # 4 GiB as well

Cases run in one process, in random order within each repeat, with the files deleted and the disk
synced between them, and the page cache warm. The tables show medians, and ratios to plain writes
or reads of the same bytes: above 1 is faster than those. TensorFlow and safetensors take part if
they are installed. TensorFlow builds a kernel at the first call with a list of tensors, which takes
many seconds for 100,000 of them: that call is the maximum of its row.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from savax.trackable.bundle import BundleReader, write_bundle

try:
    import tensorflow as tf
except ImportError:
    tf = None
try:
    import safetensors.numpy as safetensors
except ImportError:
    safetensors = None

Tensors = dict[str, np.ndarray[Any, Any]]
Case = Callable[[str, Tensors], object]


def raw_write(path: str, tensors: Tensors, *, fsync: bool = False) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    for tensor in tensors.values():
        view = memoryview(tensor).cast("B")
        while view:
            view = view[os.write(fd, view[: 1 << 30]) :]
    if fsync:
        os.fsync(fd)
    os.close(fd)


def raw_write_fsync(path: str, tensors: Tensors) -> None:
    raw_write(path, tensors, fsync=True)


def raw_read(path: str, tensors: Tensors) -> list[Any]:
    result = []
    with open(path, "rb", buffering=0) as file:
        for tensor in tensors.values():
            memory = np.empty(tensor.nbytes, np.uint8)
            view = memoryview(memory)
            while view:
                view = view[file.readinto(view) :]
            result.append(memory)
    return result


def savax_write(path: str, tensors: Tensors) -> None:
    write_bundle(path, tensors.items(), fsync=False)


def savax_write_fsync(path: str, tensors: Tensors) -> None:
    write_bundle(path, tensors.items())


def savax_write_one_shard(path: str, tensors: Tensors) -> None:
    write_bundle(path, tensors.items(), shards=1, fsync=False)


def savax_read(path: str, tensors: Tensors) -> list[Any]:
    with BundleReader(path) as reader:
        return [reader.read(key) for key in tensors]


def savax_read_unverified(path: str, tensors: Tensors) -> list[Any]:
    with BundleReader(path, verify=False) as reader:
        return [reader.read(key) for key in tensors]


def savax_verify(path: str, _: Tensors) -> None:
    with BundleReader(path) as reader:
        reader.verify()


def numpy_write(path: str, tensors: Tensors) -> None:
    os.mkdir(path)
    for key, tensor in tensors.items():
        np.save(os.path.join(path, key), tensor)


def numpy_read(path: str, tensors: Tensors) -> list[Any]:
    return [np.load(os.path.join(path, f"{key}.npy")) for key in tensors]


def safetensors_write(path: str, tensors: Tensors) -> None:
    safetensors.save_file(tensors, path)


def safetensors_read(path: str, _: Tensors) -> Any:
    return safetensors.load_file(path)


class TensorFlowFiles:
    """SaveV2 and RestoreV2 of tensors that TensorFlow holds already."""

    def __init__(self, tensors: Tensors) -> None:
        self.names = list(tensors)
        self.slices = [""] * len(tensors)
        self.tensors = [tf.constant(tensor) for tensor in tensors.values()]
        self.dtypes = [tensor.dtype for tensor in self.tensors]

    def write(self, path: str, _: Tensors) -> None:
        """Writes the tensors."""
        tf.raw_ops.SaveV2(
            prefix=path,
            tensor_names=self.names,
            shape_and_slices=self.slices,
            tensors=self.tensors,
        )

    def read(self, path: str, _: Tensors) -> Any:
        """Reads them."""
        return tf.raw_ops.RestoreV2(
            prefix=path,
            tensor_names=self.names,
            shape_and_slices=self.slices,
            dtypes=self.dtypes,
        )


def write_cases(tensors: Tensors) -> dict[str, Case]:
    cases: dict[str, Case] = {
        "os.write": raw_write,
        "savax": savax_write,
        "savax, one data file": savax_write_one_shard,
        "os.write + fsync": raw_write_fsync,
        "savax + fsync": savax_write_fsync,
        "np.save": numpy_write,
    }
    if safetensors is not None:
        cases["safetensors"] = safetensors_write
    if tf is not None:
        cases["TensorFlow SaveV2"] = TensorFlowFiles(tensors).write
    return cases


def read_cases(tensors: Tensors) -> dict[str, tuple[Case, Case]]:
    """Returns per name what writes the file and what reads it."""
    cases: dict[str, tuple[Case, Case]] = {
        "readinto fresh memory": (raw_write, raw_read),
        "savax": (savax_write, savax_read),
        "savax, verify=False": (savax_write, savax_read_unverified),
        "savax verify()": (savax_write, savax_verify),
        "np.load": (numpy_write, numpy_read),
    }
    if safetensors is not None:
        cases["safetensors"] = (safetensors_write, safetensors_read)
    if tf is not None:
        cases["TensorFlow RestoreV2"] = (savax_write, TensorFlowFiles(tensors).read)
    return cases


def small_write_cases(tensors: Tensors) -> dict[str, Case]:
    cases: dict[str, Case] = {"savax": savax_write, "savax + fsync": savax_write_fsync}
    if tf is not None:
        cases["TensorFlow SaveV2"] = TensorFlowFiles(tensors).write
    return cases


def small_read_cases(tensors: Tensors) -> dict[str, tuple[Case, Case]]:
    cases: dict[str, tuple[Case, Case]] = {"savax": (savax_write, savax_read)}
    if tf is not None:
        cases["TensorFlow RestoreV2"] = (savax_write, TensorFlowFiles(tensors).read)
    return cases


def timed(case: Case, path: str, tensors: Tensors) -> float:
    start = time.perf_counter()
    result = case(path, tensors)
    elapsed = time.perf_counter() - start
    del result
    return elapsed


def measure(
    cases: dict[str, Case] | dict[str, tuple[Case, Case]], tensors: Tensors, repeats: int
) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name in random.sample(list(cases), len(cases)):
            folder = tempfile.mkdtemp(dir=".", prefix="bundle_io-")
            path = os.path.join(folder, "x")
            case = cases[name]
            try:
                if isinstance(case, tuple):
                    case[0](path, tensors)
                    os.sync()
                    times[name].append(timed(case[1], path, tensors))
                else:
                    times[name].append(timed(case, path, tensors))
            finally:
                shutil.rmtree(folder)
                os.sync()
    return times


def print_table(title: str, times: dict[str, list[float]], size_bytes: int) -> None:
    """Prints medians, and ratios to the first case that is fsynced or not as the case is."""
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"\n| {title} | median ms | MB/s | min-max ms | ratio | to |")
    print("|---|---|---|---|---|---|")
    for name, median in medians.items():
        base = next(other for other in medians if ("fsync" in other) == ("fsync" in name))
        values = times[name]
        print(
            f"| {name} | {median * 1e3:.1f} | {size_bytes / median / 1e6:.0f} "
            f"| {min(values) * 1e3:.1f}-{max(values) * 1e3:.1f} "
            f"| {medians[base] / median:.2f} | {base} |"
        )


def run(title: str, tensors: Tensors, small: bool, repeats: int) -> None:
    size_bytes = sum(tensor.nbytes for tensor in tensors.values())
    writes = small_write_cases(tensors) if small else write_cases(tensors)
    print_table(f"write {title}", measure(writes, tensors, repeats), size_bytes)
    del writes
    reads = small_read_cases(tensors) if small else read_cases(tensors)
    print_table(f"read {title}", measure(reads, tensors, repeats), size_bytes)


def big_tensors(count: int, size_bytes: int) -> Tensors:
    generator = np.random.default_rng(0)
    return {
        f"tensor_{i:02d}": generator.random((size_bytes // 4096, 1024), np.float32)
        for i in range(count)
    }


def small_tensors(count: int) -> Tensors:
    return {
        f"layer_{i:06d}/kernel/.ATTRIBUTES/VARIABLE_VALUE": np.full((4,), i, np.float32)
        for i in range(count)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--large", action="store_true", help="also 4 GiB; needs 12 GiB of memory")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--small-count", type=int, default=100_000)
    parser.add_argument("--no-small", action="store_true", help="leave out the small tensors")
    options = parser.parse_args()
    run("16 x 16 MiB", big_tensors(16, 16 << 20), small=False, repeats=options.repeats)
    if options.large:
        run("16 x 256 MiB", big_tensors(16, 256 << 20), small=False, repeats=3)
    if not options.no_small:
        title = f"{options.small_count} x 16 bytes"
        run(title, small_tensors(options.small_count), small=True, repeats=3)


if __name__ == "__main__":
    main()
