"""The commands for SavedModels: arguments, exit codes and output."""

from __future__ import annotations

import argparse
from typing import Any

from savax.portability import PORTABLE, TARGETS
from savax.saved_model.cli._arguments import add_tolerances
from savax.saved_model.cli._check import check_lines, check_model
from savax.saved_model.cli._convert import FORMS, Conversion, conversion_lines, convert_model
from savax.saved_model.cli._distance import Tolerance
from savax.saved_model.cli._draw import DrawArguments, draw_model
from savax.saved_model.cli._freeze import freeze_lines, freeze_model
from savax.saved_model.cli._inputs import InputArguments
from savax.saved_model.cli._model_diff import collect_model_diff, model_diff_lines
from savax.saved_model.cli._outcome import EXIT_NO, EXIT_TROUBLE, Outcome
from savax.saved_model.cli._render import render_text
from savax.saved_model.cli._run import RunArguments, run_lines, run_model
from savax.saved_model.cli._scan import scan_lines, scan_model
from savax.saved_model.cli._show import collect_model
from savax.saved_model.cli._tables import printable, to_json

_DIRECTORY_HELP = "directory of the model"
_JSON_HELP = "everything, for other programs"


def add_model_commands(commands: Any) -> None:
    """Adds the commands for SavedModels to an argument parser's commands."""
    _add_show(commands)
    _add_run(commands)
    _add_scan(commands)
    _add_check(commands)
    _add_diff(commands)
    _add_convert(commands)
    _add_freeze(commands)
    _add_draw(commands)


def _add_show(commands: Any) -> None:
    show = commands.add_parser(
        "show",
        help="show what a SavedModel holds",
        description="Shows the signatures, functions and files of a SavedModel.",
        epilog="Exit codes: 0, 1 after an error, 2 for wrong arguments.",
    )
    show.add_argument("directory", metavar="DIR", help=_DIRECTORY_HELP)
    _add_tags(show)
    show.add_argument("--signature", metavar="KEY", help="only this signature")
    show.add_argument("--all", action="store_true", help="also every object, operation and file")
    show.add_argument("--json", action="store_true", help=_JSON_HELP)
    show.set_defaults(command=_show)


def _add_run(commands: Any) -> None:
    run = commands.add_parser(
        "run",
        help="run a signature on given inputs",
        description="Runs a signature of a SavedModel on JAX, and prints or writes its outputs.",
        epilog="Values are cast where nothing but digits of floats is lost. No pickles are read, "
        "no expression is executed. Exit codes: 0, 1 after an error, 2 for wrong arguments.",
    )
    run.add_argument("directory", metavar="DIR", help=_DIRECTORY_HELP)
    _add_tags(run)
    run.add_argument(
        "--signature", metavar="KEY", help="its key; else serving_default, or the only one"
    )
    run.add_argument(
        *("-i", "--inputs"),
        metavar="NAME=FILE[KEY]",
        action="append",
        default=[],
        help="an input from an .npy, .npz or .json file, with the key of an array in it; or one "
        "file that has all inputs by name; several with ; between them",
    )
    run.add_argument(
        *("-e", "--input-exprs"),
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="an input as a Python literal or a call of np.zeros, ones, full, arange, linspace, "
        "eye, array, with .reshape and .astype; several with ; between them",
    )
    run.add_argument(
        "--input-examples",
        metavar="NAME=[{...},...]",
        action="append",
        default=[],
        help="an input of serialized tf.train.Examples, as a JSON list of dicts of features",
    )
    run.add_argument("--outdir", metavar="DIR", help="write each output to NAME.npy there")
    run.add_argument("--overwrite", action="store_true", help="replace files that are there")
    run.add_argument(
        "--batch", metavar="N", type=_positive, help="run at most N rows of the inputs at a time"
    )
    run.add_argument(
        "--time", metavar="N", type=_positive, default=0, help="call N more times, and print times"
    )
    run.add_argument("--json", action="store_true", help="outputs as JSON")
    run.set_defaults(command=_run)


def _add_scan(commands: Any) -> None:
    scan = commands.add_parser(
        "scan",
        help="find operations that reach files, the network or Python",
        description="Looks at every operation of a SavedModel, and finds those that reach files, "
        "other processes, Python or native code, and those that savax doesn't evaluate.",
        epilog="Exit codes: 0 nothing found (ops that only save, restore, read assets or aren't "
        "evaluated don't count), 1 found, 2 the model can't be read or wrong arguments.",
    )
    scan.add_argument("directory", metavar="DIR", help=_DIRECTORY_HELP)
    _add_tags(scan)
    scan.add_argument("--ops", metavar="OP,...", help="find just these operations, wherever")
    scan.add_argument("--json", action="store_true", help=_JSON_HELP)
    scan.set_defaults(command=_scan, error_code=EXIT_TROUBLE)


