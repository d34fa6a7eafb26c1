"""Options as one flat mapping: the names of the flags, as in ``config.yaml`` and in files for ``--config``.

A verb is a dataclass. Its options are its fields, and the fields of dataclasses that are nested in it.
"""

import dataclasses
import inspect
import types
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, is_dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from tyro.constructors import PrimitiveConstructorSpec

from ...envs.io.run_files import CONFIG, no_run
from ...envs.io.suggestions import did_you_mean
from ...envs.io.untrusted import read_yaml, short

T = TypeVar("T")

NOT_OPTIONS = ("verb", "command", "version", "dense_weights", "examples", "agent_weights")
"""Keys of ``config.yaml`` that say where it comes from; the last three are of :class:`.origin.Origin`."""

_GROUPS_OF_01 = ("data", "latency", "constraints", "limits")
"""Keys of ``config.yaml`` of version 0.1 that hold mappings of options."""

_KINDS = {int: "a whole number", float: "a number", str: "a text", Path: "a path", bool: "true or false"}


@dataclass(frozen=True)
class Option:
    """An option of a verb.

    Args:
        name: Name of the field, with underscores.
        kind: Its type hint, with annotations.
        default: The default; :data:`dataclasses.MISSING` if the option is required.
        group: The dataclass that declares the field; for an inherited field, the base class.
    """

    name: str
    kind: Any
    default: Any
    group: type

    @property
    def flag(self) -> str:
        """The flag of the command line."""
        return f"--{self.name.replace('_', '-')}"


def options_of(kind: type, default: Any = None) -> Iterator[Option]:
    """List the options of a dataclass and of those nested in it.

    Args:
        kind: The dataclass.
        default: An instance with the defaults; None takes those of the fields.
    """
    hints = get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        value = _default(field) if default is None else getattr(default, field.name)
        if is_dataclass(hints[field.name]):
            yield from options_of(hints[field.name], None if value is MISSING else value)
        else:
            yield Option(field.name, hints[field.name], value, _declares(kind, field.name))


def _default(field: "dataclasses.Field[Any]") -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _declares(kind: type, name: str) -> type:
    return next(base for base in kind.__mro__ if name in inspect.get_annotations(base))


def flat_options(verb: Any) -> dict[str, Any]:
    """Return the options of a verb by name, as YAML holds them: paths are strings, tuples are lists.

    Args:
        verb: The verb, an instance of a dataclass.
    """
    return {name: _plain(value) for name, value in values_of(verb).items()}


def values_of(verb: Any) -> dict[str, Any]:
    """Return the options of a verb by name, as they are."""
    return {option.name: option.default for option in options_of(type(verb), verb)}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def from_flat(kind: type[T], values: Mapping[str, Any]) -> T:
    """Restore a verb from its options; it has the default of each option that is not given.

    Args:
        kind: The verb's class, a dataclass.
        values: Options by name, as :func:`flat_options` returns them.

    Raises:
        ValueError: If an option is unknown, has the wrong type, or is required and missing.
    """
    given = convert_options(kind, values)
    for option in options_of(kind):
        if option.default is MISSING and option.name not in given:
            raise ValueError(f"the option {option.name} is missing")
    return build(kind, {option.name: option.default for option in options_of(kind)} | given)


