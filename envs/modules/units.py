"""Units: how channels that a network treats as groups are removed, whole groups or the same ones of each.

Which unit is better follows from the sizes, and a cut changes them. So a cut network remembers its units, in
an attribute of the modules, which copies and pickles of it keep. It is then cut by the same units again.
"""

from collections.abc import Mapping

from torch import nn

WHOLE_GROUPS, EACH_GROUP = "whole groups", "each group"
"""Units of a grouped convolution: whole groups, as in a depthwise one, or the same channels of each group."""

Units = Mapping[str, Mapping[str, str]]
"""By dotted module name, the unit of each of its operations."""

_ATTRIBUTE = "_units"


def unit_of(module: nn.Module, operation: str) -> str | None:
    """Return the unit that a module remembers; None if it has not been cut.

    Args:
        module: A module.
        operation: Name of a weight of a grouped convolution, or of another operation of the module.
    """
    units = vars(module).get(_ATTRIBUTE)
    return units.get(operation) if isinstance(units, dict) else None


def unit_of_convolution(groups: int, channels_per_group: int) -> str:
    """Choose the unit of a grouped convolution before any cut: whole groups if they are many and small."""
    return WHOLE_GROUPS if groups >= channels_per_group else EACH_GROUP


def remember_unit(module: nn.Module, operation: str, unit: str) -> None:
    """Make a module remember the unit of an operation."""
    setattr(module, _ATTRIBUTE, {**vars(module).get(_ATTRIBUTE, {}), operation: unit})


def remember_units(model: nn.Module, units: Units) -> None:
    """Make the modules of a network remember their units; modules that it does not have are passed over."""
    for name, module in model.named_modules(remove_duplicate=False):
        for operation, unit in units.get(name, {}).items():
            remember_unit(module, operation, unit)
