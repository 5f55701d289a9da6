"""The options of the command line, and the values that their texts stand for.

Options arrive as text, so that a bad one is answered like any other bad input: what was given, what is
wanted, what to do. Everything that does not need the data is checked before the data are read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from finitewidth.data import Dataset
    from finitewidth.networks import Network
    from finitewidth.theory.neuron import NeuronOptions


def _text(metavar: str, meaning: str, default: str | None = None) -> Any:
    """A field that is an option of one text; the command line reads its name and its help from here."""
    return dataclasses.field(default=default, metadata={"metavar": metavar, "help": meaning})


def _flag(meaning: str) -> Any:
    """A field that is an option without a value."""
    return dataclasses.field(default=False, metadata={"help": meaning})


@dataclass(frozen=True)
class JobOptions:
    """What to predict or sample: data, network, temperature. Texts as typed; None where nothing was given."""

    data: str | None = _text("NAME|FILE", "digits, mnist, openml:NAME, a .npz, .csv or .tsv file, a folder of images.")
    target: str | None = _text("COLUMN", "Target column of a csv file or OpenML set; A,B for several.")
    delimiter: str | None = _text("CHAR", "Between the columns of a csv file: ';', tab, ... Default: guessed.")
    columns: str | None = _text("A,B", "Input columns of a csv file or OpenML set. Default: all but the target.")
    drop: str | None = _text("A,B", "Columns that are no inputs.")
    encode: str | None = _text("text|A,B", "One-hot encode these columns, or all that hold text.")
    impute: str | None = _text("KIND", "Fill missing values: mean, median or most_frequent.")
    task: str | None = _text("KIND", "regression or classification, where a csv file leaves it open.")
    classes: str | None = _text("A,B", "Keep these classes; of two, the first is -1, the second +1.")
    n_train: str | None = _text("P", "Training points. Default: 200.")
    n_test: str | None = _text("P", "Test points. Default: all that are left.")
    seed: str | None = _text("S", "Seed of the split into training and test part. Default: 0.")
    standardise: str | None = _text("KIND", "none, global or feature, fitted on the training part.")
    standardise_target: bool = _flag("Standardise the target, of regression; errors stay in its own units.")
    network: str = _text("KIND", "fc, cnn or lcn. Default: fc.", "fc")
    depth: str | None = _text("L", "Hidden layers. Default: 1.")
    width: str | None = _text("N,N,..", "One network a width, every hidden layer that wide. Default: 100.")
    widths: str | None = _text("N1,N2,..", "One network with these layer widths.")
    activation: str = _text("NAME", "erf, relu, linear, tanh, gelu, ... Default: erf.", "erf")
    precision: str = _text("X", "Prior precision of all weights, or lambda_0,..,lambda_L. Default: 1.0.", "1.0")
    offset_precision: str | None = _text("X", "Prior precision of offsets (biases). Default: no offsets.")
    readout: str = _text("KIND", "standard (1/sqrt(N)) or mean-field (1/N). Default: standard.", "standard")
    patch: str | None = _text("8|8x8", "Size of a patch (cnn, lcn).")
    stride: str | None = _text("8|8x8", "Step between patches (cnn, lcn). Default: the patch.")
    padding: str | None = _text("KIND", "none or zero (cnn, lcn). Default: none.")
    pool: str | None = _text("KIND", "none or average (cnn, lcn). Default: none.")
    input_shape: str | None = _text("16x16x1", "Height, width, channels (cnn, lcn). Default: as in the data.")
    temperature: str = _text("T,T,..", "Variance of the Gaussian likelihood. Default: 0.05.", "0.05")
    memory: str | None = _text("8GB", "Refuse what would need more. Default: what is free.")
    time: str | None = _text("2h", "Refuse what would take longer. Default: 1h.")
    zero_temperature: ClassVar[bool] = False  # whether a temperature of 0 means something
    json: bool = _flag("Print one JSON document.")


@dataclass(frozen=True)
class PredictOptions(JobOptions):
    """The options of ``finitewidth predict``."""

    method: str = _text("NAME", "saddle, integrate, infinite or neuron. Default: saddle.", "saddle")
    closure: str | None = _text("NAME", "Of deep networks: nested or product. Default: nested.")
    solver: str = _text(
        "KIND", "auto, exact, or krylov for many points; krylov:0.001 for 0.1 %. Default: auto.", "auto"
    )
    particles: str | None = _text("M", "Of method neuron: neurons followed at once. Default: as the data ask for.")
    response: str | None = _text("KIND", "Of method neuron: auto, quadratic or nonlinear. Default: auto.")
    seeds: str | None = _text("K", "Of method neuron: independent solutions, for standard errors. Default: 1.")
    checkpoint: str | None = _text("DIR", "Of method neuron: save runs here, and go on from what is saved.")
    figure: str | None = _text("FILE", "Draw the result: .png, .pdf or .svg.")


@dataclass(frozen=True)
class SamplingOptions(JobOptions):
    """What a run of the sampler is. ``--seed`` decides its random numbers too."""

    sampler: str = _text("NAME", "collapsed, langevin, langevin-unadjusted or nuts. Default: collapsed.", "collapsed")
    chains: str = _text("C", "Chains; R-hat needs two. Default: 4.", "4")
    draws: str = _text("D", "Draws kept of each chain. Default: 500.", "500")
    warmup: str | None = _text("D", "Iterations of adaptation before them. Default: 300 or 500.")
    step_size: str | None = _text("X", "Fixed step size. Default: adapted.")
    checkpoint: str | None = _text("DIR", "Save runs here, and go on from what is saved.")

    def sampling(self) -> dict[str, Any]:
        """Arguments of ``sample``; raises InputError."""
        from finitewidth import checks
        from finitewidth.sampling.method import SAMPLERS

        options: dict[str, Any] = {
            "sampler": checks.choice("sampler", self.sampler, SAMPLERS),
            "chains": whole("--chains", self.chains),
            "draws": whole("--draws", self.draws),
            "warmup": None if self.warmup is None else whole_from_zero("--warmup", self.warmup),
            "seed": 0 if self.seed is None else whole_from_zero("--seed", self.seed),
            "checkpoint": self.checkpoint,
        }
        if self.step_size is not None:
            options["step_size"] = checks.positive("--step-size", one(numbers, "--step-size", self.step_size))
        return options


@dataclass(frozen=True)
class SampleOptions(SamplingOptions):
    """The options of ``finitewidth sample``."""

    figure: str | None = _text("FILE", "Draw the result: .png, .pdf or .svg.")


@dataclass(frozen=True)
class CompareOptions(SamplingOptions, PredictOptions):
    """The options of ``finitewidth compare``: those of both."""


@dataclass(frozen=True)
class TrainingOptions(JobOptions):
    """What a training run is: those of ``fw.train``, in plans of sweeps. Temperature 0 is no weight decay."""

    zero_temperature: ClassVar[bool] = True
    optimiser: str = _text("NAME", "adam, sgd or langevin. Default: adam.", "adam")
    learning_rate: str | None = _text("X", "Step size. Default: chosen.")
    momentum: str | None = _text("X", "Of sgd. Default: 0.")
    batch: str | None = _text("B", "Points of a mini-batch. Default: all.")
    steps: str = _text("K", "Of training. Default: 2000.", "2000")
    seeds: str = _text("K", "Networks, started from seeds 0, 1, ... Default: 8.", "8")
    hold_out: str | None = _text("X", "Part of the training points kept for early stopping. Default: none.")
    patience: str | None = _text("K", "Steps without a smaller held-out error before a network stops.")

    def training(self) -> dict[str, Any]:
        """Arguments of ``train``; raises InputError."""
        from finitewidth import checks
        from finitewidth.training.method import OPTIMISERS

        given: dict[str, Any] = {
            "optimiser": checks.choice("optimiser", self.optimiser, OPTIMISERS),
            "steps": whole("--steps", self.steps),
            "seeds": whole("--seeds", self.seeds),
        }
        for name, read in (("batch", whole), ("patience", whole)):
            given[name] = _optional(read, f"--{name}", getattr(self, name))
        for name in ("learning_rate", "momentum", "hold_out"):
            text = getattr(self, name)
            given[name] = None if text is None else one(numbers, f"--{name.replace('_', '-')}", text)
        return given


@dataclass(frozen=True)
class Job:
    """Options that have passed their checks. ``layer_widths``: given with --widths, None otherwise."""

    source: str
    data_options: dict[str, Any]
    network: Network
    widths: list[int]
    layer_widths: list[int] | None
    temperatures: list[float]
    memory: float | None

    @property
    def curve_widths(self) -> list[int] | None:
        """Widths of a learning curve; None with --widths, where the network has its own."""
        return None if self.layer_widths else self.widths

    def load(self) -> tuple[Dataset, Dataset]:
        """The training and the test part."""
        from finitewidth.data import load

        return load(self.source, **self.data_options)


def job_of(options: JobOptions) -> Job:
    """Check everything that can be checked without the data; raises InputError."""
    from finitewidth import checks
    from finitewidth.linalg import memory_cap

    layers, widths = _layers(options)
    network = _network(options, layers)
    check = checks.not_negative if options.zero_temperature else checks.positive
    temperatures = [check("temperature", t) for t in numbers("--temperature", options.temperature)]
    memory = memory_cap(options.memory)
    source, data_options = _data(options, memory)
    layer_widths = None if options.widths is None else layers
    return Job(source, data_options, network, widths, layer_widths, temperatures, memory)


def neuron_options(options: PredictOptions, progress: bool) -> NeuronOptions | None:
    """The options of method "neuron"; None for other methods.

    Raises InputError for values that cannot be, and where they are given with another method.
    """
    from finitewidth.exceptions import InputError
    from finitewidth.theory.neuron import NeuronOptions

    texts = {name: getattr(options, name) for name in ("particles", "response", "seeds")}
    given: dict[str, Any] = {name: text for name, text in texts.items() if text is not None}
    if options.method != "neuron":
        for name in given:
            raise InputError(f"--{name} with --method {options.method}", "--method neuron", f"leave --{name} out")
        if options.checkpoint is not None and not isinstance(options, SamplingOptions):
            raise InputError(
                f"--checkpoint with --method {options.method}", "--method neuron", "leave --checkpoint out"
            )
        return None
    for name in given.keys() - {"response"}:
        given[name] = whole(f"--{name}", given[name])
    return NeuronOptions(**given, progress=progress, checkpoint=options.checkpoint)


def study_data(classes: str | None, n_train: str | None, n_test: str | None, seed: str | None) -> dict[str, Any]:
    """The options of a study's data that were given, by name; raises InputError."""
    given = {
        "classes": _optional(names, "--classes", classes),
        "n_train": _optional(whole, "--n-train", n_train),
        "n_test": _optional(whole, "--n-test", n_test),
        "seed": _optional(whole_from_zero, "--seed", seed),
    }
    return {name: value for name, value in given.items() if value is not None}


