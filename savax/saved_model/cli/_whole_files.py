"""Files that appear as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import IO, TYPE_CHECKING

from savax.errors import PublishError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def whole_file(file: str, *, overwrite: bool) -> Iterator[IO[bytes]]:
    """Opens a file to write; it appears when the block ends, and not after an error.

    Args:
      file: its path.
      overwrite: whether a file that is there is replaced.

    Raises:
      PublishError: there is a file, and it isn't to be replaced.
    """
    folder, name = os.path.split(file)
    work = os.path.join(folder, f".{name}.savax-{secrets.token_hex(8)}")
    try:
        with open(work, "xb") as stream:
            yield stream
        if overwrite:
            os.replace(work, file)
        else:
            try:
                os.link(work, file)  # unlike a rename, this replaces nothing
            except FileExistsError:
                raise PublishError(f"{file!r} exists; --overwrite replaces it.") from None
    finally:
        if os.path.lexists(work):
            os.unlink(work)
