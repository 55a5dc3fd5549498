"""The ``savax`` command. Only ``run`` and ``scan`` load JAX, and only ``run`` runs a model."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import TypeAlias

from savax._version import __version__
from savax.errors import SavaxError
from savax.saved_model.cli._checkpoint import add_checkpoint_commands
from savax.saved_model.cli._completion import SHELLS, completion_script
from savax.saved_model.cli._model_commands import add_model_commands
from savax.saved_model.cli._outcome import Outcome
from savax.saved_model.cli._tables import printable

__all__ = ["main"]

# Exit codes beside 0; argparse has the second for wrong arguments.
_EXIT_FAILED = 1
_EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
_EXIT_PIPE = 141  # 128 + SIGPIPE

_Command: TypeAlias = Callable[[argparse.Namespace], Outcome]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
      arguments: without the program's name; by default those of this process.

    Returns:
      The exit code: 0; 1 after an error, which is one line on stderr. Commands that answer a
      question have 1 for no, and 2 after an error.

    Raises:
      SystemExit: wrong arguments (code 2), or help was asked for.
    """
    parsed = _parser().parse_args(arguments)
    command: _Command = parsed.command
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names in any script, on any terminal
    try:
        outcome = command(parsed)
        print(outcome.text, flush=True)
    except BrokenPipeError:
        # The reader went away (``| head``); leave nothing that is flushed at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _EXIT_PIPE
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    except (SavaxError, OSError) as error:
        print(f"savax: error: {printable(' '.join(str(error).split()))}", file=sys.stderr)
        error_code: int = parsed.error_code
        return error_code
    return outcome.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="savax", description="SavedModels and TensorFlow checkpoints, without TensorFlow."
    )
    parser.add_argument("--version", action="version", version=f"savax {__version__}")
    parser.set_defaults(error_code=_EXIT_FAILED)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_model_commands(commands)
    add_checkpoint_commands(commands)
    completion = commands.add_parser(
        "completion",
        help="print a script that completes commands in a shell",
        description="Prints a script for a shell that completes commands, options and file names.",
        epilog='For bash, put this line into ~/.bashrc: eval "$(savax completion bash)"; for zsh, '
        'into ~/.zshrc, after compinit: eval "$(savax completion zsh)"; for fish, into '
        "~/.config/fish/config.fish: savax completion fish | source.",
    )
    completion.add_argument("shell", choices=SHELLS, help="the shell")
    completion.set_defaults(command=_completion)
    return parser


def _completion(parsed: argparse.Namespace) -> Outcome:
    return Outcome(completion_script(_parser(), parsed.shell))
