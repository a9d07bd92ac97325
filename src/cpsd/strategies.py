"""Strategies: what labels are cut by, and the controls, by their names.

A control may have copies, which differ in what they draw: ``whole-2`` is a second teacher of all
labels, ``random-3`` a third random partition.
"""

from cpsd.errors import did_you_mean

CUTS = ("co-occurrence", "dis-occurrence")
"""Cuts of the label graph (CPSD, section 3.2)."""
RANDOM = "random"
"""Control: parts of equal size."""
SHUFFLED = "shuffled-"
"""Begins the controls that put random labels into parts as large as those of a cut."""
WHOLE = "whole"
"""Control: all labels in one part."""
CONTROLS = (RANDOM, *(SHUFFLED + cut for cut in CUTS), WHOLE)


def base_strategy(name: str) -> str:
    """Return a strategy without the number that tells copies of a control apart.

    Example:
        >>> base_strategy("whole-12"), base_strategy("dis-occurrence")
        ('whole', 'dis-occurrence')
    """
    base, _, number = name.rpartition("-")
    return base if number.isdecimal() and base in CONTROLS else name


def shuffled_cut(name: str) -> str | None:
    """Return the cut whose sizes a strategy's parts have, None where it is no such control.

    Example:
        >>> shuffled_cut("shuffled-co-occurrence-2"), shuffled_cut("co-occurrence")
        ('co-occurrence', None)
    """
    base = base_strategy(name)
    return base.removeprefix(SHUFFLED) if base.startswith(SHUFFLED) else None


def strategy_fault(name: str) -> str | None:
    """Return what is wrong with the name of a strategy, None where nothing is.

    Example:
        >>> strategy_fault("coocurrence")[:68]
        "there is no strategy 'coocurrence'; there are co-occurrence, dis-occ"
    """
    known = (*CUTS, *CONTROLS)
    if base_strategy(name) in known:
        return None
    return (
        f"there is no strategy '{name}'; there are {', '.join(known)}, of the last "
        f"{len(CONTROLS)} also copies, as 'whole-2'.{did_you_mean(name, known)}"
    )
