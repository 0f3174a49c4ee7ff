"""Face processing: one photo to many views for training, many photos or a turned one to a normal view.

A mean head of our own (`shape`) is fitted to the five landmarks (`pose`), the photo draped over it and turned
(`views`). Light, lens and file (`photometric`) change it further; `augment` draws from all of that for a batch of
training crops.
"""

from visavis.face.process.augment import augment
from visavis.face.process.photometric import blur, coarsen, compress, motion_blur, occlude, relight, tint
from visavis.face.process.pose import Pose, fit_pose, fit_poses
from visavis.face.process.views import View, frontalize, views

__all__ = [
    "Pose",
    "View",
    "augment",
    "blur",
    "coarsen",
    "compress",
    "fit_pose",
    "fit_poses",
    "frontalize",
    "motion_blur",
    "occlude",
    "relight",
    "tint",
    "views",
]
