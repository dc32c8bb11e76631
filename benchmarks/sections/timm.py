"""Networks of timm: ``benchmarks/timm_networks.py``."""

from __future__ import annotations

from sections.markdown import Results, parts, table


def render(results: Results) -> str:
    """``benchmarks/timm_networks.py``."""
    networks = results["networks"]
    found = {name: row for name, row in networks.items() if "refused" not in row}
    heads = ["network", "M", "modules", "first", "of stages", "pixels"]
    differences = ["features", "identity", "shift", "file", "onnx"]
    rows = [
        [
            name, row["m_parameters"], row["modules"], f"`{row['first']}`",
            ", ".join(f"{stage}: {number}" for stage, number in row["stages"].items()),
            row["size"], *(row.get(name, "-") for name in differences),
        ]
        for name, row in found.items()
    ]  # fmt: skip
    return parts(
        """Networks of timm ([backbones.md](backbones.md)), with random numbers in all weights, and
        what differs, at most, in units of the largest number compared: features of
        `tsn_timm/NAME` from timm's own before its classifier; logits of a fresh `gtdnet_timm/NAME`
        from `tsm_timm/NAME` (identity), and from `tsn_timm/NAME` (shift: that must differ); of a
        model file, read again, from the model; of some an ONNX file from the model. M: millions of
        parameters, timm's classifier included.""",
        table([*heads, *differences], rows),
        "Refused, and what is said:",
        table(
            ["network", "what is said"],
            [[name, row["refused"]] for name, row in networks.items() if "refused" in row],
        ),
    )
