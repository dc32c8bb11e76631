"""Cross-validation over groups: ``benchmarks/real_video.py``."""

from __future__ import annotations

from sections.markdown import Results, parts, table


def render(results: Results) -> str:
    """Cross-validation over groups: ``benchmarks/real_video.py``."""
    methods, pairs, folds = results["methods"], results["pairs"], results["folds"]
    if not folds:
        return "No fold has been run by all methods yet."
    heads = ["method", "top-1 %", "95 % interval", "sd of folds", "frames shuffled", "training"]
    figures = [
        [
            name,
            row["top1"],
            "{} to {}".format(*row["interval"]),
            row["sd_of_folds"],
            row["shuffled"],
            row["training"],
        ]
        for name, row in methods.items()
    ]
    compared = [
        [
            f"{pair['first']} minus {pair['second']}",
            pair["difference"],
            "{} to {}".format(*pair["interval"]),
            pair["won"],
            pair["lost"],
            pair["p"],
        ]
        for pair in pairs
    ]
    return parts(
        f"""{results["classes"]} classes; {results["clips"]} answers on held-out clips, in
        {len(folds)} trainings of each method, of groups (`{results["group"]}`) that it has not
        seen; {results["hours"]} hours of one core. Settings:
        `benchmarks/real_video/{results["grid"]}`, the same for all, written down before the first
        run. Weights are those of the last step. The
        answer for every clip is in `benchmarks/results/real_video/`. Shuffled: the same weights
        with the held-out clips' frames in random order. Training: top-1 on augmented training clips
        in the last epoch.""",
        table(heads, figures),
        """Clip by clip: won and lost are the clips that one of the two alone has right, p is
        McNemar's exact test over clips. Clips of one group are not independent, so that p is too
        sure of itself: look at the folds as well.""",
        table(["", "points", "95 % interval", "won", "lost", "p"], compared),
        table(
            ["held out", "seed", *methods],
            [[fold["held_out"], fold["seed"], *(fold[m] for m in methods)] for fold in folds],
        ),
    )
