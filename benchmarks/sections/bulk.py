"""gtdnet bulk, killed and measured: ``benchmarks/bulk.py``."""

from __future__ import annotations

from sections.markdown import Results, parts, table


def render(results: Results) -> str:
    killed = [
        [engine, found["clips"], victim, number, "; ".join(found["faults"]) or "none"]
        for engine, found in results.get("kills", {}).items()
        for victim, number in found["kills"].items()
    ]
    told = [
        """SIGKILL at random to the command, to its processes and, on Ray, to an actor or to the
        node's raylet; then the same command again, where it had ended. Blocks may be tried nine
        times, so that no kill makes a clip a row. At the end every id must be there once, and the
        files of answers must be those of an undisturbed run, byte by byte: else it is a fault.""",
        table(["runner", "clips", "killed", "times", "faults"], killed),
    ]
    if cost := results.get("cost"):
        ratio = cost["times_as_fast_as_a_plain_loop"]
        told.append(
            f"""A block beside a plain loop over `Recognizer.predict`, by turns in one process:
            {ratio["median"]} times as many clips per CPU second (median of {cost["rounds"]}
            rounds, {ratio["lowest"]} to {ratio["highest"]}); {cost["cpu_ms_a_clip"]} ms a clip with
            this tiny model."""
        )
    if plan := results.get("plan"):
        told.append(
            f"""A table of {plan["rows"]} rows ({plan["table_mib"]} MiB): its ids are seen to be
            unique in {plan["cpu_s_ids"]} CPU seconds, its blocks are made in
            {plan["cpu_s_blocks"]}; memory grows by {plan["memory_mib"]} MiB."""
        )
    if memory := results.get("memory"):
        quarters = memory["mib_by_quarter"]
        told += [
            f"""Memory while {memory["clips"]} clips go through one process: the most in each
            quarter of the run, MiB.""",
            table(
                ["", "first", "second", "third", "last"],
                [[name, *values] for name, values in quarters.items()],
            ),
        ]
    return parts(*told)
