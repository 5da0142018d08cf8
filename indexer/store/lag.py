"""How far a chain is behind, as the API and the metrics tell it."""


def lag(head: str, tip: str, seen: str) -> str:
    """SQL of the seconds that a chain is behind; null while that is unknown, which ``greatest()`` alone passes over.

    Args:
        head: SQL of the time of the nodes' newest block.
        tip: SQL of the time of the newest indexed one.
        seen: SQL of when the nodes were last heard of.
    """
    behind = f"{head} - {tip}"
    return f"CASE WHEN {behind} IS NOT NULL THEN greatest(0, extract(epoch FROM {behind} + (now() - {seen}))) END"
