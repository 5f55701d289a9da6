"""The options of the command line, and the values that their texts stand for.

Options arrive as text, so that a bad one is answered like any other bad input: what was given, what is
wanted, what to do. Everything that does not need the data is checked before the data are read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, overload

from finitewidth.jobs import option_values as values

if TYPE_CHECKING:
    from finitewidth.checks.exceptions import InputError
    from finitewidth.data import Dataset
    from finitewidth.inference.methods import Method, Noise
    from finitewidth.jobs import Job
    from finitewidth.networks import Network

_MOST_LAYERS = 1000
_OF_COLUMNS = ("target", "columns", "drop", "encode")


@overload
def _text(metavar: str, meaning: str, default: str) -> str: ...


@overload
def _text(metavar: str, meaning: str) -> str | None: ...


def _text(metavar: str, meaning: str, default: str | None = None) -> str | None:
    """A field that is an option of one text; the command line reads its name and its help from here."""
    return dataclasses.field(default=default, metadata={"metavar": metavar, "help": meaning})


def _flag(meaning: str) -> bool:
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
    network: str = _text("KIND", "fc, cnn, lcn, or module:Class. Default: fc.", "fc")
    depth: str | None = _text("L", "Hidden layers. Default: 1.")
    width: str | None = _text("N,N,..", "One network a width, every hidden layer that wide. Default: 100.")
    widths: str | None = _text("N1,N2,..", "One network with these layer widths.")
    activation: str = _text("NAME", "erf, relu, linear, tanh, gelu, ... Default: erf.", "erf")
    precision: str = _text("X", "Prior precision of all weights, or lambda_0,..,lambda_L. Default: 1.0.", "1.0")
    offset_precision: str | None = _text("X", "Prior precision of offsets (biases). Default: no offsets.")
    readout: str = _text("KIND", "standard (1/sqrt(N)) or mean-field (1/N). Default: standard.", "standard")
    patch: str | None = _text("8|8x8", "Size of a patch (cnn, lcn).")
    stride: str | None = _text("8|8x8", "Step between patches (cnn, lcn). Default: the patch.")
    padding: str | None = _text("KIND", "none, same, or zeros on either side: 1, 1x1 (cnn, lcn).")
    pool: str | None = _text("KIND", "none or average (cnn, lcn). Default: none.")
    input_shape: str | None = _text("16x16x1", "Height, width, channels (cnn, lcn). Default: as in the data.")
    temperature: str = _text("T,T,..", "Variance of the Gaussian likelihood. Default: 0.05.", "0.05")
    memory: str | None = _text("8GB", "Refuse what would need more. Default: what is free.")
    time: str | None = _text("2h", "Refuse what would take longer. Default: 1h.")
    likelihood: str | None = _text("MODULE:CLASS", "A likelihood of your own. Default: Gaussian noise.")
    json: bool = _flag("Print one JSON document.")


@dataclass(frozen=True)
class TheoryOptions:
    """Settings of the methods of theory."""

    closure: str | None = _text("NAME", "Of deep networks: nested or product. Default: nested, one output.")
    solver: str | None = _text("KIND", "auto, exact, or krylov for many points; krylov:0.001 for 0.1 %.")
    particles: str | None = _text("M", "Of method neuron: neurons followed at once. Default: as the data ask for.")
    response: str | None = _text("KIND", "Of method neuron: auto, quadratic or nonlinear. Default: auto.")
    neurons: str | None = _text("M", "Of method first-order: the most that are drawn, a layer. Default: 200000.")
    tolerance: str | None = _text("X", "Of method first-order: standard error wanted at N = P. Default: 0.01.")
    seeds: str | None = _text("K", "Of methods neuron and train: solutions or networks. Default: 1 and 8.")


@dataclass(frozen=True)
class SamplingOptions:
    """Settings of method sample. ``--seed`` decides its random numbers too."""

    sampler: str | None = _text("NAME", "collapsed, langevin, langevin-unadjusted or nuts. Default: collapsed.")
    chains: str | None = _text("C", "Chains; R-hat needs two. Default: 4.")
    draws: str | None = _text("D", "Draws kept of each chain. Default: 500.")
    warmup: str | None = _text("D", "Iterations of adaptation before them. Default: 300 or 500.")
    step_size: str | None = _text("X", "Fixed step size. Default: adapted.")


@dataclass(frozen=True)
class TrainingOptions:
    """Settings of method train; temperature 0 is no weight decay."""

    optimiser: str | None = _text("NAME", "adam, sgd or langevin. Default: adam.")
    learning_rate: str | None = _text("X", "Step size of training. Default: chosen.")
    momentum: str | None = _text("X", "Of sgd. Default: 0.")
    batch: str | None = _text("B", "Points of a mini-batch. Default: all.")
    steps: str | None = _text("K", "Of training. Default: 2000.")
    hold_out: str | None = _text("X", "Part of the training points kept for early stopping. Default: none.")
    patience: str | None = _text("K", "Steps without a smaller held-out error before a network stops.")


@dataclass(frozen=True)
class _Shown:
    checkpoint: str | None = _text("DIR", "Save long runs here, and go on from what is saved.")
    figure: str | None = _text("FILE", "Draw the result: .png, .pdf or .svg.")


@dataclass(frozen=True)
class PredictOptions(_Shown, TrainingOptions, SamplingOptions, TheoryOptions, JobOptions):
    """The options of ``finitewidth predict``."""

    method: str = _text(
        "NAME", "saddle, integrate, infinite, neuron, first-order, sample, train, module:Class.", "saddle"
    )


@dataclass(frozen=True)
class SampleOptions(_Shown, SamplingOptions, JobOptions):
    """The options of ``finitewidth sample``: those of ``predict --method sample``."""

    method: ClassVar[str] = "sample"


@dataclass(frozen=True)
class TrainOptions(_Shown, TrainingOptions, JobOptions):
    """The options of ``finitewidth train``: those of ``predict --method train``."""

    method: ClassVar[str] = "train"
    seeds: str | None = _text("K", "Networks, started from seeds 0, 1, ... Default: 8.")


@dataclass(frozen=True)
class CompareOptions(_Shown, TrainingOptions, SamplingOptions, TheoryOptions, JobOptions):
    """The options of ``finitewidth compare``."""

    methods: str = _text(
        "A,B", "Methods side by side; the last is the reference. Default: saddle,sample.", "saddle,sample"
    )


# how the settings of methods are read: name -> reader of its text
_READ: dict[str, Callable[[str, str], Any]] = {
    **dict.fromkeys(("closure", "solver", "response", "sampler", "optimiser"), lambda option, text: text),
    **dict.fromkeys(("particles", "neurons", "seeds", "chains", "draws", "batch", "steps", "patience"), values.whole),
    **dict.fromkeys(("warmup", "seed"), values.whole_from_zero),
    **dict.fromkeys(("step_size", "learning_rate", "tolerance"), values.positive),
    **dict.fromkeys(("momentum", "hold_out"), values.from_zero),
}


def methods_of(options: PredictOptions | SampleOptions | TrainOptions | CompareOptions) -> list[Method]:
    """The method of a command, or those that are compared.

    Raises InputError for values that cannot be, and for a setting that belongs to none of them.
    """
    from finitewidth.checks.exceptions import InputError

    names = options.methods.split(",") if isinstance(options, CompareOptions) else [options.method]
    if isinstance(options, CompareOptions) and len(names) < 2:
        raise InputError(f"--methods {options.methods!r}", "two of them at least", f"write --methods {names[0]},sample")
    classes = [_method_class(name.strip()) for name in names]
    taken = [{field.name for field in dataclasses.fields(kind)} for kind in classes]
    given = {name: text for name in _READ if (text := getattr(options, name, None)) is not None}
    for name in given:
        if name != "seed" and not any(name in fields for fields in taken):
            raise _of_another_method(name, names, set().union(*taken))
    return [
        kind(
            **{name: _READ[name](f"--{name.replace('_', '-')}", text) for name, text in given.items() if name in fields}
        )
        for kind, fields in zip(classes, taken, strict=True)
    ]


def _of_another_method(setting: str, methods: list[str], theirs: set[str]) -> InputError:
    from finitewidth.checks.exceptions import InputError
    from finitewidth.jobs import METHODS, method_class

    option = f"--{setting.replace('_', '-')}"
    own = ", ".join(f"--{name.replace('_', '-')}" for name in _READ if name in theirs)
    others = [name for name in METHODS if setting in {field.name for field in dataclasses.fields(method_class(name))}]
    return InputError(
        f"{option} with method {', '.join(methods)}",
        f"one of its settings ({own})" if own else "no such option, for it has none",
        f"leave {option} out, or use method {' or '.join(others)}",
    )


def _method_class(name: str) -> type[Method]:
    from finitewidth.inference.methods import Method
    from finitewidth.jobs import method_class

    if values.is_import_path(name):
        return values.imported("--method", name, Method)  # type: ignore[type-abstract]
    return method_class(name)


@dataclass(frozen=True)
class Command:
    """Options that have passed their checks. layer_widths: given with --widths, None otherwise.

    noise: temperatures, or likelihoods of the user's own.
    """

    source: str
    data_options: dict[str, Any]
    network: Network
    widths: list[int]
    layer_widths: list[int] | None
    noise: list[Noise]
    memory: float | None

    @property
    def temperatures(self) -> list[float]:
        """T of each."""
        from finitewidth.inference.likelihoods import Likelihood

        return [noise.temperature if isinstance(noise, Likelihood) else noise for noise in self.noise]

    @property
    def curve_widths(self) -> list[int] | None:
        """Widths of a learning curve; None with --widths, where the network has its own."""
        return None if self.layer_widths else self.widths

    def load(self) -> tuple[Dataset, Dataset]:
        """The training and the test part."""
        from finitewidth.data import load

        return load(self.source, **self.data_options)

    def job(self, method: Method, progress: bool = False, checkpoint: str | None = None) -> Job:
        """What is to be done with the data. Raises InputError for what the method does not serve."""
        from finitewidth.jobs import Job

        return Job.of(
            self.network,
            self.noise,
            method,
            self.curve_widths,
            memory=self.memory,
            progress=progress,
            checkpoint=checkpoint,
        )


def command_of(options: JobOptions) -> Command:
    """Check everything that can be checked without the data and the method; raises InputError."""
    from finitewidth.linalg import memory_cap

    layers, widths = _layers(options)
    network = _network(options, layers)
    memory = memory_cap(options.memory)
    source, data_options = _data(options, memory)
    layer_widths = None if options.widths is None else layers
    return Command(source, data_options, network, widths, layer_widths, _noise(options), memory)


def _noise(options: JobOptions) -> list[Noise]:
    temperatures = values.numbers("--temperature", options.temperature)
    if options.likelihood is None:
        return list(temperatures)
    from finitewidth.inference.likelihoods import Likelihood

    kind: Callable[[float], Likelihood]
    kind = values.imported("--likelihood", options.likelihood, Likelihood)  # type: ignore[type-abstract]
    return [kind(temperature) for temperature in temperatures]


def study_data(classes: str | None, n_train: str | None, n_test: str | None, seed: str | None) -> dict[str, Any]:
    """The options of a study's data that were given, by name; raises InputError."""
    given = {
        "classes": values.optional(values.names, "--classes", classes),
        "n_train": values.optional(values.whole, "--n-train", n_train),
        "n_test": values.optional(values.whole, "--n-test", n_test),
        "seed": values.optional(values.whole_from_zero, "--seed", seed),
    }
    return {name: value for name, value in given.items() if value is not None}


