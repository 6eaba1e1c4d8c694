"""Find text in the pixels of images. Needs the packages of the extra "ocr"."""
