"""Hide what must not be stored: geometry, pixels, and the masks that put both to use."""

from edge_agent.privacy.masks import Masks, build_masks

__all__ = ["Masks", "build_masks"]