# --- network ------------------------------------------------------------------------------------------


def _layers(options: JobOptions) -> tuple[list[int], list[int]]:
    """The layer widths of the first network, and the width of every network (one of them with --widths)."""
    from finitewidth.checks.exceptions import InputError

    depth = None if options.depth is None else values.one(values.whole_numbers, "--depth", options.depth)
    if depth is not None and depth > _MOST_LAYERS:
        raise InputError(f"--depth {depth}", f"at most {_MOST_LAYERS} hidden layers", "write --depth 2, for example")
    if options.widths is None:
        widths = values.whole_numbers("--width", "100" if options.width is None else options.width)
        return [widths[0]] * (depth or 1), widths
    if options.width is not None:
        raise InputError(
            f"--width {options.width} and --widths {options.widths}",
            "only one of them",
            "--width is one network a width, --widths one network with one width a layer",
        )
    layers = values.whole_numbers("--widths", options.widths)
    if depth not in (None, len(layers)):
        raise InputError(
            f"--depth {depth} and --widths {options.widths}",
            f"{depth} widths, or no depth",
            "leave --depth out",
        )
    return layers, layers[:1]


def _network(options: JobOptions, layers: list[int]) -> Network:
    from finitewidth.networks import Network
    from finitewidth.networks.build import network_of

    precision = values.numbers("--precision", options.precision)
    offset = options.offset_precision
    own = values.is_import_path(options.network)
    kind = values.imported("--network", options.network, Network) if own else options.network
    return network_of(
        kind,
        layers,
        activation=options.activation,
        precision=precision[0] if len(precision) == 1 else precision,
        offset_precision=None if offset is None else values.one(values.numbers, "--offset-precision", offset),
        readout=options.readout,
        patch=values.size("--patch", options.patch),
        stride=values.size("--stride", options.stride),
        padding=_padding(options.padding),
        pool=options.pool,
        input_shape=None if options.input_shape is None else values.sizes("--input-shape", options.input_shape),
    )


