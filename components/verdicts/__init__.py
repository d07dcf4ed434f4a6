"""Verdicts: judgements about a model, a training run or new data, and the alerts they send."""
