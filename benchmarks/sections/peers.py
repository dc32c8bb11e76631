"""The other methods beside their papers: ``benchmarks/peers.py``."""

from __future__ import annotations

from sections.markdown import Results, cell, parts, table


def render(results: Results) -> str:
    kinds = {"gmacs_8": "GMACs, 8 frames", "gmacs_16": "16 frames", "parameters": "M parameters"}
    costs = [
        [f"{name}_resnet50", *(v for k in kinds for v in (row[k], cell(row[f"published_{k}"])))]
        for name, row in results["models"].items()
    ]
    official = [
        [row["source"], row["commit"].split("==")[-1][:12], row["model"], row["largest_difference"]]
        for row in results["official"].values()
    ]
    return parts(
        f"""Beside what the papers print for ResNet-50, at {results["num_classes"]} classes. The
        published parameters of TSN, TSM, TEINet and TANet are those of 400 classes: 0.46 M more, by
        the classifier alone.""",
        table(["model", *(h for kind in kinds.values() for h in (kind, "published"))], costs),
        """Checkpoints of the official code, made model files by `gtdnet convert`: the largest
        difference of a logit to what the official code computes, as a share of the logits' standard
        deviation, in float32.""",
        table(["official code", "version", "model here", "largest difference"], official),
    )
