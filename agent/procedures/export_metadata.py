"""What an exported file says about itself: source, classes, and how its input is prepared."""

import math
from pathlib import Path
from typing import Any

from ...envs.io.run_files import REPORT
from ...envs.io.untrusted import first_line, parse_json, read_text

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]

PIXEL_SCALE = 1 / 255
"""Factor from the values of decoded images, 0 to 255, to pixels in [0, 1], for which mean and std are."""

_LONGEST_NAME = 1000
"""Characters of a class name."""


def export_metadata(folder: Path, *, inside: bool) -> tuple[dict[str, Any], Normalisation | None]:
    """Describe the pruned network of a run for those who will use it.

    Args:
        folder: Folder of a finished prune run.
        inside: Whether the exported network contains the normalisation.

    Returns:
        Values by name: ``source``, ``run``, ``secateur_version``, ``input_shape``, ``input_dtype`` and
        ``preprocessing``, a sentence; where the report has them ``class_names``, and ``mean``, ``std`` and
        ``pixel_scale``. Then mean and standard deviation of each channel; None if the report has none.

    Raises:
        ValueError: If the report is missing or damaged, or has no normalisation that could be inside.
    """
    path = folder / REPORT
    report = parse_json(read_text(path))
    try:
        shape = [int(size) for size in report["input_shape"]]
        classes, normalisation = _class_names(report), _normalisation(report, shape[0])
        source = f"{report['model']} on {report['data']}, pruned by {report['method']}"
        made_with = str(report["versions"]["secateur"])
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not describe a pruned network: {first_line(error)}") from error
    if inside and normalisation is None:
        raise ValueError(
            f"{path} has no normalisation: the task prepares its inputs, or the run is of version 0.1; "
            "leave out --with-preprocessing"
        )
    found: dict[str, Any] = {
        "source": source,
        "run": folder.resolve().name,
        "secateur_version": made_with,
        "input_shape": shape,
        "input_dtype": "uint8" if inside else "float32",
        "preprocessing": _sentence(shape, inside=inside, known=normalisation is not None),
    }
    if classes is not None:
        found["class_names"] = classes
    if normalisation is not None:
        mean, std = normalisation
        found |= {"mean": list(mean), "std": list(std), "pixel_scale": PIXEL_SCALE}
    return found, normalisation


def _sentence(shape: list[int], *, inside: bool, known: bool) -> str:
    size, colours = " x ".join(map(str, shape[1:])), "RGB " if shape[0] == 3 and len(shape) == 3 else ""
    if inside:
        return (
            f"inside the network: give {colours}images of {size} as uint8, 0 to 255; resizing is not included"
        )
    if known:
        formula = "(value * pixel_scale - mean) / std with values from 0 to 255"
        return f"not included: give {colours}images of {size} as {formula}"
    return "not included: give inputs as the task of the training prepared them"


def _class_names(report: dict[str, Any]) -> list[str] | None:
    classes = report.get("classes")
    if classes is None:
        return None
    if not isinstance(classes, list) or len(classes) != report["num_outputs"]:
        raise ValueError("classes have to be a list with a name for each output")
    if not all(isinstance(name, str) and len(name) <= _LONGEST_NAME for name in classes):
        raise ValueError(f"names of classes have to be texts of at most {_LONGEST_NAME} characters")
    return classes


def _normalisation(report: dict[str, Any], channels: int) -> Normalisation | None:
    given = report.get("normalisation")
    if given is None:
        return None
    mean, std = (tuple(float(value) for value in given[key]) for key in ("mean", "std"))
    if not len(mean) == len(std) == channels or not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
        raise ValueError(f"normalisation needs a mean and a positive std for each of {channels} channels")
    return mean, std