def convert_options(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert values from YAML to the types of a verb's options.

    Args:
        kind: The verb's class, a dataclass.
        values: Some of its options by name.

    Raises:
        ValueError: If an option is unknown, or has the wrong type.
    """
    options, converted = {option.name: option for option in options_of(kind)}, {}
    for name, value in values.items():
        if name not in options:
            raise ValueError(f"there is no option {short(str(name))!r}{did_you_mean(str(name), options)}")
        converted[name] = convert_option(name, options[name].kind, value)
    return converted


def convert_option(name: str, kind: Any, value: Any) -> Any:
    """Convert a value to the type of one option.

    Args:
        name: Name of the option, for the message.
        kind: Its type hint.
        value: The value; see :func:`convert`.

    Raises:
        ValueError: If the value does not fit.
    """
    try:
        return convert(kind, value)
    except ValueError:
        raise ValueError(f"{name} is {short(repr(value))}; give {in_words(kind)}") from None


def build(kind: type[T], values: Mapping[str, Any]) -> T:
    """Build a verb and the dataclasses that are nested in it.

    Args:
        kind: The verb's class, a dataclass.
        values: All options by name, of their types.

    Raises:
        ValueError: If the verb refuses a value.
    """
    hints = get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    return kind(**{n: build(hints[n], values) if is_dataclass(hints[n]) else values[n] for n in names})


def convert(kind: Any, value: Any) -> Any:
    """Convert a value from YAML to the type of an option.

    Args:
        kind: A type hint.
        value: The value. A list is for a tuple, a string for a path. A single entry may stand for a list. A
            string may stand for a number, as YAML reads 1e-3 as one; and a number in a list for a string, as
            in ``round_to: [8, conv1=4]``. NumPy's numbers become Python's.

    Raises:
        ValueError: If the value does not fit.
    """
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        specs = [each for each in args[1:] if isinstance(each, PrimitiveConstructorSpec)]
        if specs and isinstance(value, str):  # a number with a percent sign
            return specs[0].instance_from_str([value])
        return convert(args[0], value)
    if origin in (Union, types.UnionType):
        return _converted_to_any(args, value)
    if origin is tuple:
        return _converted_entries(args, value)
    if kind is float and isinstance(value, (Real, str)) and not isinstance(value, bool):
        return _as_float(value)
    if kind is int and isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    is_whole = kind is not int or not isinstance(value, bool)  # in Python, True is an int
    fits = value in args if origin is Literal else kind is Any or isinstance(value, origin or kind)
    if not (fits and is_whole):
        raise ValueError
    return value


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError as error:  # a whole number of hundreds of digits
        raise ValueError from error


def _converted_to_any(kinds: tuple[Any, ...], value: Any) -> Any:
    for kind in kinds:
        try:
            return convert(kind, value)
        except ValueError:
            continue
    raise ValueError


def _converted_entries(kinds: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    if kinds[-1] is not Ellipsis:
        if not isinstance(value, (list, tuple)) or len(value) != len(kinds):
            raise ValueError
        return tuple(convert(kind, entry) for kind, entry in zip(kinds, value, strict=True))
    entries = value if isinstance(value, (list, tuple)) else [value]
    if kinds[0] is str:
        entries = [str(entry) if type(entry) in (int, float) else entry for entry in entries]
    return tuple(convert(kinds[0], entry) for entry in entries)


def in_words(kind: Any) -> str:
    """Say what values an option takes, such as "a whole number"."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return next((each for each in args[1:] if isinstance(each, str)), in_words(args[0]))
    if origin in (Union, types.UnionType):
        return " or ".join(in_words(each) for each in args if each is not types.NoneType)
    if origin is Literal:
        return f"{'one of ' if len(args) > 1 else ''}{', '.join(map(str, args))}"
    if origin is tuple:
        number = "a list of" if args[-1] is ... else {2: "two", 3: "three"}.get(len(args), f"{len(args)}")
        noun, such_as, examples = in_words(args[0]).removeprefix("a ").partition(" such as ")
        return f"{number} {noun}s{such_as}{examples}"
    return _KINDS.get(kind, getattr(kind, "__name__", str(kind)))


def read_config(folder: Path) -> dict[str, Any]:
    """Read the options of a run, by name, and the :data:`NOT_OPTIONS`.

    Raises:
        ValueError: If the folder is not that of a run.
    """
    file = folder / CONFIG
    if not file.is_file():
        raise ValueError(no_run(folder))
    return read_flat(file)


def read_flat(file: Path) -> dict[str, Any]:
    """Read a YAML file of options; the groups of options that version 0.1 wrote are dissolved.

    Raises:
        ValueError: If it is not a mapping.
    """
    content = read_yaml(file)
    if not isinstance(content, dict):
        raise ValueError(f"{file} has no options; it has to be a mapping such as `epochs: 5`")
    flat: dict[str, Any] = {}
    for name, value in content.items():
        flat |= value if name in _GROUPS_OF_01 and isinstance(value, dict) else {name: value}
    return flat
