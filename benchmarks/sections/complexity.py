"""What the networks cost: ``benchmarks/complexity.py``."""

from __future__ import annotations

from sections.markdown import Results, parts, table

_MEMORY = ("inference_mib", "training_mib")


def render(results: Results) -> str:
    heads = ["model", "frames", "M parameters", "GMACs", "MiB inference", "MiB training"]
    costs = [
        [name, frames, cost["m_parameters"], cost["gmacs"], *map(cost.get, _MEMORY)]
        for name, by_frames in results["models"].items()
        for frames, cost in by_frames.items()
    ]
    sizes = results["gtdnet_m_parameters"]
    reductions = [f"r = {r}" for r in next(iter(sizes.values()))]
    size = results["crop_size"]
    nearest = [list(reading.values()) for reading in results.get("gtdnet_nearest", ())]
    return parts(
        f"""Of one view of {size}x{size} pixels at {results["num_classes"]} classes. The numbers
        follow from the architecture alone, so the machine does not matter. GMACs: billions of
        multiply-accumulates, which this field's papers print as GFLOPs; a protocol costs as many
        times that as it has views. Batch norms, activations, pooling and gates are not counted.
        MiB: activations of one clip in float32, the clip included: the most that is alive at one
        time in inference, and what training keeps for the backward pass. GTDNet's attention
        matrices are among them; fused kernels do without. Weights, optimizer and the convolutions'
        work space come on top. For any model, size and protocol: `gtdnet models --complexity`.""",
        table(heads, costs),
        """Millions of parameters of `gtdnet_resnet50` by aggregation and reduction r; the paper
        says 33.9 ([fidelity.md](fidelity.md)):""",
        table(["aggregation", *reductions], [[name, *row.values()] for name, row in sizes.items()]),
        """And the readings whose parameters come nearest to that, GTD blocks in all residual blocks
        or in every second one among them:""",
        table(
            [
                "aggregation",
                "r",
                "in every n-th block",
                "M parameters",
                *(f"GMACs, {frames} frames" for frames in (8, 16)),
            ],
            nearest,
        ),
    )
