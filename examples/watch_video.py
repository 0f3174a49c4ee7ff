"""Make a film of two sample photos, and tell who comes, who that is and who goes."""

# needs-models: default

import av
import numpy as np
from PIL import Image, ImageOps

from visavis.app.demo import sample_photos
from visavis.face import FaceSystem
from visavis.face.stream.watching import watch

photos = sample_photos()
left, right = (
    np.asarray(ImageOps.fit(Image.open(photos / name).convert("RGB"), (280, 360), centering=(0.5, 0)))
    for name in ("obama2.jpg", "biden.jpg")
)
with av.open("film.mp4", "w") as film:  # any video of yours, a camera ("camera:0") or an RTSP address does as well
    stream = film.add_stream("libx264", rate=25)
    stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
    for number in range(100):
        picture = np.full((360, 640, 3), 60, np.uint8)
        picture[:, 20:300] = left
        if number > 25:
            picture[:, 340:620] = right
        film.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
    film.mux(stream.encode())

with FaceSystem.open("family.visavis") as faces:
    faces.enroll("Barack Obama", [photos / "obama.jpg"])
    for event in watch(faces, "film.mp4", fps=10):
        who = event.verdict.person or f"unknown {event.track}"
        print(f"{event.time_s:5.1f} s  {event.kind:10}  {who}, there since {event.from_s:.1f} s")
