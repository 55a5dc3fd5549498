"""The option that names the device whose host reads and writes files: it must be this host."""

from __future__ import annotations

import re

from savax.errors import InvalidArgumentError, UnsupportedOptionError

# Parts of a device's name. Where one is missing, TensorFlow takes the nearest; of the devices of a
# host any will do, as files are read by the CPU.
_PART = re.compile(
    r"job:(?P<job>.*)|(?:replica|task):(?P<index>\d+)|device:[^:]+:(?:\d+|\*)"
    r"|(?:cpu|gpu|tpu)(?::(?:\d+|\*))?",
    re.IGNORECASE,
)
_OPTION = "experimental_io_device"


def check_io_device(device: str | None) -> None:
    """Checks that the device of the option ``experimental_io_device`` is one of this host.

    Args:
      device: such as ``"/job:localhost"`` or ``"/device:CPU:0"``; None for no wish.

    Raises:
      InvalidArgumentError: it is no name of a device.
      UnsupportedOptionError: the device is another host's.
    """
    if device is None:
        return
    if not isinstance(device, str):
        raise InvalidArgumentError(f"{_OPTION} is a device's name, got {device!r}.")
    for text in device.rstrip().split("/"):
        part = _PART.fullmatch(text)
        if part is None and text:
            raise InvalidArgumentError(
                f"{_OPTION}={device!r} is no device: {text!r} is none of 'job:localhost', "
                "'replica:0', 'task:0' and 'device:CPU:0'."
            )
        if part is not None and (
            part["job"] not in (None, "localhost") or int(part["index"] or 0) != 0
        ):
            raise UnsupportedOptionError(
                f"{_OPTION}={device!r}: this process reads and writes files itself, as "
                "'/job:localhost' does; leave the option out."
            )
