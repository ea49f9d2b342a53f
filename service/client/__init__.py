"""The Python client of live streams: video comes in, events and a verdict of the service go out.

`connect` is for asyncio, `blocking.connect` for everybody else. Nothing of it loads a model.
"""

from service.client.live import Live, connect

__all__ = ["Live", "connect"]
