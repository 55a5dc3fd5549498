"""``savax completion``: a script that completes commands, options and file names in a shell."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class _Node(NamedTuple):
    """A command: its path, what can follow it, and the paths of its commands by name.

    A path ends in ``:files`` where a command takes file names.
    """

    path: str
    words: list[str]
    commands: dict[str, str]


# What can follow depends on the commands among the words so far: $1 to $COMP_CWORD.
_BASH = """\
_savax() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" path="" word words
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case "$path $word" in
{steps}
        esac
    done
    case "$path" in
{choices}
    esac
    COMPREPLY=($(compgen -W "$words" -- "$current"))
    if [[ "$path" == *:files && "$current" != -* ]]; then
        local IFS=$'\\n'  # names of files may have spaces
        COMPREPLY+=($(compgen -f -- "$current"))
    fi
}}
complete -o filenames -F _savax savax
"""

# Zsh has the words from $words[2] to $words[CURRENT]; its $path is that of programs.
_ZSH = """\
#compdef savax
_savax() {{
    local place="" word
    local -a choices
    for word in "${{(@)words[2,CURRENT-1]}}"; do
        case "$place $word" in
{steps}
        esac
    done
    case "$place" in
{choices}
    esac
    compadd -- $choices
    if [[ "$place" == *:files && "$words[CURRENT]" != -* ]]; then
        _files
    fi
}}
compdef _savax savax
"""

_FISH = """\
function __savax_place
    set -l place ""
    for word in (commandline -opc)[2..]
        switch "$place $word"
{steps}
        end
    end
    echo $place
end
function __savax_choices
    switch (__savax_place)
{choices}
    end
end
complete -c savax -f -a "(__savax_choices)"
complete -c savax -n "string match -q '*:files' (__savax_place)" -F
"""


def _case_steps(nodes: Sequence[_Node], variable: str) -> str:
    """Returns the branches that follow a command to its node, as bash and zsh write them."""
    return "\n".join(
        f'            "{node.path} {name}") {variable}="{child}" ;;'
        for node in nodes
        for name, child in node.commands.items()
    )


def _bash(nodes: Sequence[_Node]) -> str:
    steps = _case_steps(nodes, "path")
    choices = (f'        "{node.path}") words="{" ".join(node.words)}" ;;' for node in nodes)
    return _BASH.format(steps=steps, choices="\n".join(choices))


def _zsh(nodes: Sequence[_Node]) -> str:
    steps = _case_steps(nodes, "place")
    choices = (f'        "{node.path}") choices=({" ".join(node.words)}) ;;' for node in nodes)
    return _ZSH.format(steps=steps, choices="\n".join(choices))


def _fish(nodes: Sequence[_Node]) -> str:
    steps = (
        f'            case "{node.path} {name}"\n                set place "{child}"'
        for node in nodes
        for name, child in node.commands.items()
    )
    choices = (
        f'        case "{node.path}"\n            printf "%s\\n" {" ".join(node.words)}'
        for node in nodes
    )
    return _FISH.format(steps="\n".join(steps), choices="\n".join(choices))


_Writer: TypeAlias = Callable[[list[_Node]], str]
_WRITERS: dict[str, _Writer] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
SHELLS = tuple(_WRITERS)


def completion_script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Returns a script to be sourced by a shell.

    Args:
      parser: of the whole command line.
      shell: one of ``SHELLS``.
    """
    return _WRITERS[shell](list(_nodes(parser, "")))


def _nodes(parser: argparse.ArgumentParser, path: str) -> Iterator[_Node]:
    """Yields the node of a parser, then those of its commands."""
    options: list[str] = []
    commands: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            commands = dict(action.choices)
        else:
            options += [option for option in action.option_strings if option.startswith("--")]
            options += [] if action.option_strings else [str(c) for c in action.choices or ()]
    paths = {
        name: f"{path}/{name}" + (":files" if _takes_files(child) else "")
        for name, child in commands.items()
    }
    yield _Node(path, [*commands, *options], paths)
    for name, child in commands.items():
        yield from _nodes(child, paths[name])


def _takes_files(parser: argparse.ArgumentParser) -> bool:
    return any(not action.option_strings and not action.choices for action in parser._actions)
