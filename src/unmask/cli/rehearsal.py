"""Printing a rehearsal for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unmask.cli.output import shorten


def print_rehearsal(found: Mapping[str, Any]) -> None:
    """Each task's examples as the model sees them, what is cut, and the cost."""
    for name, task in found["tasks"].items():
        tokens, cut = task["tokens"], task["cut"]
        print(f"task {name} ({task['kind']}): {task['rows']} rows, {tokens['mean']:.1f} tokens a")
        print(
            f"  sequence (longest {tokens['longest']}); cut: {cut['rows']:.1%} of rows, "
            f"{cut['tokens']:.1%} of tokens, in a sample of {task['sampled']}"
        )
        for example in task["examples"]:
            print(f"  {shorten(' '.join(example['tokens']), 110)}")
            print(
                f"    {example['wanted']} positions wanted; truth: {shorten(example['truth'], 70)}"
            )
    cost = found["cost"]
    print(
        f"cost: about {cost['minutes']:.1f} minutes for {cost['updates']} updates in "
        f"{cost['precision']} ({cost['tokens_per_second']:,.0f} tokens/s), "
        f"{cost['peak_memory_mb']:,.0f} MB at its peak\n({cost['note']})"
    )
