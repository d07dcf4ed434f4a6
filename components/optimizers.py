"""Optimisers of torch, in their fast forms, with the arguments that people tune.

`parameters` is what `torch.optim` takes: tensors, or groups such as `{"params": [...], "lr": 0.01}`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import optim

from .recipes.ranges import Fraction, NonNegative, Positive

Parameters = Iterable[Any]


def sgd(
    parameters: Parameters,
    *,
    lr: Positive = 0.1,
    momentum: Fraction = 0.0,
    weight_decay: NonNegative = 0.0,
    nesterov: bool = False,
) -> optim.Optimizer:
    """Return stochastic gradient descent, with momentum if it is above 0 (notes: gradient descent, momentum)."""
    return optim.SGD(parameters, lr, momentum, weight_decay=weight_decay, nesterov=nesterov, foreach=True)


def adagrad(parameters: Parameters, *, lr: Positive = 0.01, weight_decay: NonNegative = 0.0) -> optim.Optimizer:
    """Return AdaGrad (Duchi, Hazan & Singer 2011)."""
    return optim.Adagrad(parameters, lr, weight_decay=weight_decay, foreach=True)


def rmsprop(
    parameters: Parameters, *, lr: Positive = 0.001, alpha: Fraction = 0.9, weight_decay: NonNegative = 0.0
) -> optim.Optimizer:
    """Return RMSProp; alpha: the decay of the average of squared gradients (Tieleman & Hinton 2012)."""
    return optim.RMSprop(parameters, lr, alpha, weight_decay=weight_decay, foreach=True)


def adam(
    parameters: Parameters, *, lr: Positive = 0.001, beta1: Fraction = 0.9, beta2: Fraction = 0.999
) -> optim.Optimizer:
    """Return Adam (Kingma & Ba 2015)."""
    return optim.Adam(parameters, lr, (beta1, beta2), fused=True)


def adamw(
    parameters: Parameters,
    *,
    lr: Positive = 0.001,
    beta1: Fraction = 0.9,
    beta2: Fraction = 0.999,
    weight_decay: NonNegative = 0.01,
) -> optim.Optimizer:
    """Return Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""
    return optim.AdamW(parameters, lr, (beta1, beta2), weight_decay=weight_decay, fused=True)
