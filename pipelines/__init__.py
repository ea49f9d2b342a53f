"""The walk: bytes become frames, faces, scores and a verdict; time lives here. `service` takes what comes out; start at `analysis.py`."""
