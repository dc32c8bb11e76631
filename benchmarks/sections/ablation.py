"""Variants trained with several seeds: what ``gtdnet ablate`` writes."""

from __future__ import annotations

from sections.markdown import Results, listed, parts


def render(results: Results) -> str:
    from gtdnet.ablate.summary import table as table_of_variants

    data = results["data"]
    return parts(
        f"""Top-1 on {data["validation_clips"]} validation clips of {data["classes"]} classes after
        the last of {results["epochs"]} epochs of {data["training_clips"]} clips: mean ± sample
        standard deviation over the seeds {listed(results["grid"]["seeds"])}. Differences are taken
        seed by seed, then averaged. "best epoch" is chosen on the same clips and therefore too
        high.""",
        table_of_variants(results),
        *(
            f"Failed: {run['variant']}, seed {run['seed']}: {run['reason']}"
            for run in results["runs"]
            if run["status"] == "failed"
        ),
    )
