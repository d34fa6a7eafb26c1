"""``--config FILE``: options from a YAML file, such as the ``config.yaml`` of a run."""

from pathlib import Path
from typing import Any

from ...envs.io.untrusted import short
from ..run.flat_options import NOT_OPTIONS, convert_options, read_flat


def read_config_file(file: Path, verb: str, kind: type) -> dict[str, Any]:
    """Read options of a verb from a YAML file.

    Args:
        file: A mapping of the flags' names, with underscores or dashes, to values. Other keys of a run's
            ``config.yaml``, such as ``verb``, are skipped.
        verb: Name of the verb.
        kind: Its class, a dataclass.

    Returns:
        The options by name, of their types.

    Raises:
        ValueError: If the file cannot be read or is of another verb, or if an option is unknown or has the
            wrong type.
    """
    if not file.is_file():
        raise ValueError(f"there is no file {file}; give --config a YAML file of options")
    content = read_flat(file)
    if content.get("verb", verb) != verb:
        other = short(str(content["verb"]))
        raise ValueError(f"{file} is for the verb {other}; give one for {verb}, or leave its verb out")
    given = {str(name).replace("-", "_"): value for name, value in content.items() if name not in NOT_OPTIONS}
    try:
        return convert_options(kind, given)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
