"""What ``gtdnet bench`` writes."""

from __future__ import annotations

from sections.markdown import Results, parts, table


def render(results: Results) -> str:
    from gtdnet.bench.result import blocks

    if results["bench"] == "several":
        return _several(results)
    results = {**results, "cases": [_what_explains(case) for case in results.get("cases", [])]}
    told = [*_peaks(results), *blocks(results)]
    return "\n\n".join(
        "\n".join(map(parts, block.splitlines()))
        if isinstance(block, str)
        else table(block[0], block[1:])
        for block in told
    )


def _several(results: Results) -> str:
    """Several benches that were run one after the other."""
    told = [
        f"### {part['title']}\n\n`{part['command']}`\n\n{render(part)}" for part in results["parts"]
    ]
    failed = [parts(f"- {title}: {reason}") for title, reason in results["failed"].items()]
    return "\n\n".join([*told, "\n".join(["Not measured:", *failed])] if failed else told)


def _peaks(results: Results) -> list[str]:
    """What GFLOP/s are a share of."""
    peaks = [peak for peak in results.get("peak_gflops", []) if peak["gflops"]]
    several = len({peak["threads"] for peak in peaks}) > 1
    told = [
        f"{peak['gflops']:.0f} in {peak['precision']}"
        + (f" with {peak['threads']} threads" if several else "")
        for peak in peaks
    ]
    if not told:
        return []
    return [f"The most GFLOP/s seen here, of large products and convolutions: {', '.join(told)}."]


def _what_explains(case: Results) -> Results:
    """A case with no more of its profile than the comparison with the floor; the file has all."""
    compared = any("floor_ms" in kind for kind in case.get("kinds", []))
    left_out = {"operators"} if compared else {"operators", "kinds"}
    return {key: value for key, value in case.items() if key not in left_out}
