"""What people start: the command line, and later the REST API and its web pages."""

__all__: list[str] = []
