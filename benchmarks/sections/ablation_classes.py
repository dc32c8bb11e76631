"""Which classes the variants tell apart: ``benchmarks/ablation_classes.py``."""

from __future__ import annotations

from sections.markdown import Results, parts, table


def render(results: Results) -> str:
    means, deviations = results["means"], results["standard_deviations"]
    heads = {
        "top1_neighbouring": "top-1, neighbouring frames",
        "top1_whole_clip": "top-1, whole clip",
        "group": "group",
        "order_neighbouring": "order, neighbouring frames",
        "order_whole_clip": "order, whole clip",
    }
    gates = ("gate_from_half", "gate_sd_within_clip", "gate_sd_between_clips")
    rows = [
        [
            variant,
            *(f"{mean[k]} ± {deviations[variant].get(k, '-')}" for k in heads),
            *map(mean.get, gates),
        ]
        for variant, mean in means.items()
    ]
    return parts(
        f"""Of the classes that neighbouring frames tell apart and of those that only the whole clip
        does, on {results["validation_clips"]} clips; in %, mean ± sample standard deviation over
        the seeds. Group: how often the best class is of the clip's own group, whose classes show
        the same frames in another order. Order: how often, of the classes of that group alone, the
        right one scores best; guessing gives 50 % by neighbouring frames, 40 % by the whole clip.
        Gates: mean distance from 1/2, where they begin, and standard deviation over the frames of a
        clip and between clips.""",
        table(["variant", *heads.values(), "gates from 1/2", "within clip", "between clips"], rows),
    )
