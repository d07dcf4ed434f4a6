"""Transforms that change pictures, batched on the device during training or once as derived copies."""
