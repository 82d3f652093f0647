"""Models behind any OpenAI-compatible endpoint (extra `ai`): `pip install "handrail-sdk[ai]"`.

Two settings are enough: `HANDRAIL_AI__BASE_URL` and `HANDRAIL_AI__MODEL`; `HANDRAIL_AI__API_KEY` where the endpoint wants one.
Nothing of it is imported before it is used.
"""

from __future__ import annotations

from handrail_sdk.ai.endpoint import Endpoint, endpoint_from
from handrail_sdk.ai.model import EndpointModel
from handrail_sdk.ai.scorer import ModelScorer

__all__ = ["Endpoint", "EndpointModel", "ModelScorer", "endpoint_from"]
