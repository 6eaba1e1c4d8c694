"""The child process of the text detector: reads frames from a socket and answers with regions.

Started by `detector` as `python -m …worker FD`. One thread; its memory is limited by the parent's
argument. It writes nothing but its answers, and ends when the parent closes the socket.
"""

import json
import os
import resource
import socket
import sys
from dataclasses import astuple

MAX_MEMORY_BYTES = 3 << 30
"""Limit of the address space; about 400 MB are resident."""


def main(descriptor: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    import cv2
    import numpy as np

    from adit_engine.pseudonymize.text_detection.barcodes import find_codes
    from adit_engine.pseudonymize.text_detection.contrast import enhance_contrast
    from adit_engine.pseudonymize.text_detection.regions import TextRegion
    from adit_engine.pseudonymize.text_detection.text_reader import TextReader

    cv2.setNumThreads(1)
    reader = TextReader()
    with socket.socket(fileno=descriptor) as peer, peer.makefile("rb") as stream:
        while line := stream.readline():
            told = json.loads(line)
            values = np.frombuffer(stream.read(told["size"]), told["type"]).reshape(told["shape"])
            frame = enhance_contrast(values)
            regions = reader.read(frame, is_thorough=told["thorough"])
            regions += [
                TextRegion(box, 1, "", 0, is_line=True, is_code=True)
                for box in find_codes(frame, is_thorough=told["thorough"])
            ]
            peer.sendall(json.dumps([astuple(one) for one in regions]).encode() + b"\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
