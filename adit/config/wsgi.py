"""The door through which the web server speaks to the pages."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "adit.config.settings")
application = get_wsgi_application()
