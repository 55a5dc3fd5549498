"""Runs the models of tests/zoo by all readers of SavedModels; writes docs/consumers.md.

    python tools/report_consumers.py ENVIRONMENTS              # run all; write figures and page
    python tools/report_consumers.py ENVIRONMENTS --readers tfjs,litert
    python tools/report_consumers.py --page                    # only write the page again

ENVIRONMENTS is the directory that tools/consumer_environments.py made. All takes about two minutes
on one core. The exit status is 1 if a cell fails that tests/zoo/limits.py gives no reason for.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.zoo import report
from tests.zoo.limits import LIMITS
from tests.zoo.models import MAKERS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("environments", nargs="?", help="directory of the readers' environments")
    parser.add_argument("--readers", default=",".join(report.READERS), help="with commas")
    parser.add_argument("--page", action="store_true", help="write the page from the last figures")
    options = parser.parse_args()
    if options.page:
        report.write(report.load())
        return 0
    if options.environments is None:
        parser.error("ENVIRONMENTS is missing")
    readers = options.readers.split(",")
    models = {maker.__name__: maker() for maker in MAKERS}
    with tempfile.TemporaryDirectory() as folder:
        figures = report.measure(readers, models, Path(folder), options.environments)
    whole = set(readers) == set(report.READERS)
    report.write(figures if whole else report.merged(report.load(), figures))
    return _summary(figures["cells"])


def _summary(cells: dict[str, dict[str, str | None]]) -> int:
    """Prints the cells that fail; returns 1 if one has no reason."""
    unknown = 0
    for reader, found in cells.items():
        for name, error in found.items():
            if error is not None:
                limit = LIMITS.get((reader, name))
                print(f"{reader} {name}: {limit.reason if limit else error}")
                unknown += limit is None
    return min(unknown, 1)


if __name__ == "__main__":
    sys.exit(main())
