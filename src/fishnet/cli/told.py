"""How checks are printed: columns, and lists of what is wrong."""

from collections.abc import Sequence

LINES = 20  # of each list


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns: the first and a last one of texts to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    texts = {0, *({len(widths) - 1} if rows[0][-1] == "formats" else ())}
    return [
        "  ".join(
            cell.ljust(width) if i in texts else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def listed(title: str, wrong: Sequence[str]) -> list[str]:
    """A title with a count and the first lines of a list; nothing for an empty one."""
    if not wrong:
        return []
    more = [f"... and {len(wrong) - LINES:,} more (--json gives all)"] if len(wrong) > LINES else []
    return ["", f"{title} ({len(wrong):,}):", *(f"  {line}" for line in [*wrong[:LINES], *more])]
