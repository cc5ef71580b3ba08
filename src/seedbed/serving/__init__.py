"""A run as a service: the API that clients speak already, and the page. `app.create_app` makes it."""
