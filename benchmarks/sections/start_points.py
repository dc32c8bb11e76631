"""What a good start is worth: ``benchmarks/start_points.py``."""

from __future__ import annotations

from sections.markdown import Results, listed, parts, table


def render(results: Results) -> str:
    means, deviations = results["val_top1_mean"], results["val_top1_stdev"]
    names = {
        "tsm": "a TSM that knows the easy edition, by `--init-from`",
        "stills": "a 2D network that knows the shapes, by `--pretrained`",
        "random": "random weights",
    }
    rows = [
        [names.get(s, s), *(f"{m} ± {d}" for m, d in zip(means[s], deviations[s], strict=True))]
        for s in means
    ]
    runs = len(next(iter(results["val_top1_by_seed"].values())))
    return parts(
        f"""A GTDNet learns {results["classes"]} actions of the built-in data (`full`) from three
        starts, on the same {results["training_clips"]} clips; top-1 in % on
        {results["validation_clips"]} others after each epoch, mean ± sample standard deviation of
        {runs} runs.""",
        table(["start", *(f"{steps} steps" for steps in results["steps"])], rows),
        f"""Top-1 in % after each epoch of what they start from: the TSM, begun from the demo's 2D
        weights, {listed(results["tsm_on_easy_top1"])}; the same from random weights
        {listed(results["tsm_from_random_on_easy_top1"])}; the 2D network, on the shapes in single
        frames, {listed(results["shapes_of_stills_top1"])}.""",
    )
