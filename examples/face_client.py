"""Ask a gallery that another process serves: who is in a photo, and who there is."""

# needs-models: default

import json
import subprocess
import sys

from visavis.app.demo import sample_photos
from visavis.face import FaceClient, FaceSystem

photos = sample_photos()
with FaceSystem.open("family.visavis") as faces:
    faces.enroll("Barack Obama", [photos / "obama.jpg"])

command = [sys.executable, "-m", "visavis", "serve", "family.visavis", "--port", "0", "--json"]
with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
    try:
        with FaceClient(json.loads(server.stdout.readline())["url"]) as client:
            for one in client.identify(photos / "obama2.jpg"):
                print(one.name or "unknown", one.probability, one.false_match_rate)
            for person in client.people():
                print(person.id, person.name, person.faces, "faces")
    finally:
        server.terminate()