# --- network ------------------------------------------------------------------------------------------


def _layers(options: JobOptions) -> tuple[list[int], list[int]]:
    """The layer widths of the first network, and the width of every network (one of them with --widths)."""
    from finitewidth.exceptions import InputError

    depth = None if options.depth is None else one(whole_numbers, "--depth", options.depth)
    if depth is not None and depth > _MOST_LAYERS:
        raise InputError(f"--depth {depth}", f"at most {_MOST_LAYERS} hidden layers", "write --depth 2, for example")
    if options.widths is None:
        widths = whole_numbers("--width", "100" if options.width is None else options.width)
        return [widths[0]] * (depth or 1), widths
    if options.width is not None:
        raise InputError(
            f"--width {options.width} and --widths {options.widths}",
            "only one of them",
            "--width is one network a width, --widths one network with one width a layer",
        )
    layers = whole_numbers("--widths", options.widths)
    if depth not in (None, len(layers)):
        raise InputError(
            f"--depth {depth} and --widths {options.widths}",
            f"{depth} widths, or no depth",
            "leave --depth out",
        )
    return layers, layers[:1]


def _network(options: JobOptions, layers: list[int]) -> Network:
    from finitewidth.networks.build import network_of

    precision = numbers("--precision", options.precision)
    offset = options.offset_precision
    return network_of(
        options.network,
        layers,
        activation=options.activation,
        precision=precision[0] if len(precision) == 1 else precision,
        offset_precision=None if offset is None else one(numbers, "--offset-precision", offset),
        readout=options.readout,
        patch=_size("--patch", options.patch),
        stride=_size("--stride", options.stride),
        padding=options.padding,
        pool=options.pool,
        input_shape=None if options.input_shape is None else sizes("--input-shape", options.input_shape),
    )


