"""The only place that touches a model's attention: layers, policies, masks, and the anchor bank."""

from __future__ import annotations
