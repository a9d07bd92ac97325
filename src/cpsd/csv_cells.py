"""Names in tables that a spreadsheet may open."""

_STARTS = ("=", "+", "-", "@", "\t", "\r")


def as_text(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula: ``'`` stands before one that it would.

    Example:
        >>> as_text("=cmd()"), as_text("it's"), as_text("'=quoted"), as_text("-1 cat")
        ("'=cmd()", "it's", "''=quoted", "'-1 cat")
    """
    # With marks of one's own doubled, what was written can be read back.
    return f"'{cell}" if cell.lstrip("'").startswith(_STARTS) else cell


def from_text(cell: str) -> str:
    """Return the cell that ``as_text`` was given.

    Example:
        >>> from_text("'=cmd()"), from_text("it's"), from_text("''=quoted")
        ('=cmd()', "it's", "'=quoted")
    """
    return cell[1:] if cell[:1] == "'" and cell.lstrip("'").startswith(_STARTS) else cell
