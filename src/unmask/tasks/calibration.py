"""Probabilities that agree with how often an answer is right (Guo et al., arXiv:1706.04599)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor


def calibrated(logits: Tensor, calibration: Mapping[str, Any]) -> Tensor:
    """Logits (n, C) as `fit_temperature` or `fit_vector` found them better: (n, C)."""
    if "scale" in calibration:
        scale, shift = (logits.new_tensor(calibration[key]) for key in ("scale", "shift"))
        return logits * scale + shift
    return logits / calibration.get("temperature", 1.0)


def fit_temperature(logits: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """One number to divide logits (n, C) by, so that the truth (n,) is likeliest.

    It changes no answer, only how sure it is. A prior worth one row keeps it near 1 where there
    are few rows, and finite where all of them are right.
    """
    from scipy.optimize import minimize_scalar

    def cost(log_t: float) -> float:
        return _surprise(logits / np.exp(log_t), truth) + log_t**2 / 2

    found = minimize_scalar(cost, bounds=(-4.0, 4.0), method="bounded")
    return {"temperature": float(np.exp(found.x)), "rows": len(truth)}


def fit_vector(logits: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """A scale and a shift for each class of logits (n, C), which may change answers.

    It starts from the one temperature, with a prior worth one row a class around it.
    """
    from scipy.optimize import minimize

    classes = logits.shape[1]
    start = 1 / fit_temperature(logits, truth)["temperature"]
    hot = np.eye(classes)[truth]  # (n, C)

    def cost(x: np.ndarray) -> tuple[float, np.ndarray]:
        scale, shift = x[:classes], x[classes:]
        z = logits * scale + shift
        error = np.exp(_log_softmax(z)) - hot  # (n, C): the gradient at the scaled logits
        gradient = np.concatenate(((error * logits).sum(0), error.sum(0)))
        away = np.concatenate((scale / start - 1, shift))
        inner = np.concatenate((away[:classes] / start, away[classes:]))
        return _surprise(z, truth) + float(away @ away) / 2, gradient + inner

    first = np.concatenate((np.full(classes, start), np.zeros(classes)))
    x = minimize(cost, first, jac=True, method="L-BFGS-B").x
    return {"scale": x[:classes].tolist(), "shift": x[classes:].tolist(), "rows": len(truth)}


def _surprise(logits: np.ndarray, truth: np.ndarray) -> float:
    """Minus the log-likelihood of the truth, summed over rows."""
    return float(-_log_softmax(logits)[np.arange(len(truth)), truth].sum())


def _log_softmax(z: np.ndarray) -> np.ndarray:
    top = z - z.max(1, keepdims=True)
    return np.asarray(top - np.log(np.exp(top).sum(1, keepdims=True)))
