"""Seeds: every random choice has its own, derived from the run's seed and the choice's name."""

import hashlib


def derive_seed(seed: int, *keys: str | int) -> int:
    """Return a 63-bit seed for the choice that ``keys`` name, the same on every machine.

    Choices with different keys are independent of each other; nothing reads a global generator.

    Example:
        >>> derive_seed(0, "order", 3) == derive_seed(0, "order", 3)
        True
        >>> derive_seed(0, "order", 3) == derive_seed(0, "order", 4)
        False
    """
    text = "\0".join([str(seed), *(f"{type(key).__name__}:{key}" for key in keys)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
