"""Leaving out the layers, heads and feed-forward units that matter least; what is left is smaller.

All layers keep the same number of heads and of units, the best of each: so one configuration says
the shape, and every matrix is dense.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from unmask.errors import UserError
from unmask.model import Model
from unmask.shrink.importance import Importance
from unmask.shrink.rebuilt import State, rebuilt


def keep_layers(model: Model, kept: Sequence[int]) -> Model:
    """The model with these of its layers, in their order; each sees as far as it did."""
    config = model.encoder.config
    if config.pre_norm and (not kept or kept[0] != 0):
        raise UserError("the first layer of this encoder has no norm of its own and must stay")
    state: State = {}
    for name, value in model.encoder.state_dict().items():
        match = re.match(r"layers\.(\d+)\.(.*)", name)
        if match is None:
            state[name] = value
        elif int(match[1]) in kept:
            state[f"layers.{kept.index(int(match[1]))}.{match[2]}"] = value
    changes: dict[str, object] = {"num_layers": len(kept)}
    if config.window is not None:
        windows = [config.layer_window(number) for number in kept]
        every_nth = [
            None if i % config.global_every == 0 else config.window for i in range(len(kept))
        ]
        whole = tuple(i for i, window in enumerate(windows) if window is None)
        changes["global_layers"] = None if windows == every_nth else whole
    return rebuilt(model, config.model_copy(update=changes), state)


def drop_layers(model: Model, found: Importance, left: int) -> Model:
    """The model with its most important layers; a first one that others lean on stays."""
    rank = found.layers.clone()
    if model.encoder.config.pre_norm:
        rank[0] = torch.inf
    return keep_layers(model, sorted(rank.topk(left).indices.tolist()))


def drop_heads(model: Model, found: Importance, left: int) -> Model:
    """The model with the most important heads of each layer."""
    config = model.encoder.config
    H, W = config.num_heads, config.head_width
    state = dict(model.encoder.state_dict())
    for i, best in enumerate(_best(found.heads, left)):
        columns = torch.arange(H * W).view(H, W)[best].flatten()  # (left * W,)
        rows = torch.cat([part * H * W + columns for part in range(3)])  # queries, keys, values
        _keep(state, f"layers.{i}.attention.qkv", rows, of_output=True)
        _keep(state, f"layers.{i}.attention.output", columns, of_output=False)
    same = left * W == config.hidden_size
    changes = {"num_heads": left, "head_size": None if same else W}
    return rebuilt(model, config.model_copy(update=changes), state)


def drop_units(model: Model, found: Importance, left: int) -> Model:
    """The model with the most important units of each feed-forward block."""
    config = model.encoder.config
    state = dict(model.encoder.state_dict())
    for i, best in enumerate(_best(found.units, left)):
        rows = torch.cat((best, best + config.intermediate_size)) if config.gated else best
        _keep(state, f"layers.{i}.feed_forward.inner", rows, of_output=True)
        _keep(state, f"layers.{i}.feed_forward.outer", best, of_output=False)
    return rebuilt(model, config.model_copy(update={"intermediate_size": left}), state)


def _best(found: Tensor, left: int) -> list[Tensor]:
    """For each layer the numbers of what matters most, (left,), in their order."""
    return [own.topk(left).indices.sort().values for own in found]


def _keep(state: State, name: str, which: Tensor, of_output: bool) -> None:
    """Of a matrix (out, in), and of adapters that change it, keep these outputs or these inputs."""
    for key in [key for key in state if key.startswith(f"{name}.")]:
        rest = key.removeprefix(f"{name}.")
        own = which.to(state[key].device)
        if rest in ("weight", "bias"):
            rows = of_output
            columns = not of_output and rest == "weight"
        else:  # of an adapter: `up` gives its outputs, `down` takes its inputs
            rows, columns = of_output and ".up." in rest, not of_output and ".down." in rest
        if rows:
            state[key] = state[key][own]
        elif columns:
            state[key] = state[key][:, own]
