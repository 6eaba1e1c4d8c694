"""The door through which the web server speaks to the pages."""

import gc
import os

from django.core.wsgi import get_wsgi_application

GC_THRESHOLD = 20_000
"""New objects after which the memory is looked through for garbage: a long list is some hundred
thousand of them, of which none is any, and looking took half of the time of its pages."""

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "adit.config.settings")
application = get_wsgi_application()
gc.freeze()
gc.set_threshold(GC_THRESHOLD, 10, 10)
