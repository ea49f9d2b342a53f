"""temporary"""
from __future__ import annotations
from pathlib import Path
from fractions import Fraction
import av, numpy as np, cv2
from skimage import data
def _frames(n):
    base=cv2.resize(data.astronaut()[0:300,80:380],(240,240))
    for i in range(n):
        bg=np.full((240,320,3),60,np.uint8); dx=int(30+20*np.sin(i/9)); bg[:,dx:dx+240]=base; yield bg
def _write(path,frames,fps):
    o=av.open(str(path),"w"); s=o.add_stream("libx264",rate=fps); s.width=320; s.height=240; s.pix_fmt="yuv420p"
    for f in frames:
        for p in s.encode(av.VideoFrame.from_ndarray(f,"rgb24")): o.mux(p)
    for p in s.encode(): o.mux(p)
    o.close(); return path
def short_clip(path): return _write(path,_frames(48),24)
def long_clip(path): return _write(path,list(_frames(60))*40,4)