def _add_check(commands: Any) -> None:
    check = commands.add_parser(
        "check",
        help="find what LiteRT, TF.js, ONNX or OpenVINO can't run",
        description="Looks at every operation that the signatures of a SavedModel run, and finds "
        "those that another program than TensorFlow doesn't run, with ways around.",
        epilog="Exit codes: 0 nothing found, 1 found, 2 the model can't be read or wrong "
        "arguments.",
    )
    check.add_argument("directory", metavar="DIR", help=_DIRECTORY_HELP)
    check.add_argument(
        "--target", choices=TARGETS, default=PORTABLE, help="the program; portable: all of them"
    )
    _add_tags(check)
    check.add_argument("--json", action="store_true", help=_JSON_HELP)
    check.set_defaults(command=_check, error_code=EXIT_TROUBLE)


def _add_diff(commands: Any) -> None:
    diff = commands.add_parser(
        "diff",
        help="compare two SavedModels",
        description="Compares signatures, functions, objects, graphs, assets and the values of "
        "variables. Values are equal if |a - b| <= ATOL + RTOL * max(|a|, |b|); NaN equals NaN.",
        epilog="Exit codes: 0 equal, 1 different, 2 a model can't be read or wrong arguments.",
    )
    diff.add_argument("a", metavar="A", help=_DIRECTORY_HELP)
    diff.add_argument("b", metavar="B", help="likewise")
    add_tolerances(diff)
    diff.add_argument("--json", action="store_true", help=_JSON_HELP)
    diff.set_defaults(command=_diff, error_code=EXIT_TROUBLE)


def _add_convert(commands: Any) -> None:
    convert = commands.add_parser(
        "convert",
        help="write a SavedModel in another form",
        description="Writes a SavedModel with its variables, assets and other files into another "
        "directory: as binary, text or image, with other tags, or other names of signatures.",
        epilog="Exit codes: 0, 1 after an error, 2 for wrong arguments.",
    )
    _add_directories(convert)
    convert.add_argument("--to", choices=FORMS, help="form to write; else that of the model")
    convert.add_argument(
        "--tags", metavar="TAG,...", type=_some_names, help="tags that the graph gets instead"
    )
    convert.add_argument(
        "--rename-signature",
        metavar="OLD=NEW",
        type=_rename,
        action="append",
        default=[],
        help="give a signature another key; can be repeated",
    )
    convert.set_defaults(command=_convert)


def _add_freeze(commands: Any) -> None:
    freeze = commands.add_parser(
        "freeze",
        help="make constants of a SavedModel's variables",
        description="Writes the signatures of a SavedModel as a model without variables, whose "
        "values are constants of its graph. It has no objects and functions beside signatures.",
        epilog="Exit codes: 0, 1 after an error, 2 for wrong arguments.",
    )
    _add_directories(freeze)
    freeze.set_defaults(command=_freeze)


def _add_draw(commands: Any) -> None:
    draw = commands.add_parser(
        "draw",
        help="draw a function or the objects of a SavedModel",
        description="Writes a picture of a signature, a function or the objects of a SavedModel: "
        "as SVG, or as one HTML file whose groups open and close on a click.",
        epilog="Exit codes: 0, 1 after an error, 2 for wrong arguments.",
    )
    draw.add_argument("directory", metavar="DIR", help=_DIRECTORY_HELP)
    draw.add_argument(
        *("-o", "--output"), metavar="FILE", required=True, help="file to write: .svg or .html"
    )
    _add_tags(draw)
    what = draw.add_mutually_exclusive_group()
    what.add_argument(
        "--signature", metavar="KEY", help="its key; else serving_default, or the only one"
    )
    what.add_argument(
        "--function", metavar="NAME", help="draw a function, by its name or path as show has them"
    )
    what.add_argument("--objects", action="store_true", help="draw the object graph")
    draw.add_argument(
        "--open",
        metavar="PATH",
        action="append",
        default=[],
        help="open this group and those around it, and no others; can be repeated",
    )
    draw.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    draw.set_defaults(command=_draw)


