"""The checks of a run: each failure is a line of text."""

from __future__ import annotations

import statistics
from typing import Any

MIB = 1024 * 1024
#: Allowed growth of resident memory between two times with the same load, as a share and in bytes: the allocators of
#: Python and of the C library cannot return all free memory.
SHARE, MARGIN = 0.1, 8 * MIB
#: Open descriptors of connections that are being opened or closed during a sample.
ON_THE_WAY = 64


def memory_limit(before: float) -> float:
    return before * (1 + SHARE) + MARGIN


def quarters(samples: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the medians of the first and the last quarter of the time under load after the warm-up.

    "memory apart from load" is corrected for the bytes in transit, by a linear regression over all samples: while other
    programs use the processor, more bytes are in transit.
    """
    loaded = [sample for sample in samples if sample["phase"] == "load"]
    if len(loaded) < 8:
        return {}
    on_the_way, memory = ([sample[name] for sample in loaded] for name in ("on_the_way", "memory"))
    slope = statistics.linear_regression(on_the_way, memory).slope
    usual = statistics.median(on_the_way)
    size = len(loaded) // 4
    found = {}
    for which, part in (("first", loaded[:size]), ("last", loaded[-size:])):
        names = ("connections", "descriptors", "memory", "on_the_way", "beside")
        found[which] = {name: statistics.median(sample[name] for sample in part) for name in names}
        found[which]["memory apart from load"] = statistics.median(
            sample["memory"] - slope * (sample["on_the_way"] - usual) for sample in part
        )
    return found


def judge(document: dict[str, Any]) -> list[str]:
    """Return the failures of a run, without those of its clients and of the exit of its server."""
    wrong = []
    totals, counts, rest = document["totals"], document["server"], document["rest"]
    lost = totals["sent"] - totals["received"]
    if lost != totals["lost"]:
        wrong.append(f"{lost} bytes have not come back, and {totals['lost']} of them were lost in resets")
    if counts:
        if counts["served"] != totals["connected"]:
            wrong.append(f"{totals['connected']} have connected, and the server has served {counts['served']}")
        if counts["connected"] or counts["idle"]:
            wrong.append(f"{counts['connected']} still connected, {counts['idle']} dropped as idle")
        if counts["broken"] > totals["resets"]:
            wrong.append(f"{counts['broken']} connections broke off, and only {totals['resets']} were reset")
        if not totals["received"] <= counts["echoed"] <= totals["sent"]:
            wrong.append(f"{counts['echoed']} bytes echoed, {totals['sent']} sent and {totals['received']} received")
    for when in ("after warm-up", "at the end"):
        if when in rest and rest[when]["descriptors"] != rest["at the start"]["descriptors"]:
            wrong.append(f"at rest {when} {rest[when]['descriptors']} descriptors are open, "
                         f"and {rest['at the start']['descriptors']} were in the beginning")  # fmt: skip
    pairs = []
    if {"after warm-up", "at the end"} <= rest.keys():
        pairs.append(("at rest", rest["after warm-up"]["memory"], rest["at the end"]["memory"]))
    if document["quarters"]:
        first, last = document["quarters"]["first"], document["quarters"]["last"]
        pairs.append(("under load", first["memory apart from load"], last["memory apart from load"]))
        if last["beside"] > first["beside"] + ON_THE_WAY:
            wrong.append(
                f"besides connections {first['beside']:g} descriptors were open first, {last['beside']:g} last"
            )
    for when, before, after in pairs:
        if after > memory_limit(before):
            wrong.append(f"memory {when} has grown from {before / MIB:.1f} to {after / MIB:.1f} MiB")
    return wrong
