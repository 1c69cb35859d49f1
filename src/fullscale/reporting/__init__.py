"""Pages and pictures of what was found (the only home of matplotlib and jinja2 for results)."""
