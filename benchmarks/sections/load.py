"""gtdnet serve under load: ``benchmarks/load.py``."""

from __future__ import annotations

from sections.markdown import Results, parts, table


def render(results: Results) -> str:
    rows = [
        [kind, ", ".join(f"{code}: {n}" for code, n in counts.items()), *took.values()]
        for (kind, counts), took in zip(
            results["answers"].items(), results["seconds"].values(), strict=True
        )
    ]
    before, after = results["memory_mib"].values()
    return parts(
        f"""{results["clients"]} clients for {results["minutes"]:g} minutes on loopback, beside the
        server on its cores, each doing one of these things after another: {results["requests"]} in
        all, {len(results["faults"])} faults (who waits gets no answer, or one without a sentence;
        memory grows; more lies on the disk than may; a file, a process or an error in the log is
        left at the end). 503 is the queue being full, 408 an upload that was too slow.""",
        table(["what clients do", "what came of it", "seconds, median", "99 %"], rows),
        f"""The server and its processes took at most {before} MiB of memory of their own (without
        the code of libraries) in the first third of the time and {after} MiB in the last; its files
        at most {results["disk_mb_most"]} MB of the {results["disk_mb_allowed"]} that its limits
        allow; {results["files_open_most"]} files were open at most,
        {results["processes_most"]} processes ran, and
        {results["decoders_replaced"]} decoders were replaced.""",
    )
