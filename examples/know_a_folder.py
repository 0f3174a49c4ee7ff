"""Index a folder, name one person from one photo, and ask who is in another."""

# needs-models: default

from visavis.app.demo import sample_photos
from visavis.face import FaceSystem

photos = sample_photos()  # any folder of yours
with FaceSystem.open("family.visavis") as faces:
    report = faces.index(photos)
    print(f"{report.added} photos, {report.faces} faces")

    faces.enroll("Barack Obama", [photos / "obama.jpg"])
    for one in faces.identify(photos / "obama2.jpg"):
        print(one.person or "unknown", one.probability, one.false_match_rate)

    answer = faces.verify(photos / "obama.jpg", photos / "biden.jpg")
    print("the same person" if answer.same else "not the same person")
