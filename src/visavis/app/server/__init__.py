"""``visavis serve``: the face system over HTTP; `app.make_app` puts it together."""

__all__: list[str] = []