# --- data ---------------------------------------------------------------------------------------------


def _data(options: JobOptions, memory: float | None) -> tuple[str, dict[str, Any]]:
    from finitewidth import checks
    from finitewidth.data.columns import STRATEGIES
    from finitewidth.data.csv_file import checked_delimiter
    from finitewidth.data.loaders import BUILT_IN, loader_of, refuse_unknown
    from finitewidth.exceptions import InputError

    if not options.data:
        raise InputError("no --data", "digits, mnist, openml:NAME, a file or a folder", "write --data digits")
    loader_of(options.data)  # refuses data that are not there before it speaks of their options
    if options.standardise is not None:
        checks.choice("standardise", options.standardise, ("none", "global", "feature"))
    if options.task is not None:
        checks.choice("task", options.task, ("regression", "classification"))
    if options.impute is not None:
        checks.choice("impute", options.impute, STRATEGIES)
    given = {
        **{name: _optional(columns, f"--{name}", getattr(options, name)) for name in _OF_COLUMNS},
        "delimiter": None if options.delimiter is None else checked_delimiter(options.delimiter),
        "impute": options.impute,
        "task": options.task,
        "classes": _optional(names, "--classes", options.classes),
        "n_train": _optional(whole, "--n-train", options.n_train),
        "n_test": _optional(whole, "--n-test", options.n_test),
        "seed": _optional(whole_from_zero, "--seed", options.seed),
        "standardise": options.standardise,
        "standardise_target": options.standardise_target or None,
    }
    kept = {name: value for name, value in given.items() if value is not None}
    if options.data.lower().endswith(".npz"):
        kept.pop("seed", None)  # nothing is drawn from a file that is used as given
        for name in kept.keys() - {"n_train", "n_test", "standardise", "standardise_target"}:
            raise InputError(
                f"--{name.replace('_', '-')} for the npz file {options.data!r}",
                "no such option: the parts of an npz file are used as given",
                "leave it out, or choose the points before saving them",
            )
    refuse_unknown(options.data, kept)
    if memory is not None and options.data not in BUILT_IN:
        kept["max_bytes"] = memory
    return options.data, kept


