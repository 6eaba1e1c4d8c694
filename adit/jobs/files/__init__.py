"""Files: what jobs leave as files: 7-Zip files, lists beside images, and the room for them."""