def _padding(text: str | None) -> str | int | tuple[int, ...] | None:
    """none, same, or numbers of zeros."""
    return values.size("--padding", text) if text and text[0].isdecimal() else text


# --- data ---------------------------------------------------------------------------------------------


def _data(options: JobOptions, memory: float | None) -> tuple[str, dict[str, Any]]:
    from finitewidth import checks
    from finitewidth.checks.exceptions import InputError
    from finitewidth.data.columns import STRATEGIES
    from finitewidth.data.csv_file import checked_delimiter
    from finitewidth.data.loaders import BUILT_IN, loader_of, refuse_unknown

    if not options.data:
        raise InputError("no --data", "digits, mnist, openml:NAME, a file or a folder", "write --data digits")
    loader_of(options.data)  # refuses data that are not there before it speaks of their options
    if options.standardise is not None:
        checks.choice("standardise", options.standardise, ("none", "global", "feature"))
    if options.task is not None:
        checks.choice("task", options.task, ("regression", "classification"))
    if options.impute is not None:
        checks.choice("impute", options.impute, STRATEGIES)
    given: dict[str, Any] = {
        **{name: values.optional(values.columns, f"--{name}", getattr(options, name)) for name in _OF_COLUMNS},
        "delimiter": None if options.delimiter is None else checked_delimiter(options.delimiter),
        "impute": options.impute,
        "task": options.task,
        "classes": values.optional(values.names, "--classes", options.classes),
        "n_train": values.optional(values.whole, "--n-train", options.n_train),
        "n_test": values.optional(values.whole, "--n-test", options.n_test),
        "seed": values.optional(values.whole_from_zero, "--seed", options.seed),
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
