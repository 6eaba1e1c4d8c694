"""Management commands of research projects."""
