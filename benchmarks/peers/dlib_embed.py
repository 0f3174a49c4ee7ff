"""Run by a Python that has dlib: embeds given faces by dlib's own alignment and network.

Standard input: JSON, a list of [path, box]; argument: the .npy file to write, [N, 128].
"""

import json
import sys

import dlib
import face_recognition_models
import numpy as np
from PIL import Image

predictor = dlib.shape_predictor(face_recognition_models.pose_predictor_five_point_model_location())
network = dlib.face_recognition_model_v1(face_recognition_models.face_recognition_model_location())
rows = []
for path, box in json.load(sys.stdin):
    image = np.asarray(Image.open(path).convert("RGB"))
    left, top, right, bottom = box
    # dlib's detector frames a square from the brows to the chin: shrink our box, which holds the forehead too.
    side = (right - left + bottom - top) / 2 * 0.9
    x, y = (left + right) / 2, bottom - side / 2
    frame = [round(value) for value in (x - side / 2, y - side / 2, x + side / 2, y + side / 2)]
    shape = predictor(image, dlib.rectangle(*frame))
    rows.append(np.array(network.compute_face_descriptor(image, shape)))
np.save(sys.argv[1], np.array(rows))
