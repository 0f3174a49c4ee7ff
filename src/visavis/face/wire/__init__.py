"""What the face service answers, at both ends of the wire: plain records, without any library of the web.

The server describes them in its OpenAPI, where the texts below the fields and the examples stand, too. Boxes are (left,
top, right, bottom) in pixels of the upright photo. A comparison is told as a probability and a false-match rate, never
as a cosine, which means something else for every model.
"""

from visavis.face.wire.answers import CalibrationCurve, CurvePoint, Found, Hit, Live, Seen, Verified
from visavis.face.wire.base import record
from visavis.face.wire.changes import Clustered, Enrolled, Forgotten, Imported, Undone
from visavis.face.wire.gallery import About, Face, Likely, Month, People, Person, Photo, PhotoPage, ReviewPage, Unknown
from visavis.face.wire.jobs import Job, JobState, Skipped, told
from visavis.face.wire.server import (
    Happening,
    Known,
    Model,
    Models,
    Server,
    SkippedPage,
    Source,
    Stream,
    Streams,
    StreamState,
    TokenInfo,
    Uploaded,
    UploadedPhoto,
    Visit,
)

__all__ = [
    "About",
    "CalibrationCurve",
    "Clustered",
    "CurvePoint",
    "Enrolled",
    "Face",
    "Forgotten",
    "Found",
    "Happening",
    "Hit",
    "Imported",
    "Job",
    "JobState",
    "Known",
    "Likely",
    "Live",
    "Model",
    "Models",
    "Month",
    "People",
    "Person",
    "Photo",
    "PhotoPage",
    "ReviewPage",
    "Seen",
    "Server",
    "Skipped",
    "SkippedPage",
    "Source",
    "Stream",
    "StreamState",
    "Streams",
    "TokenInfo",
    "Undone",
    "Unknown",
    "Uploaded",
    "UploadedPhoto",
    "Verified",
    "Visit",
    "record",
    "told",
]
