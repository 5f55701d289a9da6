"""The options of the command line, and the job that their values are: data, network, likelihoods, methods.

Options arrive as text, so that a bad one is answered like any other bad input: what was given, what is
wanted, what to do. Everything that does not need the data is checked before the data are read.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from finitewidth import checks
from finitewidth.checks.exceptions import InputError
from finitewidth.jobs.option_values import (
    CLASSES,
    COLUMNS,
    DURATION,
    FLAG,
    LIKELIHOOD,
    MEMORY,
    METHOD,
    METHOD_LIST,
    NETWORK,
    NUMBER,
    NUMBER_FROM_ZERO,
    NUMBERS,
    PRECISION,
    SHARE,
    SIZES,
    TEXT,
    WHOLE,
    WHOLE_FROM_ZERO,
    WHOLES,
    Kind,
    named,
    sizes,
)

if TYPE_CHECKING:
    from finitewidth.data import Dataset
    from finitewidth.inference.methods import Method
    from finitewidth.jobs.job import Job
    from finitewidth.networks import Network

_MOST_LAYERS = 1000
_STANDARDISED = named(("none", "global", "feature"))
_TASK = named(("regression", "classification"))
_IMPUTED = named(("mean", "median", "most_frequent"))  # data.table.STRATEGIES, which would import NumPy


def _text(metavar: str, meaning: str, kind: Kind = TEXT, default: str | None = None) -> Any:
    """A field that is an option of one text; the command line reads its name and its help from here."""
    return dataclasses.field(default=default, metadata={"metavar": metavar, "help": meaning, "kind": kind})


def _argument(metavar: str, meaning: str, **default: Any) -> Any:
    """A field whose text stands without the name of an option."""
    metadata = {"metavar": metavar, "help": meaning, "kind": TEXT, "argument": True}
    return dataclasses.field(metadata=metadata, **default)


def _flag(meaning: str) -> Any:
    """A field that is an option without a value."""
    return dataclasses.field(default=False, metadata={"help": meaning, "kind": FLAG})


@dataclass(frozen=True)
class JobOptions:
    """What to predict or sample: data, network, temperature. Texts as typed; None where nothing was given."""

    data: str | None = _text("NAME|FILE", "digits, mnist, openml:NAME, a .npz, .csv or .tsv file, a folder of images.")
    target: str | None = _text("COLUMN", "Target column of a csv file or OpenML set; A,B for several.", COLUMNS)
    delimiter: str | None = _text("CHAR", "Between the columns of a csv file: ';', tab, ... Default: guessed.")
    columns: str | None = _text(
        "A,B", "Input columns of a csv file or OpenML set. Default: all but the target.", COLUMNS
    )
    drop: str | None = _text("A,B", "Columns that are no inputs.", COLUMNS)
    encode: str | None = _text("text|A,B", "One-hot encode these columns, or all that hold text.", COLUMNS)
    impute: str | None = _text("KIND", "Fill missing values: mean, median or most_frequent.", _IMPUTED)
    task: str | None = _text("KIND", "regression or classification, where a csv file leaves it open.", _TASK)
    classes: str | None = _text("A,B", "Keep these classes; of two, the first is -1, the second +1.", CLASSES)
    n_train: str | None = _text("P", "Training points. Default: 200.", WHOLE)
    n_test: str | None = _text("P", "Test points. Default: all that are left.", WHOLE)
    seed: str | None = _text("S", "Seed of the split into training and test part. Default: 0.", WHOLE_FROM_ZERO)
    standardise: str | None = _text("KIND", "none, global or feature, fitted on the training part.", _STANDARDISED)
    standardise_target: bool = _flag("Standardise the target, of regression; errors stay in its own units.")
    network: str = _text("KIND", "fc, cnn, lcn, or module:Class. Default: fc.", NETWORK, default="fc")
    depth: str | None = _text("L", "Hidden layers. Default: 1.", WHOLE)
    width: str | None = _text("N,N,..", "One network a width, every hidden layer that wide. Default: 100.", WHOLES)
    widths: str | None = _text("N1,N2,..", "One network with these layer widths.", WHOLES)
    activation: str = _text("NAME", "erf, relu, linear, tanh, gelu, ... Default: erf.", default="erf")
    precision: str = _text(
        "X", "Prior precision of all weights, or lambda_0,..,lambda_L. Default: 1.0.", PRECISION, default="1.0"
    )
    offset_precision: str | None = _text("X", "Prior precision of offsets (biases). Default: no offsets.", NUMBER)
    readout: str = _text("KIND", "standard (1/sqrt(N)) or mean-field (1/N). Default: standard.", default="standard")
    patch: str | None = _text("8|8x8", "Size of a patch (cnn, lcn).", SIZES)
    stride: str | None = _text("8|8x8", "Step between patches (cnn, lcn). Default: the patch.", SIZES)
    padding: str | None = _text("KIND", "none, same, or zeros on either side: 1, 1x1 (cnn, lcn).")
    pool: str | None = _text("KIND", "none or average (cnn, lcn). Default: none.")
    input_shape: str | None = _text("16x16x1", "Height, width, channels (cnn, lcn). Default: as in the data.", SIZES)
    temperature: str = _text("T,T,..", "Variance of the Gaussian likelihood. Default: 0.05.", NUMBERS, default="0.05")
    memory: str | None = _text("8GB", "Refuse what would need more. Default: what is free.", MEMORY)
    time: str | None = _text("2h", "Refuse what would take longer. Default: 1h.")
    likelihood: str | None = _text("MODULE:CLASS", "A likelihood of your own. Default: Gaussian noise.", LIKELIHOOD)
    json: bool = _flag("Print one JSON document.")


@dataclass(frozen=True)
class TheoryOptions:
    """Settings of the methods of theory."""

    closure: str | None = _text("NAME", "Of deep networks: nested or product. Default: nested, one output.")
    solver: str | None = _text("KIND", "auto, exact, or krylov for many points; krylov:0.001 for 0.1 %.")
    particles: str | None = _text(
        "M", "Of method neuron: neurons followed at once. Default: as the data ask for.", WHOLE
    )
    neurons: str | None = _text("M", "Of method first-order: most that are drawn, a layer. Default: 200000.", WHOLE)
    tolerance: str | None = _text("X", "Of method first-order: standard error wanted. Default: 0.01.", NUMBER)


@dataclass(frozen=True)
class CurveOptions:
    """Settings of method curve, beside ``seconds``; ``predict`` takes it where either is given."""

    within: str | None = _text("5%", "Accuracy wanted of the test error, by as many samples as that takes.", SHARE)


@dataclass(frozen=True)
class SamplingOptions:
    """Settings of method sample. ``--seed`` decides its random numbers too."""

    sampler: str | None = _text("NAME", "collapsed, langevin, langevin-unadjusted or nuts. Default: collapsed.")
    chains: str | None = _text("C", "Chains; R-hat needs two. Default: 4.", WHOLE)
    draws: str | None = _text("D", "Draws of each chain. Default: 500; with --accuracy at most 5000.", WHOLE)
    accuracy: str | None = _text("1%", "Draw until the test error is so well known (standard error).", SHARE)
    seconds: str | None = _text("60|2min", "The most that sampling, or method curve or neuron, may take.", DURATION)
    warmup: str | None = _text("D", "Iterations before them. Default: until the sampler has adapted.", WHOLE_FROM_ZERO)
    step_size: str | None = _text("X", "Fixed step size. Default: adapted.", NUMBER)


@dataclass(frozen=True)
class TrainingOptions:
    """Settings of method train; temperature 0 is no weight decay."""

    seeds: str | None = _text("K", "Networks, started from seeds 0, 1, ... Default: 8.", WHOLE)
    optimiser: str | None = _text("NAME", "adam or sgd. Default: adam.")
    learning_rate: str | None = _text("X", "Step size of training. Default: chosen.", NUMBER)
    momentum: str | None = _text("X", "Of sgd. Default: 0.", NUMBER_FROM_ZERO)
    batch: str | None = _text("B", "Points of a mini-batch. Default: all.", WHOLE)
    steps: str | None = _text("K", "Of training. Default: 2000.", WHOLE)


@dataclass(frozen=True)
class _Shown:
    checkpoint: str | None = _text("DIR", "Save long runs here, and go on from what is saved.")
    figure: str | None = _text("FILE", "Draw the result: .png, .pdf or .svg.")


@dataclass(frozen=True)
class PredictOptions(_Shown, CurveOptions, TrainingOptions, SamplingOptions, TheoryOptions, JobOptions):
    """The options of ``finitewidth predict``."""

    method: str | None = _text(
        "NAME",
        "saddle (default), integrate, infinite, neuron, first-order, sample, train, curve, or module:Class",
        METHOD,
    )


@dataclass(frozen=True)
class SampleOptions(_Shown, SamplingOptions, JobOptions):
    """The options of ``finitewidth sample``: those of ``predict --method sample``."""

    method: ClassVar[str] = "sample"


@dataclass(frozen=True)
class TrainOptions(_Shown, TrainingOptions, JobOptions):
    """The options of ``finitewidth train``: those of ``predict --method train``."""

    method: ClassVar[str] = "train"


@dataclass(frozen=True)
class CompareOptions(_Shown, CurveOptions, TrainingOptions, SamplingOptions, TheoryOptions, JobOptions):
    """The options of ``finitewidth compare``."""

    methods: str = _text(
        "A,B",
        "Methods side by side; the last is the reference. Default: saddle,sample.",
        METHOD_LIST,
        "saddle,sample",
    )


@dataclass(frozen=True)
class StudyOptions:
    """The options of ``finitewidth study``."""

    name: str = _argument("list|NAME", "Which study; list names them all.")
    out: str | None = _text("DIR", "Folder of the study; a run goes on.")
    scale: str = _text("KIND", "small or full.", default="small")
    data: str | None = _text("NAME|FILE", "Default, small: digits.")
    classes: str | None = _text("A,B", "Keep these classes.", CLASSES)
    n_train: str | None = _text("P", "Training points.", WHOLE)
    n_test: str | None = _text("P", "Test points.", WHOLE)
    seed: str | None = _text("S", "Of split and sampling.", WHOLE_FROM_ZERO)
    time: str | None = _text("2h", "Refuse what would take longer. Default: 1h.")
    json: bool = _flag("Print one JSON document.")


@dataclass(frozen=True)
class SweepOptions:
    """The options of ``finitewidth sweep``."""

    plan: str | None = _argument("PLAN.yaml", "What to sweep (docs/sweeps.md).", default=None)
    out: str | None = _text("DIR", "Folder of the results.")
    resume: bool = _flag("What the same command does anyway.")
    client: str = _text("KIND", "serial, local, or a Dask scheduler: tcp://HOST:8786.", default="serial")
    workers: str | None = _text("N", "Of --client local. Default: one a processor.", WHOLE)
    retry_failed: bool = _flag("Do points that failed once more.")
    memory: str | None = _text("8GB", "Refuse points that would need more.", MEMORY)
    json: bool = _flag("Print one JSON document.")


@dataclass(frozen=True)
class DemoOptions:
    """The options of ``finitewidth demo``."""

    out: str = _text("DIR", "Where demo.png goes.", default="demo-output")
    json: bool = _flag("Print one JSON document.")


@dataclass(frozen=True)
class FolderOptions:
    """The options of ``finitewidth status`` and ``report``."""

    folder: str = _argument("DIR", "Folder of a sweep, finished or not.")
    json: bool = _flag("Print one JSON document.")


def given(options: Any) -> dict[str, Any]:
    """The values of the options that were given, by name; raises InputError."""
    fixed = getattr(type(options), "method", None)
    found = {} if fixed is None else {"method": fixed}
    for field in dataclasses.fields(options):
        text = getattr(options, field.name)
        if text is not None and text is not False:
            found[field.name] = field.metadata["kind"].read(_option(field.name), text)
    if isinstance(options, PredictOptions) and "method" not in found:
        found["method"] = "curve" if {"within", "seconds"} & found.keys() else "saddle"
    return found


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


@dataclass(frozen=True)
class Command:
    """Options that have passed their checks. jobs: one for each method; they share what they can.

    layer_widths: given with --widths, None otherwise.
    """

    source: str
    data_options: dict[str, Any]
    jobs: list[Job]
    layer_widths: list[int] | None

    def load(self) -> tuple[Dataset, Dataset]:
        """The training and the test part."""
        from finitewidth.data import load

        return load(self.source, **self.data_options)


def command_of(given: dict[str, Any], progress: bool = False, checkpoint: str | None = None) -> Command:
    """Check everything that can be checked without the data; raises InputError.

    given: values by the names of options (``given``), or those of a point of a sweep.
    """
    from finitewidth.jobs.job import Job

    layers, widths = _layers(given)
    network = _network(given, layers)
    source, data_options = data_of(given)
    noise = checks.one_or_more("temperature", given["temperature"])
    if "likelihood" in given:
        noise = [given["likelihood"](temperature) for temperature in noise]
    layer_widths = layers if "widths" in given else None
    first, *others = _methods(given)
    options: dict[str, Any] = {"memory": given.get("memory"), "progress": progress, "checkpoint": checkpoint}
    job = Job.of(network, noise, first, None if layer_widths else widths, **options)
    return Command(source, data_options, [job, *map(job.by, others)], layer_widths)


# --- methods ------------------------------------------------------------------------------------------

_SETTINGS = (
    *(
        field.name
        for kind in (TheoryOptions, CurveOptions, SamplingOptions, TrainingOptions)
        for field in dataclasses.fields(kind)
    ),
    "seed",
)


def _methods(given: dict[str, Any]) -> list[Method]:
    """With their settings; raises InputError for values that cannot be, and for a setting that belongs to none."""
    from finitewidth.jobs.job import method_class

    chosen = given.get("methods") or [given["method"]]
    kinds: list[type[Method]] = [kind if isinstance(kind, type) else method_class(kind) for kind in chosen]
    taken = [{field.name for field in dataclasses.fields(kind)} for kind in kinds]
    settings = {name: given[name] for name in _SETTINGS if name in given}
    for name in settings:
        if name != "seed" and not any(name in fields for fields in taken):
            raise _of_another_method(name, [kind.name for kind in kinds], set().union(*taken))
    return [
        kind(**{name: value for name, value in settings.items() if name in fields})
        for kind, fields in zip(kinds, taken, strict=True)
    ]


def _of_another_method(setting: str, methods: list[str], theirs: set[str]) -> InputError:
    from finitewidth.jobs.job import METHODS, method_class

    option = _option(setting)
    own = ", ".join(_option(name) for name in _SETTINGS if name in theirs)
    others = [name for name in METHODS if setting in {field.name for field in dataclasses.fields(method_class(name))}]
    return InputError(
        f"{option} with method {', '.join(methods)}",
        f"one of its settings ({own})" if own else "no such option, for it has none",
        f"leave {option} out, or use method {' or '.join(others)}",
    )


# --- network ------------------------------------------------------------------------------------------


def _layers(given: dict[str, Any]) -> tuple[list[int], list[int]]:
    """The layer widths of the first network, and the width of every network (one of them with --widths)."""
    depth = given.get("depth")
    if depth is not None and depth > _MOST_LAYERS:
        raise InputError(f"--depth {depth}", f"at most {_MOST_LAYERS} hidden layers", "write --depth 2, for example")
    if "widths" not in given:
        widths = checks.one_or_more("width", given.get("width", 100))
        return [widths[0]] * (depth or 1), widths
    layers = list(given["widths"])
    if "width" in given:
        remedy = "--width is one network a width, --widths one network with one width a layer"
        raise InputError("--width beside --widths", "only one of them", remedy)
    if depth not in (None, len(layers)):
        raise InputError(
            f"--depth {depth} with {len(layers)} --widths", f"{depth} widths, or no depth", "leave --depth out"
        )
    return layers, layers[:1]


def _network(given: dict[str, Any], layers: list[int]) -> Network:
    from finitewidth.networks.build import OF_PATCHES, network_of

    names = ("activation", "precision", "offset_precision", "readout", *OF_PATCHES)
    options = {name: given[name] for name in names if name in given}
    if options.get("padding", "")[:1].isdecimal():  # else none or same
        options["padding"] = sizes("--padding", options["padding"])
    for name in ("patch", "stride", "padding"):
        options[name] = _one_or_all(options.get(name))
    return network_of(given["network"], layers, **options)


def _one_or_all(value: Any) -> Any:
    """A size of one direction is that of all."""
    return value[0] if isinstance(value, tuple) and len(value) == 1 else value


# --- data ---------------------------------------------------------------------------------------------

OF_DATA = (
    *("target", "columns", "drop", "encode", "delimiter", "impute", "task", "classes", "n_train", "n_test", "seed"),
    *("standardise", "standardise_target"),
)


def data_options(given: dict[str, Any]) -> dict[str, Any]:
    """Those of the values that decide which data there are."""
    return {name: given[name] for name in OF_DATA if name in given}


def data_of(given: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Where the data are from, and the options of ``fw.data.load``; raises InputError."""
    from finitewidth.data.csv_file import checked_delimiter
    from finitewidth.data.loaders import BUILT_IN, loader_of, refuse_unknown

    source, kept = given.get("data"), data_options(given)
    if not source:
        raise InputError("no --data", "digits, mnist, openml:NAME, a file or a folder", "write --data digits")
    loader_of(source)  # refuses data that are not there before it speaks of their options
    if "delimiter" in kept:
        kept["delimiter"] = checked_delimiter(kept["delimiter"])
    if source.lower().endswith(".npz"):
        kept.pop("seed", None)  # nothing is drawn from a file that is used as given
    refuse_unknown(source, kept)
    if given.get("memory") is not None and source not in BUILT_IN:
        kept["max_bytes"] = given["memory"]
    return source, kept
