"""Numbers and their nouns in sentences."""


def counted(number: float, noun: str, plural: str = "") -> str:
    """Return a number and its noun, such as ``1 layer``, ``1,200 layers`` or ``0.5 passes``.

    Args:
        number: The number; without a point if it is whole.
        noun: The noun for one.
        plural: The noun for all other numbers; by default with an s.
    """
    said = f"{int(number):,}" if number == int(number) else f"{number:g}"
    return f"{said} {noun if number == 1 else plural or noun + 's'}"
