"""Damaged files: ``benchmarks/fuzz.py``."""

from __future__ import annotations

from sections.markdown import Results, parts, table


def render(results: Results) -> str:
    kinds = results["kinds"]
    silent = {
        kind: told["silent_damage"] for kind, told in kinds.items() if "silent_damage" in told
    }
    verdicts = [
        (kind, cases if i == 0 else "", verdict, count)
        for kind, cases, found in ((k, t["cases"], t["verdicts"]) for k, t in kinds.items())
        for i, (verdict, count) in enumerate(found.items())
    ]
    causes = [(k, *pair) for k, told in silent.items() for pair in told["by_cause"].items()]
    codecs = "; ".join(f"{codec} {share}" for codec, share in silent["videos"]["by_codec"].items())
    compared = "; ".join(
        f"{count} {what}"
        for what, count in kinds["videos"]["against_an_independent_decode"].items()
    )
    return parts(
        f"""{results["cases"]} damaged files of all kinds, each read by what the commands call, in
        processes with limits of time and memory: {len(results["faults"])} faults (crashes, hangs,
        exceptions other than a refusal, frames that an independent decode does not give). A file
        is whole, refused (wholly or in single frames, by name and reason), or silently other than
        it was: that is "other frames".""",
        table(["kind", "cases", "what became of them", "cases"], verdicts),
        f"Videos against an independent decode: {compared}.",
        """Silent damage, by what it did to the packets that the decoder was given. Why a decoder
        takes changed bytes is not told apart here: some codecs have no checksums, and some of it
        could be noticed. Pictures "shown otherwise" are not compared value by value.""",
        table(["kind", "frames: what the decoder was given", "cases"], causes),
        f"Silent damage of all cases, by codec: {codecs}.",
    )
