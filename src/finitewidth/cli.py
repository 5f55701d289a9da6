"""The command line: parse, call, print. What it imports at the top is light, so that --help is quick."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from finitewidth import __version__, checks
from finitewidth.checks.exceptions import InputError, MissingExtraError, unexpected
from finitewidth.jobs.options import (
    Command,
    CompareOptions,
    DemoOptions,
    FolderOptions,
    JobOptions,
    PredictOptions,
    SampleOptions,
    StudyOptions,
    SweepOptions,
    TrainOptions,
    command_of,
    data_options,
    given,
)
from finitewidth.runs import durations

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text
    from typer.models import ArgumentInfo, OptionInfo

    from finitewidth.curves import LearningCurve
    from finitewidth.curves.comparison import ComparedRow, Comparison
    from finitewidth.data import Dataset
    from finitewidth.inference.methods import Row
    from finitewidth.jobs.job import Job
    from finitewidth.sweeps.status import Status

COMPARED_WITH_INFINITE = 3000  # training points up to which the table adds a line about infinite width
FIGURES = (".png", ".pdf", ".svg")
DEMO: dict[str, Any] = {  # options of predict; narrow networks win, and theory alone is a factor of two off there
    "data": "digits",
    "classes": "6,9",
    "n_train": "100",
    "activation": "erf",
    "width": "10,30,100,300,1000,3000",
    "within": "10%",
}
ONCE = ("--target", "--columns", "--drop", "--encode")  # options that are lists of columns
DEFECT = 70  # exit status, as in sysexits.h
TRACEBACK = "FINITEWIDTH_TRACEBACK"  # environment variable: show where a defect came from

app = typer.Typer(
    name="finitewidth",
    help="Predict the errors of finite-width Bayesian networks on your own data.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,  # its import takes as long as all the rest
    pretty_exceptions_enable=False,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    0, or 2 with one line on stderr for bad input, or 130 when interrupted. 70, also with one line, for a defect of
    finitewidth: no input should lead there.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without Greek letters is no reason to fail
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warning_once()
            _refuse_repeated(sys.argv[1:] if arguments is None else arguments)
            status = app(arguments, prog_name="finitewidth", standalone_mode=False)
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (InputError, MissingExtraError, OSError, MemoryError) as error:
        return _refused(str(_in_three_parts(error)))
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # help has been printed
            return 2
        if hasattr(error, "format_message"):  # a usage error; its class is private to Typer
            return _refused(f"{error.format_message() or 'no command'} See finitewidth --help")
        if os.environ.get(TRACEBACK):
            raise
        _say(_defect(error))
        return DEFECT
    return status if isinstance(status, int) else 0


def _refuse_repeated(words: Sequence[str]) -> None:
    """Of an option given twice the last value counts, as usual; of columns, that would make an input of a target."""
    options = [word.partition("=")[0] for word in words if word.startswith("--")]
    for option in ONCE:
        if options.count(option) > 1:
            raise InputError(f"{option} given twice", "every column in one list", f"write {option} A,B")


def _warning_once() -> Callable[..., None]:
    """Says a warning when it comes, for hours of sampling may follow; each once."""
    said: set[str] = set()

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        if str(message) not in said:
            said.add(str(message))
            _say(f"warning: {message}")

    return show


def _in_three_parts(error: Exception) -> Exception:
    """What the system refuses, said as bad input is."""
    if isinstance(error, OSError):
        name = getattr(error, "filename", None)
        given = f"{os.fsdecode(name)!r} ({error.strerror})" if isinstance(name, (str, bytes)) else str(error)
        return InputError(given, "files and folders that can be read and written", "check the path and the disk")
    if isinstance(error, MemoryError):
        remedy = "use fewer points or smaller networks, or set a cap with --memory"
        return InputError(str(error) or "more memory than there is", "what fits this machine", remedy)
    return error


def _defect(error: Exception) -> str:
    """One line about an error that should not be, and how to see more."""
    what, remedy = unexpected(error), f"report it with the output of {TRACEBACK}=1"
    return str(InputError(what, "no such error: this is a defect", remedy))


def _refused(message: str) -> int:
    _say(message)
    return 2


def _say(message: str) -> None:
    print(f"finitewidth: {' '.join(message.split())}", file=sys.stderr)


# --- commands -----------------------------------------------------------------------------------------


def _command(options: type, name: str | None = None) -> Callable[[Callable[[Any], None]], Callable[..., None]]:
    """Register a function of one options object as a command with one option for each of its fields."""

    def register(function: Callable[[Any], None]) -> Callable[..., None]:
        def command(**texts: Any) -> None:
            with _waiting(texts["time"]) if "time" in texts else contextlib.nullcontext():
                function(options(**texts))

        types = get_type_hints(options)
        parameters = [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default,
                annotation=Annotated[types[field.name], _parameter(field)],
            )
            for field in dataclasses.fields(options)
        ]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        command.__doc__ = function.__doc__
        return app.command(name or function.__name__)(command)

    return register


@contextlib.contextmanager
def _waiting(limit: str | None) -> Iterator[None]:
    """Within it, what takes more than a few seconds says so on stderr, and what takes more than --time is refused."""
    with durations.time_limit(durations.LIMIT if limit is None else limit), durations.announced(_say):
        yield


def _parameter(field: dataclasses.Field[Any]) -> OptionInfo | ArgumentInfo:
    said = {key: text for key, text in field.metadata.items() if key in ("metavar", "help")}
    if "argument" in field.metadata:
        return typer.Argument(**said)
    return typer.Option(f"--{field.name.replace('_', '-')}", show_default=False, **said)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"finitewidth {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


@_command(PredictOptions)
def predict(options: PredictOptions) -> None:
    """Predict the train and test error of a network, at one width or many, by any method."""
    _one_method(options)


@_command(SampleOptions)
def sample(options: SampleOptions) -> None:
    """Sample the finite network itself: errors with their standard errors."""
    _one_method(options)


@_command(TrainOptions)
def train(options: TrainOptions) -> None:
    """Train the finite network from several seeds: errors with their standard errors."""
    _one_method(options)


def _one_method(options: PredictOptions | SampleOptions | TrainOptions) -> None:
    figure = _figure_path(options.figure)
    command = command_of(given(options), _watched(), options.checkpoint)
    (job,) = command.jobs
    job = job.one_width() if job.method.name == "infinite" else job  # there, all widths are one
    from finitewidth.curves import curve_of
    from finitewidth.display import tables

    data = command.load()
    curve = curve_of(job, *data)
    infinite = _infinite(job, data) if not options.json or figure is not None else None
    if figure is not None:
        _draw(job, curve, data, infinite, figure)
    _report(options, command, data, curve.rows, tables.curve, tables.notes(curve, infinite), figure)
    _end(curve, job)


def _infinite(job: Job, data: tuple[Dataset, Dataset]) -> LearningCurve | None:
    """The limit that the table of a theory compares with; None where it says nothing new, or would take long."""
    from finitewidth.curves import curve_of
    from finitewidth.theory import Infinite
    from finitewidth.theory.solving import TheoryMethod

    theory = isinstance(job.method, TheoryMethod) and job.method.name != "infinite"
    if not theory or data[0].n_points > COMPARED_WITH_INFINITE:
        return None
    return curve_of(job.one_width().by(Infinite()), *data)


def _draw(
    job: Job, curve: LearningCurve, data: tuple[Dataset, Dataset], infinite: LearningCurve | None, figure: Path
) -> None:
    """The figure that fits method and architecture, with the features of the narrowest network."""
    from finitewidth.curves.tangent import tangent_of
    from finitewidth.report import plots
    from finitewidth.report.feature_plots import figure_for
    from finitewidth.report.first_order_plots import first_order_figure

    if all(hasattr(row, "rests_on") for row in curve):
        plots.save(plots.on_demand_figure(curve.rows), figure)  # type: ignore[arg-type]
        return
    tangent = tangent_of(job, *data)
    if tangent is not None and job.method.name == "first-order":
        drawn = first_order_figure(curve, tangent)
    elif all(hasattr(row, "test_error_se") for row in curve):
        drawn = plots.learning_curve_figure(curve, tangent=tangent)
    else:
        drawn = figure_for(curve, job.narrowest().solve(data[0]), infinite, tangent)  # type: ignore[arg-type]
    plots.save(drawn, figure)


@_command(CompareOptions)
def compare(options: CompareOptions) -> None:
    """Methods side by side, width by width: how far they are apart."""
    figure = _figure_path(options.figure)
    command = command_of(given(options), _watched(), options.checkpoint)
    from finitewidth.curves.comparison import compared
    from finitewidth.curves.tangent import tangent_of
    from finitewidth.display import tables
    from finitewidth.report import plots

    data = command.load()
    found = compared(command.jobs, *data)
    if figure is not None:
        plots.save(plots.comparison_figure(found, tangent_of(command.jobs[0], *data)), figure)
    sides = [side for row in found for side in row.rows.values()]
    _report(options, command, data, found.rows, tables.comparison, tables.notes(sides), figure)
    _end(found, command.jobs[-1])


def _figure_path(text: str | None) -> Path | None:
    """The file of a figure, if it can be written: known ending, existing folder, matplotlib installed."""
    if text is None:
        return None
    path = checks.path("--figure", text)
    if path.suffix.lower() not in FIGURES:
        raise InputError(
            f"--figure {text!r}", "a file name that ends in .png, .pdf or .svg", "write --figure curve.pdf"
        )
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"--figure {text!r}", "a file in a folder that exists", f"make the folder {path.parent} first")
    from finitewidth.report.plots import require_matplotlib

    require_matplotlib()
    return path


def _report(
    options: JobOptions,
    command: Command,
    data: tuple[Dataset, Dataset],
    rows: Sequence[Row] | Sequence[ComparedRow],
    table: Callable[[Iterable[Any], str], Table],
    notes: Iterable[Text],
    figure: Path | None,
) -> None:
    """One JSON document; or the table, notes, and the place of the figure."""
    if options.json:
        from finitewidth.display.documents import rows_document

        _print_json(rows_document(rows, command.source, *data, command.layer_widths))
        return
    from finitewidth.display import tables

    console = _console()
    title = tables.title(command.source, *data, options.network, command.jobs[0].problems)
    console.print(table(rows, title))
    if data[0].input_names is not None:
        console.print(tables.inputs(data[0].input_names))
    for note in notes:
        console.print(note)
    if figure is not None:
        console.print(f"Figure: {figure}")


def _end(found: LearningCurve | Comparison, job: Job) -> None:
    """Exit status 130 where a run was interrupted; what there is has been printed."""
    if not found.complete:
        done = sum(getattr(row, "met", True) for row in found)
        _say(f"interrupted: {done} of {len(job.problems)} networks done")
        raise typer.Exit(130)


def _watched() -> bool:
    """Whether somebody looks at stderr, where progress bars go."""
    return sys.stderr.isatty()


@_command(DemoOptions)
def demo(options: DemoOptions) -> None:
    """One curve over widths on real digits, from theory and a few samples: a table and a picture, in a minute."""
    from finitewidth.report.plots import require_matplotlib
    from finitewidth.runs.checkpoints import folder_of

    require_matplotlib()
    figure = folder_of(options.out, "--out") / "demo.png"
    if not options.json:
        words = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in DEMO.items())
        _console().print(f"The same as\nfinitewidth predict {words}\n", soft_wrap=True)
    with _waiting(None):
        _one_method(PredictOptions(**DEMO, figure=str(figure), json=options.json))


@_command(StudyOptions, "study")
def study_command(options: StudyOptions) -> None:
    """Put a claim about finite networks to the test, on built-in data or your own."""
    from finitewidth import studies

    if options.name == "list":
        listed = [{"name": study.name, "question": study.question} for study in studies.STUDIES.values()]
        if options.json:
            _print_json({"studies": listed, "version": __version__})
            return
        for study in listed:
            _console().print(f"{study['name']}\n    {study['question']}")
        return
    chosen, of_data = studies.study_of(options.name), data_options(given(options))
    if options.out is None:
        missing = f"study {options.name} without --out"
        raise InputError(missing, "a folder for its results", f"add --out {options.name}")
    say = (lambda text: None) if options.json else _say_plainly
    report = studies.run(chosen, options.out, options.scale, options.data, of_data, say)
    if options.json:
        _print_json(report.plain | {"files": [str(path) for path in report.files]})
        return
    for part in report.for_people():
        _console().print(part)
    _say_files(report.files)


@_command(SweepOptions, "sweep")
def sweep_command(options: SweepOptions) -> None:
    """Predict, sample or train over a grid; the same command goes on where it was."""
    from finitewidth import sweeps

    if options.plan is None or options.out is None:
        missing = "sweep without " + ("a plan" if options.plan is None else "--out")
        raise InputError(missing, "a plan and a folder", "write finitewidth sweep PLAN.yaml --out DIR")
    chosen = ("client", "workers", "retry_failed", "memory")
    settings = {name: value for name, value in given(options).items() if name in chosen}
    status = sweeps.run(options.plan, options.out, progress=_watched(), **settings)
    if options.json:
        _print_json(status.to_dict())
        return
    _say_status(status)
    _console().print(f"Results: {status.to_dict()['database']}\nA page of them: finitewidth report {options.out}")


@_command(FolderOptions, "status")
def status_command(options: FolderOptions) -> None:
    """How far a sweep is: points done, rate, time left."""
    from finitewidth import sweeps

    status = sweeps.status(options.folder)
    if options.json:
        _print_json(status.to_dict())
    else:
        _say_status(status)


def _say_status(status: Status) -> None:
    for line in status.lines():
        _console().print(line)


@_command(FolderOptions, "report")
def report_command(options: FolderOptions) -> None:
    """Make one HTML file of a sweep, with its figures beside it; it opens offline."""
    from finitewidth.report.sweep_page import write_page

    files = write_page(options.folder)
    if options.json:
        _print_json({"files": [str(path) for path in files], "version": __version__})
    else:
        _say_files(files)


def _say_files(files: Sequence[Path]) -> None:
    figures = f"\nFigures: {', '.join(map(str, files[1:]))}" if files[1:] else ""
    _console().print(f"Page: {files[0]}{figures}")


def _say_plainly(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document, indent=2, allow_nan=False))


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False, soft_wrap=False)


if __name__ == "__main__":
    sys.exit(main())