# --- texts --------------------------------------------------------------------------------------------


_MOST_LAYERS = 1000
_OF_COLUMNS = ("target", "columns", "drop", "encode")
_DIGITS = 18  # of a whole number: below 2^63


def numbers(option: str, text: str) -> list[float]:
    """Numbers separated by commas."""
    return [_number(option, item, text) for item in text.split(",")]


def whole_numbers(option: str, text: str) -> list[int]:
    """Whole numbers of at least one, separated by commas; 1e12 is one of them."""
    from finitewidth import checks

    return [checks.positive_integer(option, _number(option, item, text)) for item in text.split(",")]


def sizes(option: str, text: str) -> tuple[int, ...]:
    """Whole numbers separated by x: 16x16x1."""
    from finitewidth import checks
    from finitewidth.exceptions import InputError

    items = text.lower().split("x")
    if not all(item.strip().isdecimal() and len(item) <= _DIGITS for item in items):
        example = "16x16x1" if option == "--input-shape" else "8 or 8x8"
        raise InputError(f"{option} {text!r}", "whole numbers separated by x", f"write {option} {example}")
    return tuple(checks.positive_integer(option, int(item)) for item in items)


def _number(option: str, item: str, text: str) -> float:
    from finitewidth.exceptions import InputError

    for kind in (int, float):
        try:
            return kind(item)
        except ValueError:
            continue
    raise InputError(f"{option} {text!r}", "a number, or numbers separated by commas", f"write {option} in digits")


def one(read: Callable[[str, str], list[Any]], option: str, text: str) -> Any:
    from finitewidth.exceptions import InputError

    values = read(option, text)
    if len(values) != 1:
        raise InputError(f"{option} {text!r}", "a single number", f"write {option} {values[0]}")
    return values[0]


def _optional(read: Callable[[str, str], Any], option: str, text: str | None) -> Any:
    return None if text is None else read(option, text)


def whole(option: str, text: str) -> int:
    return int(one(whole_numbers, option, text))


def whole_from_zero(option: str, text: str) -> int:
    from finitewidth.exceptions import InputError

    if not text.strip().isdecimal() or len(text) > _DIGITS:
        raise InputError(f"{option} {text!r}", "a whole number of at least 0", f"write {option} 0, for example")
    return int(text)


def names(option: str, text: str) -> tuple[str, ...]:
    from finitewidth.exceptions import InputError

    names = tuple(item.strip() for item in text.split(","))
    if "" in names or len(set(names)) < len(names) or len(names) < 2:
        raise InputError(
            f"{option} {text!r}", "at least two different classes, separated by commas", f"write {option} 0,1"
        )
    return names


def columns(option: str, text: str) -> tuple[str, ...]:
    """Names of columns separated by commas; one that holds a comma stands in double quotes, as in a csv file."""
    import csv

    from finitewidth.exceptions import InputError

    try:
        row = next(csv.reader([text], skipinitialspace=True, strict=True), [])
    except csv.Error:
        row = []
    names = tuple(name.strip() for name in row)
    if "" in names or len(set(names)) < len(names) or not names:
        raise InputError(f"{option} {text!r}", "different names of columns, separated by commas", f"write {option} a,b")
    return names


def joined(names: Iterable[str]) -> str:
    """What ``columns`` reads."""
    import csv
    import io

    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(names)
    return line.getvalue()


def _size(option: str, text: str | None) -> int | tuple[int, ...] | None:
    if text is None:
        return None
    values = sizes(option, text)
    return values[0] if len(values) == 1 else values