def _add_directories(parser: argparse.ArgumentParser) -> None:
    """Adds what the commands have that write a model anew."""
    parser.add_argument("directory", metavar="DIR", help=_DIRECTORY_HELP)
    parser.add_argument("out", metavar="OUT", help="directory to write")
    parser.add_argument(
        "--tag-set",
        metavar="TAG,...",
        type=_some_names,
        help="keep only the graph with exactly these tags",
    )
    parser.add_argument(
        "--signature",
        metavar="KEY",
        action="append",
        default=[],
        help="keep only this signature; can be repeated",
    )
    parser.add_argument(
        "--force", action="store_true", help="replace what is at OUT, which may be DIR itself"
    )
    parser.add_argument("--json", action="store_true", help="what was written, as JSON")


def _add_tags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tags", metavar="TAG,...", help="only the graph with exactly these tags")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} isn't 1 or more")
    return value


def _some_names(text: str) -> tuple[str, ...]:
    names = _names(text)
    if not names:
        raise argparse.ArgumentTypeError("no tag is given")
    return names


def _rename(text: str) -> tuple[str, str]:
    old, _, new = text.partition("=")
    if not old or not new:
        raise argparse.ArgumentTypeError(f"{text} isn't OLD=NEW")
    return old, new


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


def _show(parsed: argparse.Namespace) -> Outcome:
    model = collect_model(parsed.directory, _names(parsed.tags), parsed.signature)
    if parsed.json:
        return Outcome(to_json(model))
    signatures_only = parsed.signature is not None
    return Outcome(render_text(model, signatures_only=signatures_only, everything=parsed.all))


def _run(parsed: argparse.Namespace) -> Outcome:
    arguments = RunArguments(
        inputs=InputArguments(parsed.inputs, parsed.input_exprs, parsed.input_examples),
        tags=_names(parsed.tags),
        signature=parsed.signature,
        batch=parsed.batch,
        out_dir=parsed.outdir,
        overwrite=parsed.overwrite,
        repeat=parsed.time,
    )
    report, outputs = run_model(parsed.directory, arguments)
    if parsed.json:
        return Outcome(to_json(report))
    return Outcome("\n".join(map(printable, run_lines(report, outputs))))


def _scan(parsed: argparse.Namespace) -> Outcome:
    report = scan_model(parsed.directory, _names(parsed.tags), _names(parsed.ops))
    text = to_json(report) if parsed.json else "\n".join(map(printable, scan_lines(report)))
    return Outcome(text, 0 if report.is_clean() else EXIT_NO)


def _check(parsed: argparse.Namespace) -> Outcome:
    report = check_model(parsed.directory, parsed.target, _names(parsed.tags))
    text = to_json(report) if parsed.json else "\n".join(map(printable, check_lines(report)))
    return Outcome(text, EXIT_NO if report.problems else 0)


def _diff(parsed: argparse.Namespace) -> Outcome:
    report = collect_model_diff(parsed.a, parsed.b, Tolerance(parsed.atol, parsed.rtol))
    text = to_json(report) if parsed.json else "\n".join(map(printable, model_diff_lines(report)))
    if report.variables is not None and report.variables.unreadable:
        return Outcome(text, EXIT_TROUBLE)
    return Outcome(text, 0 if report.is_equal() else EXIT_NO)


def _convert(parsed: argparse.Namespace) -> Outcome:
    conversion = Conversion(
        form=parsed.to,
        chosen_tags=parsed.tag_set,
        new_tags=parsed.tags,
        signatures=parsed.signature,
        renames=parsed.rename_signature,
        force=parsed.force,
    )
    report = convert_model(parsed.directory, parsed.out, conversion)
    if parsed.json:
        return Outcome(to_json(report))
    return Outcome("\n".join(map(printable, conversion_lines(report))))


def _freeze(parsed: argparse.Namespace) -> Outcome:
    report = freeze_model(
        parsed.directory,
        parsed.out,
        tags=parsed.tag_set,
        signatures=parsed.signature,
        force=parsed.force,
    )
    if parsed.json:
        return Outcome(to_json(report))
    return Outcome("\n".join(map(printable, freeze_lines(report))))


def _draw(parsed: argparse.Namespace) -> Outcome:
    arguments = DrawArguments(
        output=parsed.output,
        tags=_names(parsed.tags),
        signature=parsed.signature,
        function=parsed.function,
        objects=parsed.objects,
        opened=parsed.open,
        overwrite=parsed.overwrite,
    )
    return Outcome(printable(draw_model(parsed.directory, arguments)))
